"""The C reader: it reads what JSON libraries write, exactly, and leaves what it is not sure of."""

import json
from datetime import UTC, date, datetime
from typing import Any

import hypothesis.strategies as st
import pyarrow as pa
import pytest
from hypothesis import example, given, settings

from scale_assets.contracts import Contract, Field, validate_lines
from scale_assets.contracts.columns import Columns, layout_of, read_columns
from scale_assets.contracts.decode import split_lines
from scale_assets.contracts.native import library

pytestmark = pytest.mark.skipif(not library.is_built(), reason="no C compiler built the reader")

FIELDS = (
    Field(name="key", type="string"),
    Field(name='say "a"', type="string"),
    Field(name="count", type="integer"),
    Field(name="ratio", type="number"),
    Field(name="flag", type="boolean"),
    Field(name="day", type="date"),
    Field(name="at", type="timestamp"),
)
CLOSED = Contract(name="closed", version="1", fields=FIELDS)
OPEN = Contract(name="open", version="1", fields=FIELDS, open=True)


def read(data: bytes, contract: Contract = CLOSED, max_line_bytes: int = 4096) -> Columns:
    layout = layout_of(contract)
    assert layout is not None
    return read_columns(layout, data, len(split_lines(data)), max_line_bytes)


RECORDS = st.fixed_dictionaries(
    {},
    optional={
        "key": st.none() | st.text(st.characters(exclude_categories=["Cs"])),
        'say "a"': st.text(st.characters(exclude_categories=["Cs"])),
        "count": st.none() | st.integers(-(2**63) + 1, 2**63 - 1),
        "ratio": st.floats(allow_nan=False, allow_infinity=False, allow_subnormal=False).filter(
            lambda value: value == 0 or 1e-200 < abs(value) < 1e200
        ),
        "flag": st.booleans(),
        "day": st.dates(),
        "at": st.datetimes(timezones=st.just(UTC)),
    },
)
WRITERS = st.tuples(st.booleans(), st.sampled_from([(",", ":"), (", ", ": "), (" ,\t", " :\r")]))


def _as_json(value: Any) -> Any:
    return value.isoformat() if isinstance(value, date | datetime) else value


def written(record: dict[str, Any], order: list[int], is_ascii: bool, separators: Any) -> bytes:
    names = sorted(record, key=lambda name: order[[f.name for f in FIELDS].index(name)])
    values = {name: _as_json(record[name]) for name in names}
    # Shortest digits as Python writes them: up to 17, so that some need an exact reader.
    text = json.dumps(values, ensure_ascii=is_ascii, separators=separators)
    return text.encode()


@given(records=st.lists(RECORDS, max_size=8), order=st.permutations(range(7)), writer=WRITERS)
@example(
    records=[{"ratio": 0.1 + 0.2}, {"ratio": 1e22}, {"ratio": -0.0}, {"count": 2**63 - 1}],
    order=[*range(7)],
    writer=(True, (",", ":")),
)
@settings(deadline=None)
def test_whatever_a_library_writes_is_read_as_it_was(
    records: list[dict[str, Any]], order: list[int], writer: tuple[bool, Any]
) -> None:
    found = read(b"\n".join(written(record, order, *writer) for record in records))

    expected = pa.Table.from_pylist(records, schema=CLOSED.arrow_schema)
    assert found.unsure.size == 0
    assert found.table.to_pylist() == expected.to_pylist()


@pytest.mark.parametrize(
    "line",
    [
        b'{"key":"a","key":"b"}',
        b'{"key":"\\ud800"}',
        b'{"key":"\xff"}',
        b'{"key":"\xed\xa0\x80"}',
        b'{"key":"a\tb"}',
        b'{"k\\u0065y":"a"}',
        b'{"key":"a"} x',
        b'{"key":"a",}',
        b'{"key":4}',
        b'{"count":4.0}',
        b'{"count":01}',
        b'{"count":9223372036854775808}',
        b'{"count":"4"}',
        b'{"count":true}',
        b'{"ratio":1e999}',
        b'{"ratio":.5}',
        b'{"ratio":NaN}',
        b'{"flag":1}',
        b'{"day":"2013-02-29"}',
        b'{"day":"0000-01-01"}',
        b'{"at":"2013-02-01T00:00:00"}',
        b'{"at":"2013-02-01T24:00:00Z"}',
        b'{"at":"2013-02-01T00:00:00.1234567Z"}',
        b'{"key":"' + b"x" * 4096 + b'"}',
        b"[]",
        b"null",
        b'{"key":"a"',
        b'{"new":1}',
    ],
)
def test_of_anything_else_it_is_not_sure(line: bytes) -> None:
    good = b'{"key":"before","count":1}'

    found = read(b"\n".join([good, line, good]))

    assert found.unsure.tolist() == [1]
    assert found.line(b"\n".join([good, line, good]), 1) == line
    assert found.lines.tolist() == [0, 2]
    assert found.table["key"].to_pylist() == ["before", "before"]


@pytest.mark.parametrize(
    ("value", "is_json"),
    [
        (b'{"a":[1,{"b":[],"c":{}}],"d":"\\u00e9"}', True),
        (b"[" * 60 + b"]" * 60, True),
        (b"[" * 61 + b"]" * 61, False),  # perhaps too deep for the strict reader
        (b"-1.5e+300000", True),
        (b'"\\ud800"', True),
        (b"[1,]", False),
        (b'{"a":1,}', False),
        (b'{"a"}', False),
        (b"{1:2}", False),
        (b"[1}", False),
        (b'{"a":1]', False),
        (b"[", False),
        (b"tru", False),
    ],
)
def test_what_an_open_contract_does_not_name_is_passed_over_if_it_is_json(
    value: bytes, is_json: bool
) -> None:
    found = read(b'{"new":' + value + b',"key":"a"}', OPEN)

    assert found.lines.tolist() == ([0] if is_json else [])


def test_times_in_other_zones_are_in_utc() -> None:
    found = read(b'{"at":"2013-02-01 01:30:00.25+01:30"}\n{"at":"1969-12-31T23:00:00-01:00"}')

    assert found.table["at"].to_pylist() == [
        datetime(2013, 2, 1, 0, 0, 0, 250_000, tzinfo=UTC),
        datetime(1970, 1, 1, tzinfo=UTC),
    ]


def test_blank_lines_are_neither_rows_nor_unsure() -> None:
    found = read(b'\n {"key":"a"} \r\n \t\r\n\n{"key":"b"}\n')

    assert (found.lines.tolist(), found.unsure.tolist()) == ([1, 4], [])


def test_lines_that_only_the_other_reader_takes_keep_their_place() -> None:
    lines = [b'{"key":"a"}', b'{"key":"b","day":"x"}', b'{"k\\u0065y":"c"}', b"", b'{"key":"d"}']

    found = validate_lines(CLOSED, b"\n".join(lines), first_position=10)

    assert found.num_received == 4
    assert found.accepted["key"].to_pylist() == ["a", "c", "d"]
    assert found.accepted["_position"].to_pylist() == [10, 12, 14]
    assert found.quarantined["_position"].to_pylist() == [11]


def test_an_array_or_a_decimal_is_left_to_the_other_reader() -> None:
    fields = (*FIELDS, Field(name="tags", type="array", items="string"))

    assert layout_of(Contract(name="c", version="1", fields=fields)) is None
