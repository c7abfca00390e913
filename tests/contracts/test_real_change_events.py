"""Every file of real Debezium messages: what is accepted, what is not, and why."""

import json
from collections import Counter
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from scale_assets.contracts import Contract, Field, ValidatedChanges, validate_change_lines

CONNECT_DECIMAL = "org.apache.kafka.connect.data.Decimal"
TIME = "io.debezium.time"


def number(name: str, precision: int, scale: int, written: str = CONNECT_DECIMAL) -> Field:
    return Field(name=name, type="decimal", precision=precision, scale=scale, debezium_type=written)


def timestamp(name: str, written: str) -> Field:
    return Field(name=name, type="timestamp", debezium_type=f"{TIME}.{written}")


def clock(name: str) -> Field:
    return Field(name=name, type="string", debezium_type=f"{TIME}.MicroTime")


def contract(*fields: Field, key: str = "id", is_open: bool = False) -> Contract:
    return Contract(name="real", version="1", fields=fields, primary_key=(key,), open=is_open)


ID = Field(name="id", type="integer", required=True)
PRODUCT = (
    ID,
    Field(name="name", type="string", required=True),
    Field(name="description", type="string"),
    Field(name="weight", type="number"),
)
ADDRESS, AGE = Field(name="address", type="string"), Field(name="age", type="integer")
PRODUCTS, WITH_ADDRESS, WITH_AGE = (contract(*PRODUCT, *more) for more in ((), (ADDRESS,), (AGE,)))
DATED = contract(
    Field(name="_id", type="integer", required=True),
    Field(name="_date", type="date", debezium_type=f"{TIME}.IsoDate"),
    key="_id",
)
VALUED = contract(ID, Field(name="value", type="string"))
# Customers and products of one database, which one file holds together.
SHOP = contract(
    *PRODUCT[:1],
    *(Field(name=name, type="string") for name in ("name", "address", "phone_number")),
    *(Field(name=name, type="string") for name in ("description", "enum_c", "json_c", "point_c")),
    Field(name="weight", type="number"),
    Field(name="new_col", type="integer"),
)
# Columns that are structs (points, geometries) are dropped: the contract is open.
ALL_TYPES = contract(
    Field(name="_id", type="integer", required=True),
    number("pt", 2, 1, "double"),
    Field(name="_bit1", type="boolean"),
    Field(name="_bit", type="string"),
    Field(name="_bigint", type="integer"),
    number("_bigint_unsigned", 20, 0, "double"),
    Field(name="_double", type="number"),
    number("_numeric", 8, 3, "double"),
    number("_big_decimal", 38, 10, "double"),
    number("_fixed", 38, 3, "double"),
    Field(name="_date", type="date"),
    timestamp("_datetime3", "Timestamp"),
    timestamp("_datetime6", "MicroTimestamp"),
    timestamp("_timestamp", "ZonedTimestamp"),
    Field(name="_blob", type="string"),
    Field(name="_json", type="string", debezium_type="io.debezium.data.Json"),
    Field(name="_enum", type="string", debezium_type="io.debezium.data.Enum"),
    Field(name="_set", type="string", debezium_type="io.debezium.data.EnumSet"),
    Field(name="_year", type="integer", debezium_type=f"{TIME}.Year"),
    clock("_time"),
    key="_id",
    is_open=True,
)
COMMON_TYPES = (
    Field(name="tiny_c", type="integer"),
    Field(name="big_c", type="integer"),
    Field(name="real_c", type="number"),
    Field(name="date_c", type="date"),
    clock("time_c"),
    timestamp("datetime3_c", "Timestamp"),
    timestamp("datetime6_c", "MicroTimestamp"),
    timestamp("timestamp_c", "ZonedTimestamp"),
    Field(name="file_uuid", type="string"),
    Field(name="year_c", type="integer"),
    Field(name="json_c", type="string"),
    Field(name="varchar_len0_c", type="string"),
)
BASE64_TYPES = contract(
    number("id", 20, 0),
    number("big_un_c", 20, 0),
    number("decimal_c", 8, 4),
    number("numeric_c", 6, 0),
    number("big_decimal_c", 38, 1),
    *COMMON_TYPES,
    is_open=True,
)
NUMERIC_TYPES = contract(
    ID,
    number("big_un_c", 20, 0, "double"),
    number("decimal_c", 8, 4, "double"),
    number("numeric_c", 6, 0, "double"),
    number("big_decimal_c", 38, 1, "double"),
    *COMMON_TYPES,
    is_open=True,
)
# Its schemas claim that id and big_un_c, which hold base64, are integers: they can be read as texts
# only. One gives big_decimal_c 65 digits behind the point, of 1: that cannot be read at all.
LYING_SCHEMA = contract(
    Field(name="id", type="string", required=True),
    Field(name="big_un_c", type="string"),
    number("decimal_c", 8, 4),
    number("numeric_c", 6, 0),
    *COMMON_TYPES,
    is_open=True,
)
TOPICS, TABLE = "topics", "topics/table"
# File to contract, events accepted, and events refused by rule.
FILES: dict[str, tuple[Contract, int, dict[str, int]]] = {
    # These carry neither source.ts_ms nor ts_ms: nothing says when anything happened.
    "debezium-data-schema-exclude.json": (BASE64_TYPES, 0, {"bad_envelope": 2}),
    "debezium-data-schema-exclude-with-numeric-decimal.json": (
        NUMERIC_TYPES,
        0,
        {"bad_envelope": 2},
    ),
    "mysql_to_kafka/debezium-json.txt": (SHOP, 0, {"bad_envelope": 20}),
    "mysql_to_kafka/debezium-json-with-schema.txt": (SHOP, 0, {"bad_envelope": 20}),
    "debezium-data-schema-include.json": (LYING_SCHEMA, 2, {}),
    f"{TOPICS}/database/include/topic0/debezium-data-1.txt": (PRODUCTS, 4, {}),
    f"{TOPICS}/database/prefixsuffix/topic0/debezium-data-1.txt": (PRODUCTS, 2, {}),
    f"{TOPICS}/database/prefixsuffix/topic0/debezium-data-2.txt": (WITH_ADDRESS, 2, {}),
    f"{TOPICS}/database/prefixsuffix/topic1/debezium-data-1.txt": (PRODUCTS, 2, {}),
    f"{TOPICS}/database/prefixsuffix/topic1/debezium-data-2.txt": (WITH_AGE, 2, {}),
    f"{TOPICS}/database/schemaevolution/topic0/debezium-data-1.txt": (PRODUCTS, 2, {}),
    f"{TOPICS}/database/schemaevolution/topic0/debezium-data-2.txt": (WITH_AGE, 2, {}),
    f"{TOPICS}/database/schemaevolution/topic1/debezium-data-1.txt": (PRODUCTS, 2, {}),
    f"{TOPICS}/database/schemaevolution/topic1/debezium-data-2.txt": (WITH_ADDRESS, 2, {}),
    f"{TABLE}/computedcolumn/debezium-data-1.txt": (DATED, 1, {}),
    f"{TABLE}/metadatacolumn/debezium-data-1.txt": (DATED, 1, {}),
    # A column that is a struct has no type in a contract; open, it is dropped.
    f"{TABLE}/nestedtype/debezium-data-1.txt": (contract(*PRODUCT, is_open=True), 1, {}),
    f"{TABLE}/nullvalue/debezium-data-1.txt": (VALUED, 1, {}),
    f"{TABLE}/nullvalue/debezium-data-2.txt": (VALUED, 1, {}),
    f"{TABLE}/schema/alltype/debezium-data-1.txt": (ALL_TYPES, 1, {}),
    f"{TABLE}/schema/computedcolumn/debezium-data-1.txt": (
        contract(ID, Field(name="date", type="date", debezium_type=f"{TIME}.IsoDate")),
        1,
        {},
    ),
    f"{TABLE}/schema/include/debezium-data-1.txt": (PRODUCTS, 1, {}),
    f"{TABLE}/schema/schemaevolution/debezium-data-1.txt": (PRODUCTS, 1, {}),
    f"{TABLE}/schema/schemaevolution/debezium-data-2.txt": (WITH_AGE, 1, {}),
    f"{TABLE}/schema/schemaevolution/debezium-data-3.txt": (WITH_AGE, 1, {}),
    f"{TABLE}/schema/schemaevolution/debezium-data-4.txt": (WITH_AGE, 1, {}),
    # The column became a text: under the old contract its rows wait in quarantine.
    f"{TABLE}/schema/schemaevolution/debezium-data-5.txt": (WITH_AGE, 0, {"wrong_type": 1}),
    f"{TABLE}/schema/schemaevolution/debezium-data-with-delete.txt": (PRODUCTS, 1, {}),
    f"{TABLE}/schemaevolution/debezium-data-1.txt": (PRODUCTS, 2, {}),
    f"{TABLE}/schemaevolution/debezium-data-2.txt": (WITH_AGE, 2, {}),
    f"{TABLE}/schemaevolution/debezium-data-3.txt": (WITH_ADDRESS, 4, {}),
    f"{TABLE}/startupmode/debezium-data-1.txt": (PRODUCTS, 2, {}),
    f"{TABLE}/startupmode/debezium-data-2.txt": (PRODUCTS, 2, {}),
    f"{TABLE}/watermark/debezium-data-1.txt": (PRODUCTS, 2, {}),
}


@pytest.fixture
def folder(shared_data_dir: Path) -> Path:
    return shared_data_dir / "change_events"


def events(path: Path) -> list[bytes]:
    """The file's messages, one per line; three files hold two of them as one printed object."""
    if path.suffix == ".json":
        return [json.dumps(each).encode() for each in json.loads(path.read_bytes()).values()]
    return [line for line in path.read_bytes().splitlines() if line.startswith(b"{")]


def validated(folder: Path, name: str, *, dated: bool = False) -> ValidatedChanges:
    """What becomes of a file; ``dated`` gives its events the times that they lack."""
    lines = events(folder / name)
    if dated:
        lines = [json.dumps(with_times(json.loads(line))).encode() for line in lines]
    return validate_change_lines(FILES[name][0], lines)


def with_times(event: dict[str, Any]) -> dict[str, Any]:
    payload = event.get("payload", event)
    payload["ts_ms"] = 2000
    payload["source"] = payload.get("source", {}) | {"ts_ms": 1000}
    return event


def test_no_file_is_left_out(folder: Path) -> None:
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert found - {"LICENSE"} == FILES.keys()


@pytest.mark.parametrize("name", FILES)
def test_each_file_parses(folder: Path, name: str) -> None:
    _, num_accepted, refused = FILES[name]

    changes = validated(folder, name)

    assert changes.num_received == len(events(folder / name))
    assert changes.accepted.num_rows == num_accepted
    assert Counter(changes.quarantined["rule"].to_pylist()) == refused


@pytest.mark.parametrize("name", [name for name in FILES if name.endswith(".txt")])
def test_what_is_no_message_in_a_file_is_quarantined_line_by_line(folder: Path, name: str) -> None:
    contract_, num_accepted, refused = FILES[name]
    data = (folder / name).read_bytes()
    num_lines = sum(1 for line in data.splitlines() if line.strip())

    changes = validate_change_lines(contract_, data)

    assert changes.num_received == num_lines  # the licence before the messages included
    assert changes.accepted.num_rows == num_accepted
    rules = Counter(changes.quarantined["rule"].to_pylist())
    assert rules["not_json"] == num_lines - len(events(folder / name))
    assert rules - Counter(not_json=rules["not_json"]) == refused


UNDATED = [name for name, (_, _, refused) in FILES.items() if "bad_envelope" in refused]


@pytest.mark.parametrize("name", UNDATED)
def test_with_times_every_undated_event_is_accepted(folder: Path, name: str) -> None:
    changes = validated(folder, name, dated=True)

    assert changes.quarantined.num_rows == 0
    assert changes.accepted.num_rows == changes.num_received == len(events(folder / name))


FULL = {
    "decimal_c": Decimal("123.4567"),
    "numeric_c": Decimal(346),
    "tiny_c": 127,
    "big_c": 2**63 - 1,
    "real_c": 123.102,
    "date_c": date(2020, 7, 17),
    "time_c": "18:00:22.000000",
    "datetime3_c": datetime(2020, 7, 17, 18, 0, 22, 123000, tzinfo=UTC),
    "datetime6_c": datetime(2020, 7, 17, 18, 0, 22, 123456, tzinfo=UTC),
    "timestamp_c": datetime(2020, 7, 17, 18, 0, 22, tzinfo=UTC),
    "file_uuid": "ZRrtCDkPSJOy8TaSPnt0AA==",
    "year_c": 2021,
    "json_c": '{"key1": "value1"}',
    "varchar_len0_c": "",
}


@pytest.mark.parametrize(
    ("name", "more"),
    [
        (
            "debezium-data-schema-exclude.json",
            {"id": 1, "big_un_c": 2**64 - 1, "big_decimal_c": Decimal("34567892.1")},
        ),
        (
            "debezium-data-schema-exclude-with-numeric-decimal.json",
            {"id": 1, "big_un_c": 2**64 - 1, "big_decimal_c": Decimal("34567892.1")},
        ),
        ("debezium-data-schema-include.json", {"id": "AQ==", "big_un_c": "AP//////////"}),
    ],
)
def test_every_type_of_the_full_table_is_read(
    folder: Path, name: str, more: dict[str, Any]
) -> None:
    snapshot, update = validated(folder, name, dated=True).accepted.to_pylist()

    assert {column: snapshot[column] for column in FULL | more} == FULL | more
    assert (snapshot["op"], update["op"]) == ("r", "u")
    assert update["timestamp_c"] == datetime(2020, 7, 17, 18, 33, 22, tzinfo=UTC)


def test_the_schema_that_lies_about_a_scale_is_found_out(folder: Path) -> None:
    name = "debezium-data-schema-include.json"
    fields = (*LYING_SCHEMA.fields, number("big_decimal_c", 38, 1))
    strict = contract(*fields, is_open=True)

    changes = validate_change_lines(strict, events(folder / name))

    assert changes.accepted["big_decimal_c"].to_pylist() == [Decimal("34567892.1")]
    (reason,) = changes.quarantined["reason"].to_pylist()
    assert "big_decimal_c is sent with scale 65, the contract says decimal(38,1)" in reason


def test_binlog_positions_order_the_changes(folder: Path) -> None:
    changes = validated(folder, "debezium-data-schema-include.json").accepted

    assert changes["lsn"].to_pylist() == [(3 << 40) + 1532, (3 << 40) + 1816]
    assert changes["tx_ordinal"].to_pylist() == [0, 0]


def test_the_all_types_table_of_another_converter(folder: Path) -> None:
    (row,) = validated(folder, f"{TABLE}/schema/alltype/debezium-data-1.txt").accepted.to_pylist()

    assert row["_bigint_unsigned"] == 20_000_000_000
    assert row["_numeric"] == Decimal("12345.110")
    assert row["_fixed"] == Decimal("123456789876543212345678987654321.110")
    assert row["_big_decimal"] == Decimal("2222222222222222300000001111.1234567890")
    assert row["_time"] == "10:13:23.000000"
    assert row["_timestamp"] == datetime(2023, 3, 23, 22, 0, 10, 123456, tzinfo=UTC)
    assert (row["_enum"], row["_set"], row["_year"]) == ("value1", "a,b", 2023)


def test_before_may_hold_less_than_the_key(folder: Path) -> None:
    """An update whose before lacks the key changes no key."""
    changes = validated(folder, f"{TABLE}/schemaevolution/debezium-data-3.txt").accepted

    assert list(zip(changes["op"].to_pylist(), changes["id"].to_pylist(), strict=True)) == [
        *(("c", 105), ("d", 101), ("u", 105), ("c", 107))
    ]
