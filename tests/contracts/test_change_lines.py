"""Debezium events: what happened to which row, when, in every wrapping that Debezium writes."""

import json
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from scale_assets.contracts import (
    Contract,
    ContractError,
    Field,
    Rule,
    change_schema,
    load_contract,
    validate_change_lines,
)
from scale_assets.contracts import decode as decode_module

FIELDS = (
    Field(name="id", type="integer", required=True),
    Field(name="name", type="string", required=True),
    Field(name="due", type="date"),
    Field(name="seen", type="timestamp"),
    Field(name="sent", type="timestamp", debezium_type="io.debezium.time.Timestamp"),
    Field(name="zoned", type="timestamp", debezium_type="io.debezium.time.ZonedTimestamp"),
    Field(name="nanos", type="timestamp", debezium_type="io.debezium.time.NanoTimestamp"),
)
ORDERS = Contract(name="orders", version="1", fields=FIELDS, primary_key=("id",))
SOURCE = {"connector": "postgresql", "db": "shop", "lsn": 10, "txId": 20, "ts_ms": 1000}
ROW = {
    "id": 1,
    "name": "a",
    "due": 18460,
    "seen": 1_595_008_822_123_456,
    "sent": 1_595_008_822_123,
    "zoned": "2020-07-17T18:00:22Z",
    "nanos": 1_595_008_822_123_456_789,
}


def event(**changed: Any) -> dict[str, Any]:
    return {"before": None, "after": ROW, "source": SOURCE, "op": "c", "ts_ms": 2000} | changed


def lines(*events: Any) -> bytes:
    return b"\n".join(json.dumps(one).encode() for one in events) + b"\n"


def test_an_insert_is_read_with_its_encodings() -> None:
    changes = validate_change_lines(ORDERS, lines(event()), first_position=7)

    assert changes.accepted.schema == change_schema(ORDERS)
    assert changes.accepted.to_pylist() == [
        {
            "id": 1,
            "name": "a",
            "due": date(2020, 7, 17),
            "seen": datetime(2020, 7, 17, 18, 0, 22, 123456, tzinfo=UTC),
            "sent": datetime(2020, 7, 17, 18, 0, 22, 123000, tzinfo=UTC),
            "zoned": datetime(2020, 7, 17, 18, 0, 22, tzinfo=UTC),
            "nanos": datetime(2020, 7, 17, 18, 0, 22, 123456, tzinfo=UTC),
            "op": "c",
            "event_time": datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC),
            "received_at": datetime(1970, 1, 1, 0, 0, 2, tzinfo=UTC),
            "lsn": 10,
            "tx_id": 20,
            "tx_ordinal": None,
            "_transaction": None,
            "_unchanged": None,
            "_moved_from": None,
            "_position": 7,
        }
    ]


def test_a_delete_carries_its_key_alone() -> None:
    full = event(op="d", before=ROW, after=None)
    key_only = event(op="d", before={"id": 2}, after=None)

    changes = validate_change_lines(ORDERS, lines(full, key_only))

    kept = changes.accepted.select(["id", "name", "due", "op"]).to_pylist()
    assert kept == [{"id": id_, "name": None, "due": None, "op": "d"} for id_ in (1, 2)]


def test_tombstones_are_received_and_neither_kept_nor_refused() -> None:
    data = lines(event(), None, event(op="d", before=ROW, after=None), None)

    changes = validate_change_lines(ORDERS, data)

    assert (changes.num_received, changes.num_tombstones) == (4, 2)
    assert changes.accepted["_position"].to_pylist() == [0, 2]


@pytest.mark.parametrize(
    ("changed", "rule", "field"),
    [
        ({"op": "x"}, "bad_envelope", "op"),
        ({"op": None}, "bad_envelope", "op"),
        ({"op": 1}, "wrong_type", "op"),
        ({"after": None}, "bad_envelope", "after"),
        ({"after": [1]}, "bad_envelope", "after"),
        ({"op": "d", "after": None}, "bad_envelope", "before"),
        ({"op": "t", "after": None, "ts_ms": None}, "bad_envelope", "ts_ms"),
        ({"op": "u", "before": {"id": "1"}}, "wrong_type", "id"),
        ({"source": SOURCE | {"pos": "1"}}, "wrong_type", "source.pos"),
        ({"transaction": "1"}, "bad_envelope", "transaction"),
        ({"transaction": {"id": 1}}, "wrong_type", "transaction.id"),
        ({"op": "d", "before": {"name": "a"}}, "missing_field", "id"),
        ({"source": None}, "bad_envelope", "source.ts_ms"),
        ({"source": SOURCE | {"lsn": "1"}}, "wrong_type", "source.lsn"),
        ({"source": SOURCE | {"ts_ms": 10**18}}, "bad_envelope", "event_time"),
        ({"ts_ms": None}, "bad_envelope", "ts_ms"),
        ({"ts_ms": 1.5}, "wrong_type", "ts_ms"),
        ({"after": ROW | {"new": 1}}, "unknown_column", "new"),
        ({"after": ROW | {"due": "2020-07-17"}}, "wrong_type", "due"),
        ({"after": ROW | {"due": 10**9}}, "bad_format", "due"),
        ({"after": ROW | {"zoned": "2020-07-17T18:00:22"}}, "bad_format", "zoned"),
        ({"after": ROW | {"name": None}}, "missing_field", "name"),
        ({"after": {"id": 1}}, "missing_field", "name"),
    ],
)
@pytest.mark.parametrize("num_good", [0, 100], ids=["alone", "among good events"])
def test_each_bad_event_breaks_its_rule(
    changed: dict[str, Any], rule: str, field: str, num_good: int
) -> None:
    good = [event()] * num_good
    bad = event(**changed)

    changes = validate_change_lines(ORDERS, lines(*good, bad, *good))

    assert changes.accepted.num_rows == 2 * num_good
    (refused,) = changes.quarantined.to_pylist()
    assert (refused["rule"], refused["field"]) == (rule, field)
    assert json.loads(refused["raw"]) == bad
    assert Rule(rule) in Rule


def test_a_schema_on_each_line_is_taken_off_in_whole_blocks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    schema = {"type": "struct", "fields": [{"field": str(at), "type": "int64"} for at in range(99)]}
    events = [event(after=ROW | {"id": at}) for at in range(300)]
    wrapped = b"\n".join(
        json.dumps({"schema": schema, "payload": one}, separators=(",", ":")).encode()
        for one in events
    )
    expected = validate_change_lines(ORDERS, lines(*events))
    # Reading any line on its own would show that the block was not read as one.
    monkeypatch.setattr(decode_module, "_search", None)

    changes = validate_change_lines(ORDERS, wrapped)

    assert changes.accepted.equals(expected.accepted)


def test_lines_with_and_without_schema_may_mix() -> None:
    data = lines(event(), {"schema": {"a": 1}, "payload": event()}, {"payload": event()})

    changes = validate_change_lines(ORDERS, data)

    assert changes.accepted["_position"].to_pylist() == [0, 1]
    assert changes.quarantined["rule"].to_pylist() == ["bad_envelope"]


def test_contracts_that_cannot_describe_changes_are_refused() -> None:
    with pytest.raises(ContractError, match="primary key"):
        change_schema(Contract(name="c", version="1", fields=FIELDS))
    clash = (*FIELDS, Field(name="op", type="string"))
    with pytest.raises(ContractError, match=r"\['op'\]"):
        change_schema(Contract(name="c", version="1", fields=clash, primary_key=("id",)))


def test_no_events() -> None:
    changes = validate_change_lines(ORDERS, b"")

    assert changes.num_received == 0
    assert changes.accepted.schema == change_schema(ORDERS)


PRODUCTS = Contract(
    name="products",
    version="1",
    primary_key=("id",),
    fields=(
        Field(name="id", type="integer", required=True),
        Field(name="name", type="string", required=True),
        Field(name="description", type="string"),
        Field(name="weight", type="number"),
    ),
)


def test_real_debezium_events_with_a_schema_change(shared_data_dir: Path) -> None:
    """A MySQL table gains ``address`` half way: those rows wait in quarantine for version 2."""
    folder = shared_data_dir / "change_events" / "topics" / "database" / "schemaevolution"
    data = b"\n".join(path.read_bytes() for path in sorted(folder.glob("topic*/*.txt")))
    events = [line for line in data.splitlines() if line.startswith(b"{")]

    changes = validate_change_lines(PRODUCTS, events)

    parsed = [json.loads(one) for one in events]
    known = set(PRODUCTS.names)
    readable = [
        one
        for one in parsed
        if set(one["after"] or {}) <= known and set(one["before"] or {}) <= known
    ]
    assert changes.num_received == len(events)
    assert changes.accepted["id"].to_pylist() == [
        (one["before"] if one["op"] == "d" else one["after"])["id"] for one in readable
    ]
    assert 0 < len(readable) < len(events)
    assert set(changes.quarantined["rule"].to_pylist()) == {"unknown_column"}


def test_the_declared_change_feeds_fit_their_table() -> None:
    contracts = Path(__file__).parents[2] / "scale_assets" / "defs" / "ingest" / "contracts"
    for name in ("registrations", "students"):
        schema = change_schema(load_contract(contracts / f"{name}.odcs.yaml"))
        assert schema.field("event_time").type == pa.timestamp("us", tz="UTC")
