"""A contract is read exactly, or refused by file, field, value and way out."""

from datetime import UTC, date, datetime
from pathlib import Path

import pyarrow as pa
import pytest

from scale_assets.contracts import Contract, ContractError, load_contract, parse_contract

CONTRACTS = Path(__file__).parents[2] / "scale_assets" / "defs" / "ingest" / "contracts"

ORDERS = """
apiVersion: v3.1.0
kind: DataContract
id: orders
version: 2.1.0
status: active
team: {name: "team:shop"}
schema:
  - name: orders
    description: One row per order line.
    customProperties:
      - {property: scale.eventTime, value: ordered_at}
      - {property: other.tool, value: anything}
    properties:
      - {name: line, logicalType: integer, primaryKey: true, primaryKeyPosition: 2}
      - name: order_id
        logicalType: string
        primaryKey: true
        primaryKeyPosition: 1
        logicalTypeOptions: {minLength: 1, maxLength: 8, pattern: "^[A-Z]"}
      - name: ordered_at
        logicalType: timestamp
        required: true
        logicalTypeOptions: {minimum: "2020-01-01T00:00:00Z"}
      - name: due_on
        logicalType: date
        logicalTypeOptions: {maximum: 2030-12-31, format: yyyy-MM-dd}
      - name: customer
        logicalType: string
        classification: restricted
        tags: ["pii:identifier", core]
        quality: [{type: text, description: Looks like a person.}, {metric: nullValues, mustBe: 0}]
      - name: price
        logicalType: number
        logicalTypeOptions: {exclusiveMinimum: 0}
      - name: paid
        logicalType: boolean
      - name: state
        logicalType: string
        enum: [{value: open}, {value: shipped}]
      - name: channel
        logicalType: string
        quality: [{metric: invalidValues, arguments: {validValues: [web, shop]}, mustBe: 0}]
"""
MICROS = "        customProperties: [{property: scale.debeziumType, value: micros}]"


def test_every_part_of_a_contract_is_read() -> None:
    contract = parse_contract(ORDERS, source="orders.odcs.yaml")

    assert (contract.name, contract.version, contract.owner) == ("orders", "2.1.0", "team:shop")
    assert contract.primary_key == ("order_id", "line")
    assert contract.event_time == "ordered_at"
    assert not contract.open
    assert contract.arrow_schema == pa.schema(
        [
            ("line", pa.int64()),
            ("order_id", pa.string()),
            ("ordered_at", pa.timestamp("us", tz="UTC")),
            ("due_on", pa.date32()),
            ("customer", pa.string()),
            ("price", pa.float64()),
            ("paid", pa.bool_()),
            ("state", pa.string()),
            ("channel", pa.string()),
        ]
    )
    order_id = contract.field("order_id")
    assert (order_id.min_length, order_id.max_length, order_id.pattern) == (1, 8, "^[A-Z]")
    assert contract.field("ordered_at").minimum == datetime(2020, 1, 1, tzinfo=UTC)
    assert contract.field("due_on").maximum == date(2030, 12, 31)
    assert contract.field("price").exclusive_minimum == 0
    assert contract.field("state").allowed == ("open", "shipped")
    assert contract.field("channel").allowed == ("web", "shop")
    assert [f.name for f in contract.fields if f.required] == [
        *("line", "order_id", "ordered_at", "customer"),
    ]
    assert contract.pii_fields() == {"customer": "identifier"}


@pytest.mark.parametrize(
    ("old", "new", "parts"),
    [
        ("logicalType: boolean", "logicalType: decimal", ["paid", "'decimal'", "use one of"]),
        (
            "logicalType: boolean",
            "logicalType: array",
            ["paid", "items.logicalType None", "one of"],
        ),
        (
            "logicalType: number",
            "logicalType: number\n        physicalType: numeric(39, 2)",
            ["price", "numeric(39, 2)", "38 digits", "read as a double"],
        ),
        (
            "logicalType: number",
            "logicalType: number\n        physicalType: DECIMAL(4)\n        enum: [{value: 0.5}]",
            ["price", "enum", "0.5", "decimal128(4, 0)"],
        ),
        (
            "logicalType: boolean",
            f"logicalType: timestamp\n{MICROS}",
            ["paid", "'micros'", "use one of", "io.debezium.time.MicroTimestamp"],
        ),
        (
            "logicalType: boolean",
            "logicalTyp: boolean",
            ["properties[6].logicalTyp", "unknown key"],
        ),
        ("required: true", "requird: true", ["properties[2].requird", "unknown key"]),
        ("minLength: 1", "minLength: -1", ["order_id", "minLength", "-1", "0 or more"]),
        ('pattern: "^[A-Z]"', 'pattern: "(?<=a)b"', ["order_id", "pattern", "(?<=a)b", "RE2"]),
        ("minLength: 1", "format: uuid", ["order_id", "format", "not enforced"]),
        ("{exclusiveMinimum: 0}", "{multipleOf: 2}", ["price", "multipleOf", "supported"]),
        ("{exclusiveMinimum: 0}", "{minimum: low}", ["price", "'low'", "write a number"]),
        ("format: yyyy-MM-dd", "format: dd.MM.yyyy", ["due_on", "dd.MM.yyyy", "yyyy-MM-dd"]),
        ("2020-01-01T00:00:00Z", "2020-01-01T00:00:00", ["ordered_at", "minimum", "with a zone"]),
        ("value: ordered_at", "value: due_on", ["scale.eventTime", "due_on", "required timestamp"]),
        ("scale.eventTime", "scale.eventtime", ["scale.eventtime", "use", "scale.eventTime"]),
        ("primaryKeyPosition: 2", "primaryKeyPosition: 1", ["primaryKeyPosition", "1 to 2"]),
        ("name: paid", "name: line", ["line", "more than once"]),
        ("name: paid", "name: _paid", ["_paid", "rename"]),
        ("apiVersion: v3.1.0", "apiVersion: v2.2.2", ["apiVersion", "v2.2.2", "v3.1.0"]),
        ("version: 2.1.0", "tenant: shop", ["version is missing"]),
        ("metric: nullValues", "metric: rowCount", ["customer", "rowCount", "asset check"]),
        ("mustBe: 0}]\n      - name: price", "mustBe: 5}]\n      - name: price", ["mustBe: 0"]),
        ("[web, shop]", "[]", ["channel", "at least one value"]),
        ("[web, shop]", "[1, 2]", ["channel", "[1, 2]", "string"]),
        ('"pii:identifier", core', '"pii:identifier", "pii:contact"', ["customer", "several pii:"]),
        ("status: active", "statu: active", ["statu"]),
        ("  - name: orders", "  - name: [orders]", ["orders", "name"]),
    ],
)
def test_what_is_not_enforced_is_refused(old: str, new: str, parts: list[str]) -> None:
    assert ORDERS.count(old) >= 1

    with pytest.raises(ContractError) as refused:
        parse_contract(ORDERS.replace(old, new, 1), source="orders.odcs.yaml")

    for part in ["orders.odcs.yaml", *parts]:
        assert part in str(refused.value)


@pytest.mark.parametrize("text", ["", "- 1", "a: [", "apiVersion: v3.1.0\nversion: 1.0.0\n"])
def test_a_file_that_is_no_contract_is_refused_by_name(text: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.odcs.yaml"
    path.write_text(text)

    with pytest.raises(ContractError, match=r"broken\.odcs\.yaml"):
        load_contract(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=r"absent\.yaml.*cannot be read"):
        load_contract(tmp_path / "absent.yaml")


def test_a_binary_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "binary.yaml"
    path.write_bytes(b"\xff\xfe\x00")

    with pytest.raises(ContractError, match=r"binary\.yaml.*cannot be read"):
        load_contract(path)


@pytest.fixture(params=sorted(CONTRACTS.glob("*.odcs.yaml")), ids=lambda path: path.stem)
def declared(request: pytest.FixtureRequest) -> Contract:
    return load_contract(request.param)


def test_every_declared_contract_is_documented(declared: Contract) -> None:
    assert declared.description
    assert declared.owner
    assert declared.primary_key
    assert all(field.description for field in declared.fields)
    if "student_id" in declared.names:
        assert declared.pii_fields()["student_id"] == "identifier"
