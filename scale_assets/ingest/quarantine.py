"""What lies in a quarantine, fit to be shown: counts by rule and field, and masked samples."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from scale_assets.contracts import Contract
from scale_assets.lake.snapshots import snapshot_dataset

MAX_REASONS = 20
SAMPLES_PER_REASON = 2
MAX_SHOWN_CHARS = 400
MAX_VALUE_CHARS = 40
JSON_NAMES = {str: "string", bool: "boolean", int: "integer", float: "number", list: "array"}
# Debezium's own members say what happened, not to whom.
ENVELOPE = {"op", "ts_ms", "lsn", "txId"}


@dataclass(frozen=True, kw_only=True)
class Reason:
    """How many lines broke one rule in one field, under which contracts."""

    rule: str
    field: str | None
    num_lines: int
    contract_versions: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One refused line as it may be shown."""

    rule: str
    field: str | None
    place: str
    position: int
    masked: str


@dataclass(frozen=True, kw_only=True)
class Summary:
    """A quarantine at one version; reasons by how often they occur."""

    num_lines: int
    reasons: tuple[Reason, ...]
    samples: tuple[Sample, ...]


def summarize(contract: Contract, quarantine: DeltaTable) -> Summary:
    """Count every line; sample the most frequent reasons."""
    columns = ["rule", "field", "contract_version"]
    lines = snapshot_dataset(quarantine).to_table(columns=columns)
    reasons = tuple(_reasons(lines))
    samples = tuple(
        sample
        for reason in reasons[:MAX_REASONS]
        for sample in _samples(contract, quarantine, reason)
    )
    return Summary(num_lines=lines.num_rows, reasons=reasons, samples=samples)


def _reasons(lines: pa.Table) -> Iterator[Reason]:
    grouped = lines.group_by(["rule", "field"]).aggregate(
        [([], "count_all"), ("contract_version", "distinct")]
    )
    order = [("count_all", "descending"), ("rule", "ascending"), ("field", "ascending")]
    for row in grouped.sort_by(order).to_pylist():
        yield Reason(
            rule=row["rule"],
            field=row["field"],
            num_lines=row["count_all"],
            contract_versions=tuple(sorted(map(str, row["contract_version_distinct"]))),
        )


def reasons_by_date(quarantine: DeltaTable) -> dict[str, dict[str, int]]:
    """Lines per "rule field" of each event date that has any."""
    lines = snapshot_dataset(quarantine).to_table(columns=["event_date", "rule", "field"])
    found: dict[str, dict[str, int]] = {}
    grouped = lines.group_by(["event_date", "rule", "field"]).aggregate([([], "count_all")])
    for row in grouped.sort_by([("count_all", "descending")]).to_pylist():
        reason = " ".join(filter(None, (row["rule"], row["field"])))
        found.setdefault(str(row["event_date"]), {})[reason] = row["count_all"]
    return found


def _samples(contract: Contract, quarantine: DeltaTable, reason: Reason) -> Iterator[Sample]:
    field = pc.field("field")
    same_field = field.is_null() if reason.field is None else field == reason.field
    found = snapshot_dataset(quarantine).head(
        SAMPLES_PER_REASON,
        columns=["raw", "_source_file", "_position"],
        filter=(pc.field("rule") == reason.rule) & same_field,
    )
    for row in found.to_pylist():
        yield Sample(
            rule=reason.rule,
            field=reason.field,
            place=row["_source_file"],
            position=row["_position"],
            masked=masked(contract, row["raw"]),
        )


def masked(contract: Contract, raw: bytes) -> str:
    """A line with only those values that the contract knows and does not call personal.

    Everything else is its type in angle brackets. Of a line that cannot be read nothing is shown
    but its length, for nobody can tell what is in it.
    """
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError):
        return f"<{len(raw)} bytes that are not JSON>"
    personal = contract.pii_fields()
    shown = {name for name in contract.names if name not in personal} | ENVELOPE
    try:
        text = json.dumps(_masked(document, None, shown), ensure_ascii=False)
    except RecursionError:
        return f"<{len(raw)} bytes, nested too deeply>"
    text = text.encode(errors="replace").decode()  # half surrogates cannot be stored
    return text if len(text) <= MAX_SHOWN_CHARS else text[: MAX_SHOWN_CHARS - 3] + "..."


def _masked(value: Any, name: str | None, shown: set[str]) -> Any:
    if isinstance(value, dict):
        return {key[:MAX_VALUE_CHARS]: _masked(each, key, shown) for key, each in value.items()}
    if value is None:
        return None
    if name not in shown or isinstance(value, list):
        return f"<{JSON_NAMES[type(value)]}>"
    return value[:MAX_VALUE_CHARS] if isinstance(value, str) else value
