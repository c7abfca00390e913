"""A record that is surely valid is one that validate_lines accepts, whatever it holds."""

import json
from datetime import UTC, date, datetime
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import example, given, settings

from scale_assets.contracts import Contract, Field, RecordChecker, validate_lines

NEW_YEAR = datetime(2013, 1, 1, tzinfo=UTC)
CONTRACT = Contract(
    name="rows",
    version="1",
    primary_key=("key",),
    fields=(
        Field(name="key", type="string", required=True, min_length=1, max_length=4),
        Field(name="country", type="string", pattern="^[A-Z]{2}$"),
        Field(name="device", type="string", allowed=("phone", "desk")),
        Field(name="count", type="integer", minimum=0, exclusive_maximum=10),
        Field(name="level", type="integer", allowed=(0, 1)),
        Field(name="total", type="integer"),
        Field(name="ratio", type="number", exclusive_minimum=0, maximum=1),
        Field(name="flag", type="boolean"),
        Field(name="day", type="date", minimum=date(2013, 1, 1)),
        Field(name="at", type="timestamp", minimum=NEW_YEAR),
    ),
)
GOOD: dict[str, Any] = {
    "key": "a",
    "country": "NL",
    "device": "desk",
    "count": 9,
    "level": 1,
    "total": -(2**63),
    "ratio": 0.5,
    "flag": True,
    "day": "2013-02-01",
    "at": "2013-02-01T00:00:00.123456Z",
}
VALUES = st.one_of(
    st.sampled_from(
        [
            *(None, True, False, 0, 1, -1, 9, 10, 2**63 - 1, 2**63, -(2**63), 10**400),
            *(0.0, -0.0, 0.5, 1.0, 1.5, 1e308, 5e-324),
            *("", "a", "é", "😀", "abcd", "abcde", "\0", "NL", "NL\n", "nl", "\u0661", "desk"),
            *("2013-02-01", "2013-02-30", "2012-12-31", "9999-12-31", "2013-W05-5", "20130201"),
            *("2013-02-01T00:00:00Z", "2013-02-01T00:00:00.123Z", "2013-02-01T24:00:00Z"),
            *("0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "2012-12-31T23:59:59Z"),
            *("2013-02-01T00:00:00", "2013-02-01t00:00:00z", "2013-02-01T00:00:60Z"),
            *("\u0662013-02-01", "2013-02-01T00:00:00.123456Z\n", {}, [], {"a": 1}, [1]),
        ]
    ),
    st.text(max_size=5),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
)
RECORDS = st.dictionaries(st.sampled_from([*GOOD, "unknown"]), VALUES, max_size=4).map(
    lambda changes: {**GOOD, **changes}
)


def accepts(record: dict[str, Any]) -> bool:
    return validate_lines(CONTRACT, json.dumps(record).encode()).accepted.num_rows == 1


@settings(deadline=None, max_examples=300)
@given(records=st.lists(RECORDS, max_size=5))
@example(records=[{**GOOD, "at": "0001-01-01T00:00:00+23:59"}])
@example(records=[{**GOOD, "level": True}])
@example(records=[{**GOOD, "country": "NL\n"}, GOOD])
def test_what_is_surely_valid_is_accepted(records: list[dict[str, Any]]) -> None:
    sure = RecordChecker(CONTRACT).surely_valid(records)

    assert [
        record for record, ok in zip(records, sure, strict=True) if ok and not accepts(record)
    ] == []


def test_usual_records_are_sure() -> None:
    usual = [
        GOOD,
        {"key": "abcd"},
        {**GOOD, "at": "2013-02-01T00:00:00Z", "ratio": 1, "count": 0},
        {**GOOD, "country": None} | {"flag": False},
    ]
    usual[3].pop("country")

    assert RecordChecker(CONTRACT).surely_valid(usual) == [True] * 4


@pytest.mark.parametrize(
    "change",
    [
        {"key": None},
        {"key": ""},
        {"key": "abcde"},
        {"country": "nl"},
        {"device": "watch"},
        {"count": 10},
        {"count": 1.0},
        {"count": True},
        {"level": 2},
        {"total": 2**63},
        {"total": -(2**63) - 1},
        {"ratio": 0},
        {"ratio": float("nan")},
        {"flag": 1},
        {"day": "2012-12-31"},
        {"at": "2012-12-31T23:59:59Z"},
        {"at": "2013-02-30T00:00:00Z"},
        {"unknown": "x"},
        {"key": "\ud800"},
    ],
    ids=str,
)
def test_a_record_that_breaks_a_rule_is_never_sure(change: dict[str, Any]) -> None:
    assert RecordChecker(CONTRACT).surely_valid([GOOD, {**GOOD, **change}]) == [True, False]
