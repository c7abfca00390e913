"""Packed values come back bit for bit, and what cannot be packed is refused by name."""

from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scale_assets.features.codec import (
    TYPES,
    CodecError,
    Layout,
    entity_key,
    from_micros,
    schema_of,
    to_micros,
)

unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
INT64 = st.integers(-(2**63), 2**63 - 1)
FLOAT32 = st.floats(width=32)
TIMES = st.integers(0, 4_000_000_000_000_000)
VALUES = {
    "bool": st.booleans(),
    "int32": st.integers(-(2**31), 2**31 - 1),
    "int64": INT64,
    "float32": FLOAT32,
    "float64": st.floats(),
    "timestamp": INT64,
    "string": st.text(),
    "bytes": st.binary(),
    "list<string>": st.lists(st.text()),
}
VALUES |= {f"list<{kind}>": st.lists(VALUES[kind]) for kind in list(VALUES)[:6]}


@st.composite
def layouts_and_rows(draw: st.DrawFn) -> tuple[Layout, list[object]]:
    kinds = draw(st.lists(st.sampled_from(TYPES), max_size=20))
    layout = Layout(tuple((f"column {i}", kind) for i, kind in enumerate(kinds)))
    return layout, [draw(st.none() | VALUES[kind]) for kind in kinds]


@unhurried
@given(layouts_and_rows(), TIMES, TIMES)
def test_what_is_packed_comes_back(
    case: tuple[Layout, list], feature_time: int, known: int
) -> None:
    layout, values = case

    data = layout.encode(values, feature_time=feature_time, known_at=known)
    row = layout.decode(data)

    assert (to_micros(row.feature_time), to_micros(row.known_at)) == (feature_time, known)
    assert list(row.values) == [name for name, _ in layout.columns]
    for found, (name, kind), value in zip(row.values.values(), layout.columns, values, strict=True):
        assert _same(found, value), (name, kind)
    assert schema_of(data) == layout.schema
    assert (
        layout.encode(list(row.values.values()), feature_time=feature_time, known_at=known) == data
    )


@unhurried
@given(layouts_and_rows())
def test_a_layout_comes_back_from_its_text(case: tuple[Layout, list]) -> None:
    layout, _ = case

    assert Layout.parse(layout.text) == layout


def test_the_bytes_are_pinned() -> None:
    """A change here makes every stored value unreadable: raise VERSION and keep the old decoder."""
    layout = Layout((("clicks", "int32"), ("score", "float64"), ("name", "string")))

    data = layout.encode([7, None, "ada"], feature_time=1, known_at=2)

    assert data.hex() == (
        "01" + f"{layout.schema.to_bytes(8, 'little').hex()}" + "0100000000000000"
        "0200000000000000"
        "02"
        "07000000"
        "0000000000000000"
        "03000000"
        "616461"
    )
    assert layout.schema == Layout.parse("clicks int32\nscore float64\nname string").schema


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("int32", 2**31),
        ("int64", 1.5),
        ("int64", "7"),
        ("float32", 1e300),
        ("string", 7),
        ("list<int64>", [1, None]),
        ("list<int32>", [2**40]),
        ("list<string>", ["a", None]),
    ],
)
def test_a_value_of_another_type_is_refused_by_column(kind: str, value: object) -> None:
    layout = Layout((("fine", "int64"), ("clicks", kind)))

    with pytest.raises(CodecError, match="'clicks'"):
        layout.encode([1, value], feature_time=0, known_at=0)


def test_bytes_of_another_schema_are_refused() -> None:
    data = Layout((("a", "int64"),)).encode([1], feature_time=0, known_at=0)

    with pytest.raises(CodecError, match="schema"):
        Layout((("b", "int64"),)).decode(data)


def test_types_and_names_are_checked() -> None:
    with pytest.raises(CodecError, match="'decimal'"):
        Layout((("a", "decimal"),))
    with pytest.raises(CodecError, match="repeat"):
        Layout((("a", "int64"), ("a", "bool")))
    with pytest.raises(CodecError, match="1 values for 2"):
        Layout((("a", "int64"), ("b", "bool"))).encode([1], feature_time=0, known_at=0)


@unhurried
@given(st.dictionaries(st.sampled_from("abc"), st.text(), min_size=2), st.data())
def test_different_entities_have_different_keys(one: dict[str, str], data: st.DataObject) -> None:
    other = {name: data.draw(st.text()) for name in one}

    assert (entity_key(one) == entity_key(other)) == (one == other)


def test_a_single_join_key_is_its_text() -> None:
    assert entity_key({"registration_id": "FFF-2013B-7"}) == "FFF-2013B-7"
    assert entity_key({"user_id": 7}) == "7"
    assert entity_key({"b": "2", "a": "1"}) == entity_key({"a": "1", "b": "2"})


def test_naive_times_are_utc() -> None:
    noon = datetime(2013, 3, 31, 12)  # noqa: DTZ001

    assert from_micros(to_micros(noon)) == noon.replace(tzinfo=UTC)


def _same(found: object, value: object) -> bool:
    if value is None or found is None:
        return found is value
    if isinstance(value, list):
        equal_nan = bool(value) and isinstance(value[0], float)
        expected = np.array(value, dtype=found.dtype) if value else np.array([], found.dtype)
        return np.array_equal(found, expected, equal_nan=equal_nan)
    return found == value or bool(np.isnan(value) and np.isnan(found))
