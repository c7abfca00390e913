"""The members of a change event: what is read of them, and one event read strictly.

What Debezium sends besides changes is recognised and passed over: heartbeats, the marks of
transactions, changes of the schema, and messages that an application wrote into the log.
"""

from collections.abc import Mapping
from typing import Any

from scale_assets.contracts.encodings import check_schema
from scale_assets.contracts.faults import LineFault, Rule, shown
from scale_assets.contracts.kinds import Kind
from scale_assets.contracts.model import Contract
from scale_assets.contracts.records import strict_record
from scale_assets.contracts.strict_json import Members, read_object, read_scalar

AFTER, BEFORE = "after.", "before."  # prefixes of the row's columns in the flat wire table
READ = ("before", "after", "source", "op", "ts_ms", "transaction")  # the rest is Debezium's own
# Member to its column in the flat wire table, and the kind of its value.
SOURCE = {
    "ts_ms": ("event_ms", "integer"),
    "lsn": ("lsn", "integer"),
    "txId": ("tx_id", "integer"),
    "file": ("file", "string"),
    "pos": ("pos", "integer"),
    "row": ("row", "integer"),
    "change_lsn": ("change_lsn", "string"),
    "commit_lsn": ("commit_lsn", "string"),
    "event_serial_no": ("event_serial_no", "integer"),
    "scn": ("scn", "string"),
}
TRANSACTION = {
    "id": ("transaction.id", "string"),
    "total_order": ("transaction.total_order", "integer"),
    "data_collection_order": ("transaction.data_collection_order", "integer"),
}
MESSAGE = "m"
CLOCKS = {"ts_ms", "ts_us", "ts_ns"}
TRANSACTION_MARKS = ("BEGIN", "END")


def strict_envelope(
    line: bytes, kinds: Mapping[str, Kind], contract: Contract
) -> dict[str, Any] | None:
    """One event as a flat wire row, or None where it is no change; raises LineFault."""
    given = read_object(line)
    members: list[tuple[str, Any]] | None = given
    if {name for name, _ in given} == {"schema", "payload"}:
        check_schema(dict(given)["schema"], contract)
        members = _object("payload", dict(given)["payload"])
    if members is None or _is_no_change(members):
        return None
    envelope: dict[str, Any] = {}
    for name, value in members:
        if name in envelope:
            raise LineFault(Rule.DUPLICATE_KEY, f"{name} is given more than once", name)
        if name in READ:
            envelope[name] = value
    before = _row("before", envelope.get("before"), kinds, contract)
    after = _row("after", envelope.get("after"), kinds, contract)
    flat = {AFTER + name: value for name, value in (after or {}).items()}
    flat |= {BEFORE + name: value for name, value in (before or {}).items()}
    flat |= {"has_before": before is not None, "has_after": after is not None}
    flat["op"] = read_scalar("string", "op", envelope.get("op"))
    flat["received_ms"] = read_scalar("integer", "ts_ms", envelope.get("ts_ms"))
    flat |= _block("source", envelope.get("source"), SOURCE)
    return flat | _block("transaction", envelope.get("transaction"), TRANSACTION)


def _is_no_change(members: list[tuple[str, Any]]) -> bool:
    names = {name for name, _ in members}
    if "op" in names:
        return [value for name, value in members if name == "op"] == [MESSAGE]
    is_mark = "id" in names and dict(members).get("status") in TRANSACTION_MARKS
    is_schema_change = "source" in names and bool(names & {"ddl", "tableChanges"})
    is_heartbeat = "ts_ms" in names and names <= CLOCKS
    return is_mark or is_schema_change or is_heartbeat


def _row(
    side: str, value: Any, kinds: Mapping[str, Kind], contract: Contract
) -> dict[str, Any] | None:
    members = _object(side, value)
    return None if members is None else strict_record(members, kinds, contract)


def _object(name: str, value: Any) -> list[tuple[str, Any]] | None:
    if value is not None and not isinstance(value, Members):
        raise LineFault(
            Rule.BAD_ENVELOPE, f"{name} must be an object or null, got {shown(value)}", name
        )
    return value


def _block(block: str, value: Any, wanted: Mapping[str, tuple[str, str]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, each in _object(block, value) or ():
        if name not in wanted:
            continue
        column, kind = wanted[name]
        if column in found:
            reason = f"{block}.{name} is given more than once"
            raise LineFault(Rule.DUPLICATE_KEY, reason, f"{block}.{name}")
        found[column] = read_scalar(kind, f"{block}.{name}", each)
    return found
