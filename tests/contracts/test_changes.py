"""Changes besides inserts: what was not sent, keys that change, tables that are emptied."""

import base64
import json
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest

from scale_assets.contracts import Contract, Field, ValidatedChanges, validate_change_lines
from scale_assets.contracts.unavailable import PLACEHOLDER

FIELDS = (
    Field(name="shop", type="string", required=True),
    Field(name="item", type="integer", required=True),
    Field(name="bio", type="string", required=True, max_length=10),
    Field(name="photo", type="string"),
    Field(name="price", type="decimal", precision=6, scale=2),
    Field(name="tags", type="array", items="string"),
    Field(name="counts", type="array", items="integer"),
)
ITEMS = Contract(name="items", version="1", fields=FIELDS, primary_key=("shop", "item"))
ROW = {"shop": "a", "item": 1, "bio": "x", "photo": "AQ==", "price": "AQ==", "tags": ["t"]}
TEXT = PLACEHOLDER.decode()
BASE64 = base64.b64encode(PLACEHOLDER).decode()


def event(op: str, before: Any, after: Any, **others: Any) -> dict[str, Any]:
    source = {"ts_ms": 1000, "lsn": 7}
    return {"op": op, "before": before, "after": after, "source": source, "ts_ms": 2000} | others


def changes(*events: Any, contract: Contract = ITEMS) -> ValidatedChanges:
    return validate_change_lines(contract, [json.dumps(each).encode() for each in events])


@pytest.mark.parametrize(
    ("field", "sent"),
    [
        ("bio", TEXT),
        ("photo", TEXT),
        ("photo", BASE64),
        ("photo", PLACEHOLDER.hex()),
        ("photo", PLACEHOLDER.hex().upper()),
        ("price", BASE64),
        ("tags", [TEXT]),
        ("tags", [BASE64]),
        ("counts", list(PLACEHOLDER)),
    ],
)
@pytest.mark.parametrize("num_others", [0, 100], ids=["alone", "among others"])
def test_a_value_that_was_not_sent_is_told_from_null(
    field: str, sent: Any, num_others: int
) -> None:
    others = [event("c", None, ROW | {field: None if field != "bio" else "y"})] * num_others
    found = changes(*others, event("u", None, ROW | {field: sent}))

    assert found.quarantined.num_rows == 0
    *before, row = found.accepted.to_pylist()
    assert (row[field], row["_unchanged"]) == (None, [field])
    assert all(other["_unchanged"] is None for other in before)


@pytest.mark.parametrize(
    ("field", "sent"),
    [("tags", [TEXT, "t"]), ("tags", []), ("counts", [95, 95]), ("bio", "__debezium")],
)
def test_what_only_looks_like_the_placeholder_is_a_value(field: str, sent: Any) -> None:
    (row,) = changes(event("u", None, ROW | {field: sent})).accepted.to_pylist()
    assert (row[field], row["_unchanged"]) == (sent, None)


def test_several_fields_may_be_unsent_and_a_key_never_is() -> None:
    sent = ROW | {"shop": TEXT, "bio": TEXT, "tags": [TEXT]}
    (row,) = changes(event("u", None, sent)).accepted.to_pylist()

    assert row["shop"] == TEXT
    assert row["_unchanged"] == ["bio", "tags"]


def test_a_change_of_the_key_is_a_delete_and_an_insert() -> None:
    moved = event("u", ROW, ROW | {"item": 2, "tags": [TEXT]})
    found = changes(event("c", None, ROW), moved, event("u", ROW | {"item": 2}, ROW | {"item": 2}))

    told = ("op", "shop", "item", "bio", "_moved_from", "_unchanged", "_position")
    assert found.accepted.select(told).to_pylist() == [
        dict(zip(told, row, strict=True))
        for row in (
            ("c", "a", 1, "x", None, None, 0),
            ("d", "a", 1, None, None, None, 1),
            ("c", "a", 2, "x", {"shop": "a", "item": 1}, ["tags"], 1),
            ("u", "a", 2, "x", None, None, 2),
        )
    ]
    assert found.num_received == 4  # such an update is received as the two changes that it is


@pytest.mark.parametrize(
    "before",
    [None, {"bio": "y"}, {"shop": "b", "item": None}, {"shop": "a", "item": 1, "bio": "y"}],
)
def test_without_the_old_key_or_with_the_same_nothing_moves(before: Any) -> None:
    (row,) = changes(event("u", before, ROW)).accepted.to_pylist()
    assert (row["op"], row["_moved_from"]) == ("u", None)


def test_a_key_written_otherwise_is_the_same_key() -> None:
    zoned = Field(
        name="at",
        type="timestamp",
        required=True,
        debezium_type="io.debezium.time.ZonedTimestamp",
    )
    contract = Contract(name="ticks", version="1", fields=(zoned,), primary_key=("at",))
    one, same, other = "2020-01-01T00:00:00Z", "2020-01-01T01:00:00+01:00", "2020-01-02T00:00:00Z"

    found = changes(
        event("u", {"at": one}, {"at": same}),
        event("u", {"at": one}, {"at": other}),
        contract=contract,
    )

    assert found.accepted["op"].to_pylist() == ["u", "d", "c"]


def test_an_old_key_that_breaks_a_rule_quarantines_the_whole_event() -> None:
    digits = Field(name="id", type="decimal", precision=4, scale=0, required=True)
    contract = Contract(name="items", version="1", fields=(digits,), primary_key=("id",))

    found = changes(event("u", {"id": "*"}, {"id": "AQ=="}), contract=contract)

    assert (found.accepted.num_rows, found.num_received) == (0, 1)
    assert found.quarantined["field"].to_pylist() == ["id"]


def test_a_truncate_has_no_row() -> None:
    (row,) = changes(event("t", None, None)).accepted.to_pylist()

    assert row["op"] == "t"
    assert row["event_time"] == datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)
    assert {name: row[name] for name in ITEMS.names} == dict.fromkeys(ITEMS.names)


@pytest.mark.parametrize("nothing", [None, b"", b"  ", b"null"])
def test_a_record_without_a_value_is_a_tombstone(nothing: bytes | None) -> None:
    row = json.dumps(event("c", None, ROW)).encode()

    found = validate_change_lines(ITEMS, [row, nothing, row], first_position=10)

    assert (found.num_received, found.num_tombstones, found.num_ignored) == (3, 1, 1)
    assert found.accepted["_position"].to_pylist() == [10, 12]


def test_a_tombstone_that_carries_its_schema_is_ignored() -> None:
    found = changes({"schema": {}, "payload": None})
    assert (found.num_received, found.num_ignored) == (1, 1)


def test_the_transaction_is_kept() -> None:
    block = {"id": "571:53195829", "total_order": 3, "data_collection_order": 2}
    found = changes(
        event("c", None, ROW, transaction=block), event("c", None, ROW, transaction=None)
    )
    assert found.accepted["_transaction"].to_pylist() == [block, None]


@pytest.mark.parametrize(
    ("source", "lsn", "ordinal"),
    [
        ({"lsn": 24023128}, 24023128, None),
        ({"lsn": 5, "file": "mysql-bin.000003", "pos": 154, "row": 2}, 5, None),
        ({"file": "mysql-bin.000003", "pos": 154, "row": 2}, (3 << 40) + 154, 2),
        ({"file": "mysql-bin.000003", "pos": 1 << 40, "row": 2}, None, None),
        ({"file": "", "pos": 0, "row": 0}, None, None),
        (
            {"change_lsn": "00000027:00000758:0003", "commit_lsn": "00000027:00000758:0005"},
            (0x27 << 32) + 0x758,
            3 << 16,
        ),
        (
            {"change_lsn": "00000027:00000758:0003", "event_serial_no": 2},
            (0x27 << 32) + 0x758,
            (3 << 16) + 2,
        ),
        (
            {"change_lsn": None, "commit_lsn": "00000027:00000758:0005"},
            (0x27 << 32) + 0x758,
            5 << 16,
        ),
        ({"change_lsn": "ffffffff:00000000:0000"}, None, None),
        ({"scn": "2868546"}, 2868546, None),
        ({"scn": "no number"}, None, None),
        ({}, None, None),
    ],
)
def test_each_source_has_its_own_positions(
    source: dict[str, Any], lsn: int | None, ordinal: int | None
) -> None:
    (row,) = changes(event("c", None, ROW, source={"ts_ms": 1} | source)).accepted.to_pylist()
    assert (row["lsn"], row["tx_ordinal"]) == (lsn, ordinal)


def typed(name: str, type_: str, encoding: str | None = None, **others: Any) -> Field:
    return Field(name=name, type=type_, debezium_type=encoding, **others)  # type: ignore[arg-type]


NOON = datetime(2020, 7, 17, 12, 0, 1, 123456, tzinfo=UTC)
NOON_US = 1_594_987_201_123_456


@pytest.mark.parametrize(
    ("type_", "encoding", "sent", "read"),
    [
        ("date", "io.debezium.time.Date", 18460, date(2020, 7, 17)),
        ("date", "org.apache.kafka.connect.data.Date", 18460, date(2020, 7, 17)),
        ("date", "io.debezium.time.IsoDate", "2020-07-17Z", date(2020, 7, 17)),
        ("date", "io.debezium.time.IsoDate", "2020-07-17", date(2020, 7, 17)),
        ("timestamp", "io.debezium.time.MicroTimestamp", NOON_US, NOON),
        ("timestamp", "io.debezium.time.NanoTimestamp", NOON_US * 1000 + 999, NOON),
        (
            "timestamp",
            "org.apache.kafka.connect.data.Timestamp",
            NOON_US // 1000,
            NOON.replace(microsecond=123000),
        ),
        ("timestamp", "io.debezium.time.IsoTimestamp", "2020-07-17T12:00:01.123456Z", NOON),
        ("timestamp", "io.debezium.time.ZonedTimestamp", "2020-07-17T12:00:01.123456789Z", NOON),
        ("timestamp", "io.debezium.time.ZonedTimestamp", "2020-07-17T14:00:01.1234567+02:00", NOON),
        ("string", "io.debezium.time.Time", 43_201_123, "12:00:01.123000"),
        ("string", "org.apache.kafka.connect.data.Time", 43_201_123, "12:00:01.123000"),
        ("string", "io.debezium.time.MicroTime", 43_201_123_456, "12:00:01.123456"),
        ("string", "io.debezium.time.NanoTime", 43_201_123_456_789, "12:00:01.123456"),
        ("string", "io.debezium.time.ZonedTime", "12:00:01Z", "12:00:01Z"),
        ("string", "io.debezium.time.Interval", "P1Y2M3DT4H5M6.78S", "P1Y2M3DT4H5M6.78S"),
        ("string", "io.debezium.data.Uuid", "09e5", "09e5"),
        ("integer", "io.debezium.time.MicroDuration", -5, -5),
        ("decimal", None, "EtaH", Decimal("12345.67")),
        ("decimal", "org.apache.kafka.connect.data.Decimal", "7Sl5", Decimal("-12345.67")),
        ("decimal", "string", "12345.67", Decimal("12345.67")),
        ("decimal", "double", 12345.67, Decimal("12345.67")),
        (
            "decimal",
            "io.debezium.data.VariableScaleDecimal",
            {"scale": 1, "value": "AeJB"},
            Decimal("12345.70"),
        ),
    ],
)
def test_each_encoding_is_read(type_: str, encoding: str | None, sent: Any, read: Any) -> None:
    shape = {"precision": 12, "scale": 2} if type_ == "decimal" else {}
    contract = Contract(
        name="typed",
        version="1",
        primary_key=("id",),
        fields=(typed("id", "integer"), typed("value", type_, encoding, **shape)),
    )

    (row,) = (
        changes(event("c", None, {"id": 1, "value": sent}), contract=contract)
        .accepted["value"]
        .to_pylist()
    )

    assert row == read


@pytest.mark.parametrize(
    ("type_", "encoding", "sent", "rule"),
    [
        ("date", "io.debezium.time.IsoDate", "2020-02-30Z", "bad_format"),
        ("timestamp", "io.debezium.time.ZonedTimestamp", "2020-07-17T12:00:01", "bad_format"),
        ("string", "io.debezium.time.MicroTime", -1, "bad_format"),
        ("string", "io.debezium.time.Time", 86_400_000, "bad_format"),
        ("decimal", None, "no base64", "bad_format"),
        ("decimal", None, 12345.67, "wrong_type"),
        ("decimal", "string", "1.234", "bad_format"),
        ("decimal", "io.debezium.data.VariableScaleDecimal", "AQ==", "wrong_type"),
        ("decimal", "io.debezium.data.VariableScaleDecimal", {"scale": 1}, "bad_format"),
    ],
)
def test_what_is_not_in_its_encoding_is_refused(
    type_: str, encoding: str | None, sent: Any, rule: str
) -> None:
    shape = {"precision": 12, "scale": 2} if type_ == "decimal" else {}
    contract = Contract(
        name="typed",
        version="1",
        primary_key=("id",),
        fields=(typed("id", "integer"), typed("value", type_, encoding, **shape)),
    )

    found = changes(event("c", None, {"id": 1, "value": sent}), contract=contract)

    assert found.quarantined["rule"].to_pylist() == [rule]


SCHEMA_FIELDS = {
    "ms": {"type": "int64", "name": "io.debezium.time.Timestamp"},
    "connect ms": {"type": "int64", "name": "org.apache.kafka.connect.data.Timestamp"},
    "us": {"type": "int64", "name": "io.debezium.time.MicroTimestamp"},
}


@pytest.mark.parametrize(
    ("field", "sent", "agrees"),
    [
        (typed("v", "timestamp"), SCHEMA_FIELDS["us"], True),
        (typed("v", "timestamp"), SCHEMA_FIELDS["ms"], False),
        (
            typed("v", "timestamp", "io.debezium.time.Timestamp"),
            SCHEMA_FIELDS["connect ms"],
            True,
        ),
        (typed("v", "timestamp"), {"type": "int64"}, True),
        (typed("v", "integer"), SCHEMA_FIELDS["ms"], True),
        (
            typed("v", "decimal", precision=6, scale=2),
            {
                "type": "bytes",
                "name": "org.apache.kafka.connect.data.Decimal",
                "parameters": {"scale": "2"},
            },
            True,
        ),
        (
            typed("v", "decimal", precision=6, scale=2),
            {
                "type": "bytes",
                "name": "org.apache.kafka.connect.data.Decimal",
                "parameters": {"scale": "4"},
            },
            False,
        ),
        (typed("v", "decimal", precision=6, scale=2), {"type": "string"}, False),
        (typed("v", "decimal", "string", precision=6, scale=2), {"type": "string"}, True),
    ],
)
@pytest.mark.parametrize("num_events", [1, 100], ids=["alone", "in a block"])
def test_a_schema_that_disagrees_with_the_contract_is_refused(
    field: Field, sent: dict[str, Any], agrees: bool, num_events: int
) -> None:
    contract = Contract(
        name="typed", version="1", primary_key=("id",), fields=(typed("id", "integer"), field)
    )
    row = {"type": "struct", "field": "after", "fields": [sent | {"field": "v"}]}
    schema = {"type": "struct", "fields": [row]}
    wrapped = {"schema": schema, "payload": event("c", None, {"id": 1, "v": None})}
    line = json.dumps(wrapped, separators=(",", ":")).encode() + b"\n"

    found = validate_change_lines(contract, line * num_events)

    assert found.accepted.num_rows == (num_events if agrees else 0)
    assert set(found.quarantined["field"].to_pylist()) == (set() if agrees else {"v"})
