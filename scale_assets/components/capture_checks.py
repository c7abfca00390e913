"""What can be asked of a run of a capture, and what is checked of each of its tables."""

from collections.abc import Iterator

import dagster as dg
from pydantic import Field

from scale_assets.components.feed_assets import CHANGES_ACCOUNTED, WITHIN_LIMIT
from scale_assets.components.quarantine_view import REPLAY

SLOT_KEEPS_UP = "slot_keeps_up"


class CaptureRun(dg.Config):
    """What one run of a capture is asked beyond reading on."""

    resync: list[str] = Field(
        default_factory=list,
        description="Tables of the database whose snapshot is taken anew and reconciled with what "
        "the lake holds: the way out of a lost slot. ['*'] means all.",
    )
    follow: bool = Field(
        default=False, description="Read on until the process is told to end, instead of up to now."
    )
    replay_quarantine: bool = Field(default=False, description=REPLAY)


def checks_of(key: dg.AssetKey, max_quarantined_fraction: float) -> Iterator[dg.AssetCheckSpec]:
    """The checks on one table of changes."""
    yield dg.AssetCheckSpec(
        CHANGES_ACCOUNTED,
        asset=key,
        blocking=True,
        description="received = accepted + quarantined + duplicates + ignored.",
    )
    yield dg.AssetCheckSpec(
        WITHIN_LIMIT,
        asset=key,
        description=f"At most {max_quarantined_fraction:.2%} of all received.",
    )
    yield dg.AssetCheckSpec(
        SLOT_KEEPS_UP,
        asset=key,
        description="The slot held back at most half of max_slot_wal_keep_size when the run began; "
        "beyond the whole, the server gives it up.",
    )
