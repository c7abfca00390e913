"""What the feeds set aside, for the person at the terminal: quarantined lines, held-back dates."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import dagster as dg

GUIDE = "docs/guides/quarantine.md"
MAX_REASONS = 3
MAX_DATES = 5


def set_aside(instance: dg.DagsterInstance, feeds: Iterable[dg.AssetKey]) -> Iterator[str]:
    """Lines about what waits for a person, as the feeds' last materializations tell it."""
    found = [line for key in sorted(feeds) for line in _of(key, _metadata(instance, key))]
    if found:
        yield from found
        yield f"how to look at it and release it: {GUIDE}"


def _metadata(
    instance: dg.DagsterInstance, key: dg.AssetKey
) -> Mapping[str, dg.MetadataValue[Any]]:
    event = instance.get_latest_materialization_event(key)
    made = event.asset_materialization if event else None
    return made.metadata if made else {}


def _of(key: dg.AssetKey, said: Mapping[str, dg.MetadataValue[Any]]) -> Iterator[str]:
    feed = key.path[-1].removesuffix("_changes")
    if (found := said.get("in_quarantine")) and found.value:
        noun = "line" if found.value == 1 else "lines"
        reasons = _listed(list(_reasons(said)), MAX_REASONS)
        yield f"{feed}: {found.value:,} {noun} in raw/{feed}_quarantine ({reasons})"
    if (dates := said.get("held_back")) and dates.value:
        yield (
            f"{feed}: held back, as more of their lines are refused than max_quarantined_fraction "
            f"allows: {_listed(dates.value, MAX_DATES)}"
        )


def _reasons(said: Mapping[str, dg.MetadataValue[Any]]) -> Iterator[str]:
    reasons = said.get("quarantine_reasons")
    assert isinstance(reasons, dg.TableMetadataValue)
    for record in reasons.records:
        reason = record.data
        yield f"{reason['lines']:,} {reason['rule']} {reason['field']}".strip()


def _listed(texts: list[str], most: int) -> str:
    more = [f"and {len(texts) - most:,} more"] if len(texts) > most else []
    return ", ".join([*texts[:most], *more])
