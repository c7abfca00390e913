"""Typed tables keep the same rules as lines."""

import json
from datetime import UTC, date, datetime

import pyarrow as pa
import pytest

from scale_assets.contracts import Contract, Field, validate_lines, validate_table

FIELDS = (
    Field(name="site", type="integer", required=True, minimum=1),
    Field(name="kind", type="string", allowed=("quiz", "forum")),
    Field(name="weight", type="number"),
    Field(name="due", type="date"),
    Field(name="at", type="timestamp"),
)
SITES = Contract(name="sites", version="1", fields=FIELDS, primary_key=("site",))
NOON = datetime(2013, 2, 1, 12, tzinfo=UTC)


def test_typed_text_and_narrow_columns_become_the_contracts_types() -> None:
    table = pa.table(
        {
            "at": pa.array([NOON, None], pa.timestamp("ns", tz="Europe/London")),
            "site": pa.array([1, 2], pa.int16()),
            "kind": pa.array(["quiz", None]).dictionary_encode(),
            "weight": pa.array([1, 2], pa.int32()),
            "due": ["2013-02-01", None],
        }
    )

    validated = validate_table(SITES, table, first_position=5)

    assert validated.accepted.drop(["_position"]).schema == SITES.arrow_schema
    assert validated.accepted.to_pylist() == [
        {
            "site": 1,
            "kind": "quiz",
            "weight": 1.0,
            "due": date(2013, 2, 1),
            "at": NOON,
            "_position": 5,
        },
        {"site": 2, "kind": None, "weight": 2.0, "due": None, "at": None, "_position": 6},
    ]
    assert validated.quarantined.num_rows == 0


@pytest.mark.parametrize(
    ("columns", "rule", "field"),
    [
        ({"site": pa.array([1.0])}, "wrong_type", "site"),
        ({"site": pa.array(["1"])}, "wrong_type", "site"),
        ({"site": pa.array([True])}, "wrong_type", "site"),
        ({"site": pa.array([2**64 - 1], pa.uint64())}, "wrong_type", "site"),
        ({"site": pa.array([None], pa.int64())}, "missing_field", "site"),
        ({}, "missing_field", "site"),
        ({"site": [0]}, "out_of_range", "site"),
        ({"site": [1], "new": [1]}, "unknown_column", "new"),
        ({"site": [1], "kind": ["video"]}, "not_allowed", "kind"),
        ({"site": [1], "kind": [b"quiz"]}, "wrong_type", "kind"),
        ({"site": [1], "weight": [float("nan")]}, "out_of_range", "weight"),
        ({"site": [1], "due": ["01.02.2013"]}, "bad_format", "due"),
        ({"site": [1], "at": [datetime(2013, 2, 1)]}, "wrong_type", "at"),  # noqa: DTZ001
        ({"site": [1], "at": [date(2013, 2, 1)]}, "wrong_type", "at"),
        ({"site": [1], "at": ["2013-02-01T00:00:00"]}, "bad_format", "at"),
    ],
)
def test_each_bad_row_breaks_its_rule(columns: dict, rule: str, field: str) -> None:
    table = pa.table(columns) if columns else pa.table({"kind": ["quiz"]})

    validated = validate_table(SITES, table)

    assert validated.accepted.num_rows == 0
    (refused,) = validated.quarantined.to_pylist()
    assert (refused["rule"], refused["field"]) == (rule, field)
    assert json.loads(refused["raw"]).keys() == set(table.column_names)


def test_only_the_first_good_row_of_a_key_stays() -> None:
    table = pa.table({"site": [7, 7, 8, 7], "kind": ["video", "quiz", None, "forum"]})

    validated = validate_table(SITES, table)

    assert validated.accepted["_position"].to_pylist() == [1, 2]
    assert validated.quarantined["rule"].to_pylist() == ["not_allowed", "not_unique"]
    assert validated.quarantined["_position"].to_pylist() == [0, 3]
    assert validate_table(SITES, table, unique=False).accepted.num_rows == 3


def test_a_unique_field_may_be_null_more_than_once() -> None:
    slug = Field(name="slug", type="string", unique=True)
    contract = Contract(name="pages", version="1", fields=(slug,))

    validated = validate_table(contract, pa.table({"slug": ["a", None, None, "a"]}))

    assert validated.accepted["slug"].to_pylist() == ["a", None, None]


def test_a_column_given_twice_is_refused_with_both_values() -> None:
    table = pa.table([pa.array([1]), pa.array([2])], names=["site", "site"])

    (refused,) = validate_table(SITES, table).quarantined.to_pylist()

    assert refused["rule"] == "duplicate_key"
    assert json.loads(refused["raw"]) == {"site (1)": 1, "site (2)": 2}


def test_tables_and_lines_agree() -> None:
    rows = [
        {"site": 1, "kind": "quiz", "weight": 0.5, "due": "2013-02-01", "at": None},
        {"site": 0, "kind": "quiz", "weight": None, "due": None, "at": "2013-02-01T12:00:00Z"},
        {"site": 1, "kind": None, "weight": 1.0, "due": "2013-02-31", "at": None},
        {"site": 1, "kind": None, "weight": 1.0, "due": None, "at": None},
        {"site": None, "kind": "forum", "weight": 1.0, "due": None, "at": None},
    ]

    by_table = validate_table(SITES, pa.Table.from_pylist(rows))
    by_line = validate_lines(SITES, [json.dumps(row).encode() for row in rows], unique=True)

    assert by_table.accepted.equals(by_line.accepted)
    assert by_table.quarantined.drop(["raw"]).equals(by_line.quarantined.drop(["raw"]))


def test_no_rows() -> None:
    validated = validate_table(SITES, SITES.arrow_schema.empty_table())

    assert validated.num_received == 0
    assert validated.accepted.drop(["_position"]).schema == SITES.arrow_schema
