"""Verdicts in SQL against a naive rule, on values that JSON, numpy and DuckDB each write their way."""

import math
from collections.abc import Sequence
from typing import Any

import duckdb
import msgspec
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scale_assets.features.skew.columns import input_column

CONNECTION = duckdb.connect()  # one each would take most of the time
few = settings(max_examples=25, deadline=None)
KINDS = {
    "bool": (pa.bool_(), st.booleans()),
    "int32": (pa.int32(), st.integers(-(2**31), 2**31 - 1)),
    "int64": (pa.int64(), st.integers(-(2**53), 2**53)),
    "float64": (
        pa.float64(),
        st.floats(allow_infinity=False, width=64, min_value=-1e30, max_value=1e30),
    ),
    "string": (pa.string(), st.text(st.characters(exclude_categories=["Cs"]), max_size=5)),
}


def verdict_of(kind: str, dtype: str, served: Sequence[Any], lake: Sequence[Any]) -> list[str]:
    """What the SQL says of pairs; served values go through JSON, as in the log."""
    type_ = KINDS[kind.removeprefix("list<").removesuffix(">")][0]
    rows = pa.table(
        {
            "used": [msgspec.json.encode(value).decode() for value in served],
            "lake": pa.array(lake, pa.list_(type_) if kind.startswith("list<") else type_),
        }
    )
    column = input_column("f", kind, dtype, served="used::json", lake="lake")
    CONNECTION.register("rows", rows)
    found = CONNECTION.execute(f"select {column.verdict} from rows").fetchall()
    return [verdict for (verdict,) in found]


def fed(value: Any, dtype: str) -> Any:
    """A value as the graph is fed it, as JSON holds it."""
    if dtype == "string":
        return "" if value is None else str(value)
    as_number = np.array([math.nan if value is None else value], dtype=dtype)
    return as_number.tolist()[0]


def is_none(value: Any) -> bool:
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


def naive(served: Any, lake: Any) -> str:
    if is_none(served) or is_none(lake):
        return {(True, True): "equal", (True, False): "missing"}.get(
            (is_none(served), is_none(lake)), "extra"
        )
    return "equal" if served == lake else "different"


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [(kind, "float32") for kind in ("bool", "int32", "int64", "float64")]
    + [("float64", "float64"), ("int64", "float64"), ("string", "string")],
)
@few
@given(data=st.data())
def test_scalars(kind: str, dtype: str, data: st.DataObject) -> None:
    values = st.lists(st.none() | KINDS[kind][1], min_size=8, max_size=8)
    lake, others = data.draw(values), data.draw(values)
    right, wrong = ([fed(value, dtype) for value in each] for each in (lake, others))

    assert verdict_of(kind, dtype, right, lake) == ["equal"] * 8
    assert verdict_of(kind, dtype, wrong, lake) == [
        naive(a, b) for a, b in zip(wrong, right, strict=True)
    ]


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [("int64", "int64"), ("int64", "float32"), ("float64", "float32"), ("string", "string")],
)
@few
@given(data=st.data())
def test_lists(kind: str, dtype: str, data: st.DataObject) -> None:
    values = st.lists(st.lists(KINDS[kind][1], max_size=4), min_size=4, max_size=4)
    lake, others = data.draw(values), data.draw(values)
    cast = object if dtype == "string" else dtype
    right, wrong = ([np.array(v, dtype=cast).tolist() for v in each] for each in (lake, others))

    assert verdict_of(f"list<{kind}>", dtype, right, lake) == ["equal"] * 4
    assert verdict_of(f"list<{kind}>", dtype, wrong, lake) == [
        "equal" if np.array_equal(a, b, equal_nan=dtype != "string") else "different"
        for a, b in zip(wrong, right, strict=True)
    ]


@pytest.mark.parametrize(
    ("kind", "dtype", "served", "lake", "verdict"),
    [
        pytest.param("int64", "float32", 16777216.0, 16777217, "equal", id="as the graph has it"),
        pytest.param("int64", "float64", 16777216.0, 16777217, "different", id="as wide as it is"),
        pytest.param("float64", "int64", 3, 3.5, "different", id="a fraction that was cut off"),
        pytest.param("float64", "float32", 0.1, None, "extra", id="a default"),
        pytest.param("list<int64>", "int64", [], None, "extra", id="an empty list is a value"),
        pytest.param("list<int64>", "none", None, [1], "missing", id="no list"),
        pytest.param("list<string>", "none", None, None, "equal", id="no list on either side"),
        pytest.param("int64", "string", "7", 7, "equal", id="a number as a category"),
        pytest.param("string", "string", "a", " a", "different", id="a blank"),
    ],
)
def test_at_the_edges(kind: str, dtype: str, served: Any, lake: Any, verdict: str) -> None:
    assert verdict_of(kind, dtype, [served], [lake]) == [verdict]


def test_times_are_microseconds() -> None:
    column = input_column("f", "timestamp", "float64", served="'1e6'::json", lake="seen")
    seen = "select make_timestamptz(1000000) as seen"

    assert CONNECTION.execute(f"select {column.verdict} from ({seen})").fetchall() == [("equal",)]
