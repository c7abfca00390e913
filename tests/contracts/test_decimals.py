"""Decimals are exact, or refused; never rounded, whatever they were written as."""

import base64
import json
from decimal import Decimal, localcontext
from typing import Any

import hypothesis.strategies as st
import pyarrow as pa
import pytest
from hypothesis import given

from scale_assets.contracts import (
    Contract,
    Field,
    check_compatible,
    parse_contract,
    validate_lines,
    validate_table,
)
from scale_assets.contracts.decimals import from_base64, from_text, from_variable

PRICES = """\
apiVersion: v3.1.0
kind: DataContract
id: prices
version: 1.0.0
schema:
  - name: prices
    properties:
      - {name: id, logicalType: integer, primaryKey: true}
      - name: price
        logicalType: number
        physicalType: NUMERIC(6, 2)
        logicalTypeOptions: {minimum: 0.05, exclusiveMaximum: 5000}
"""
CONTRACT = parse_contract(PRICES, source="prices.odcs.yaml")


def written(unscaled: int) -> str:
    """As Java's BigInteger.toByteArray and Connect's JsonConverter write it."""
    size = unscaled.bit_length() // 8 + 1
    return base64.b64encode(unscaled.to_bytes(size, "big", signed=True)).decode()


def scaled(unscaled: int, scale: int) -> Decimal:
    with localcontext() as context:
        context.prec = 60
        return Decimal(unscaled).scaleb(-scale)


@given(
    integers=st.lists(
        st.one_of(st.integers(-(10**38), 10**38), st.integers(-(2**130), 2**130), st.none())
    ),
    precision=st.integers(1, 38),
    data=st.data(),
)
def test_base64_of_any_integer_is_read_or_refused(
    integers: list[int | None], precision: int, data: st.DataObject
) -> None:
    scale = data.draw(st.integers(0, precision))
    texts = [None if each is None else written(each) for each in integers]

    decimals, bad = from_base64(
        pa.chunked_array([texts], pa.string()), pa.decimal128(precision, scale)
    )

    for integer, decimal, is_bad in zip(
        integers, decimals.to_pylist(), bad.to_pylist(), strict=True
    ):
        fits = integer is not None and abs(integer) < 10**precision
        assert decimal == (scaled(integer, scale) if fits and integer is not None else None)
        assert is_bad == (integer is not None and not fits)


@pytest.mark.parametrize("text", ["", "A", "AQ=", "A===", "====", "*Q==", "AQ==AQ==", " AQ="])
def test_what_is_not_base64_is_refused(text: str) -> None:
    column = pa.chunked_array([[text, "AQ=="]])
    decimals, bad = from_base64(column, pa.decimal128(4, 0))

    assert (decimals.to_pylist(), bad.to_pylist()) == ([None, Decimal(1)], [True, False])


def test_a_slice_of_a_column_is_read_from_its_start() -> None:
    column = pa.chunked_array([pa.array(["AQ==", "Ag==", "Aw=="])[1:]])
    assert from_base64(column, pa.decimal128(4, 1))[0].to_pylist() == [
        *(Decimal("0.2"), Decimal("0.3"))
    ]


@given(unscaled=st.integers(-(10**9), 10**9), scale=st.integers(-3, 8))
def test_variable_scales_come_to_one_or_are_refused(unscaled: int, scale: int) -> None:
    column = pa.chunked_array([[{"scale": scale, "value": written(unscaled)}]])
    type_ = pa.decimal128(12, 4)

    (decimal,), (is_bad,) = (each.to_pylist() for each in from_variable(column, type_))

    exact = scaled(unscaled, scale)
    fits = exact == round(exact, 4) and abs(exact) < 10**8
    assert decimal == (exact if fits else None)
    assert is_bad == (not fits)


def test_one_bad_text_does_not_hide_the_others() -> None:
    texts = ["1.5", "x", None, "9" * 500, "12345", "0" * 60 + "1.50000", "1e-1"]
    decimals, bad = from_text(pa.chunked_array([texts]), pa.decimal128(4, 1))
    assert decimals.to_pylist() == [
        *(Decimal("1.5"), None, None, None, None, Decimal("1.5"), Decimal("0.1"))
    ]
    assert bad.to_pylist() == [False, True, False, True, True, False, False]


@pytest.mark.parametrize(
    ("price", "expected"),
    [
        ("12.34", Decimal("12.34")),
        ('"12.34"', Decimal("12.34")),
        ("12.300", Decimal("12.30")),
        ("1e2", Decimal(100)),
        ("0.05", Decimal("0.05")),
        ("12.345", "bad_format"),
        ("12345.6", "bad_format"),
        ("true", "wrong_type"),
        ('"twelve"', "bad_format"),
        ("0.04", "out_of_range"),
        ("5000", "out_of_range"),
        ("9" * 39, "bad_format"),
        ("9" * 500, "bad_format"),
        ('"' + "9" * 500 + '"', "bad_format"),
    ],
)
@pytest.mark.parametrize("num_good", [0, 100], ids=["alone", "among good rows"])
def test_a_record_gives_digits(price: str, expected: Any, num_good: int) -> None:
    good = b'{"id":1,"price":1}\n' * num_good
    data = good + f'{{"id":1,"price":{price}}}\n'.encode()

    rows = validate_lines(CONTRACT, data)

    if isinstance(expected, str):
        assert rows.quarantined["rule"].to_pylist() == [expected]
    else:
        assert rows.accepted["price"][num_good].as_py() == expected
        assert rows.accepted.schema.field("price").type == pa.decimal128(6, 2)


def test_a_table_gives_decimals_integers_or_digits() -> None:
    wider = pa.array([Decimal("1.5000"), Decimal("1.2345"), None], pa.decimal128(20, 4))
    table = pa.table({"id": [1, 2, 3], "price": wider})

    rows = validate_table(CONTRACT, table)

    assert rows.accepted["price"].to_pylist() == [Decimal("1.50"), None]
    (refused,) = rows.quarantined.to_pylist()
    assert refused["reason"] == "price must be a decimal(6,2) that needs no rounding, got '1.2345'"
    assert json.loads(refused["raw"])["price"] == "1.2345"
    whole = validate_table(CONTRACT, pa.table({"id": [1], "price": [7]}))
    assert whole.accepted["price"].to_pylist() == [Decimal(7)]
    double = validate_table(CONTRACT, pa.table({"id": [1], "price": [7.5]}))
    assert double.quarantined["rule"].to_pylist() == ["wrong_type"]


@pytest.mark.parametrize(
    ("precision", "scale", "rules"),
    [
        (8, 2, []),
        (8, 4, []),
        (7, 3, []),
        (6, 3, ["decimal_narrowed"]),
        (9, 1, ["decimal_narrowed"]),
        (5, 2, ["decimal_narrowed"]),
    ],
)
def test_a_decimal_may_only_get_wider(precision: int, scale: int, rules: list[str]) -> None:
    def priced(version: str, precision: int, scale: int) -> Contract:
        price = Field(name="price", type="decimal", precision=precision, scale=scale)
        return Contract(name="prices", version=version, fields=(price,))

    found = check_compatible(priced("1", 6, 2), priced("2", precision, scale))

    assert [violation.rule for violation in found] == rules
