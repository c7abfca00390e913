"""Columns to JSON text: whatever the values, json.loads gives them back."""

import json
from datetime import date

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from scale_assets.replay import lines

TEXTS = st.lists(st.none() | st.text(st.characters(exclude_categories=["Cs"])), max_size=8)
REALS = st.lists(st.none() | st.floats(allow_nan=False, allow_infinity=False), max_size=8)
WHOLES = st.lists(st.none() | st.integers(-(2**63), 2**63 - 1), max_size=8)
DAYS = st.lists(st.none() | st.dates(), max_size=8)


def parsed(texts: pa.Array) -> list[object]:
    return [json.loads(text) for text in texts.to_pylist()]


@given(values=TEXTS)
def test_text(values: list[str | None]) -> None:
    assert parsed(lines.json_text(pa.array(values, pa.string()))) == values


@given(values=REALS)
def test_reals_keep_every_bit_and_a_decimal_point(values: list[float | None]) -> None:
    texts = lines.json_real(pa.array(values, pa.float64()))

    assert parsed(texts) == values
    assert all(isinstance(value, float | None) for value in parsed(texts))


def test_nan_is_null() -> None:
    texts = lines.json_real(pa.array([float("nan"), 78.0]))

    assert texts.to_pylist() == ["null", "78.0"]


@given(values=WHOLES)
def test_wholes(values: list[int | None]) -> None:
    assert parsed(lines.json_whole(pa.array(values, pa.int64()))) == values


@given(values=DAYS)
def test_dates_and_midnights(values: list[date | None]) -> None:
    days = [None if value is None else (value - date(1970, 1, 1)).days for value in values]
    array = pa.array(days, pa.int64())

    assert parsed(lines.json_date(array)) == [value and str(value) for value in values]
    known = [value for value in values if value is not None]
    midnights = lines.json_midnight(array.drop_null())
    assert parsed(midnights) == [f"{value}T00:00:00Z" for value in known]


@given(values=WHOLES, skipped=st.integers(0, 8))
def test_bytes_of_a_slice_are_its_lines_alone(values: list[int | None], skipped: int) -> None:
    column = lines.json_whole(pa.array(values, pa.int64()))
    rows = lines.json_objects({"a": column, "b": pa.scalar('"x"')}, end="\n").slice(skipped)

    text = bytes(lines.line_bytes(rows)).decode()

    assert [json.loads(line) for line in text.splitlines()] == [
        {"a": value, "b": "x"} for value in values[skipped:]
    ]
