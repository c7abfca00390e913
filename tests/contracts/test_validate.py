"""Known answers: which rule each bad line breaks, and that every received byte is accounted for."""

from datetime import UTC, date, datetime

import pytest

from scale_assets.contracts import QUARANTINE_SCHEMA, Contract, Field, validate_lines
from scale_assets.contracts import validate as validate_module

FIELDS = (
    Field(name="key", type="string", required=True, min_length=1, max_length=9, pattern="^[a-z]"),
    Field(name="count", type="integer", required=True, minimum=0, exclusive_maximum=1000),
    Field(name="ratio", type="number", exclusive_minimum=0.0, maximum=1.0),
    Field(name="flag", type="boolean"),
    Field(name="kind", type="string", allowed=("x", "y")),
    Field(name="day", type="date", minimum=date(2013, 1, 1)),
    Field(name="at", type="timestamp", maximum=datetime(2030, 1, 1, tzinfo=UTC)),
)
EVENTS = Contract(name="events", version="3", fields=FIELDS, primary_key=("key",))
GOOD = b'{"key":"a","count":1}'

BAD_LINES = [
    (b"{" + b"x" * 10_000, "too_large", None),
    (b'{"key":"\xff","count":1}', "not_utf8", None),
    (b'{"key":"a\\ud800","count":1}', "not_utf8", "key"),
    (b'{"key":"a","count":1', "not_json", None),
    (b"\x00\x01\x02\xfe", "not_utf8", None),
    (b"\x1f\x8b\x08", "not_utf8", None),
    (b'\xef\xbb\xbf{"key":"a","count":1}', "not_json", None),
    (b'{"key":"a","count":NaN}', "not_json", None),
    (b'{"key":"a","count":1,"ratio":-Infinity}', "not_json", None),
    (b'{"key":"a","count":1}{"key":"b","count":1}', "not_json", None),
    (b'{"key":"a","count":1,}', "not_json", None),
    (b'{"key":"a","count":' + b"[" * 900 + b"]" * 900 + b"}", "wrong_type", "count"),
    (b"[1]", "not_an_object", None),
    (b"null", "not_an_object", None),
    (b"7", "not_an_object", None),
    (b'{"key":"a","key":"b","count":1}', "duplicate_key", "key"),
    (b'{"key":"a","count":1,"extra":null}', "unknown_column", "extra"),
    (b'{"key":"a","count":1,"Key":"a"}', "unknown_column", "Key"),
    (b"{}", "missing_field", "key"),
    (b'{"key":null,"count":1}', "missing_field", "key"),
    (b'{"key":"a"}', "missing_field", "count"),
    (b'{"key":5,"count":1}', "wrong_type", "key"),
    (b'{"key":"a","count":4.0}', "wrong_type", "count"),
    (b'{"key":"a","count":1e2}', "wrong_type", "count"),
    (b'{"key":"a","count":"4"}', "wrong_type", "count"),
    (b'{"key":"a","count":true}', "wrong_type", "count"),
    (b'{"key":"a","count":{}}', "wrong_type", "count"),
    (b'{"key":"a","count":1,"ratio":"0.5"}', "wrong_type", "ratio"),
    (b'{"key":"a","count":1,"flag":1}', "wrong_type", "flag"),
    (b'{"key":"a","count":1,"at":1359676800}', "wrong_type", "at"),
    (b'{"key":"a","count":1,"at":"2013-02-01T00:00:00"}', "bad_format", "at"),
    (b'{"key":"a","count":1,"at":"2013-02-30T00:00:00Z"}', "bad_format", "at"),
    (b'{"key":"a","count":1,"at":"2013-02-01T00:00:00.1234567Z"}', "bad_format", "at"),
    (b'{"key":"a","count":1,"at":"0000-02-01T00:00:00Z"}', "bad_format", "at"),
    (b'{"key":"a","count":1,"at":""}', "bad_format", "at"),
    (b'{"key":"a","count":1,"day":"2013-2-1"}', "bad_format", "day"),
    (b'{"key":"a","count":1,"day":"2013-02-01T00:00:00Z"}', "bad_format", "day"),
    (b'{"key":"a","count":9223372036854775808}', "out_of_range", "count"),
    (b'{"key":"a","count":' + b"9" * 600 + b"}", "out_of_range", "count"),
    (b'{"key":"a","count":' + b"9" * 5000 + b"}", "out_of_range", "count"),
    (b'{"key":"a","count":1,"ratio":' + b"9" * 600 + b"}", "out_of_range", "ratio"),
    (b'{"key":"a","count":-1}', "out_of_range", "count"),
    (b'{"key":"a","count":1000}', "out_of_range", "count"),
    (b'{"key":"a","count":1,"ratio":1e999}', "out_of_range", "ratio"),
    (b'{"key":"a","count":1,"ratio":0}', "out_of_range", "ratio"),
    (b'{"key":"a","count":1,"ratio":1.0000001}', "out_of_range", "ratio"),
    (b'{"key":"a","count":1,"day":"2012-12-31"}', "out_of_range", "day"),
    (b'{"key":"a","count":1,"at":"2029-12-31T23:00:00-02:00"}', "out_of_range", "at"),
    (b'{"key":"","count":1}', "bad_length", "key"),
    (b'{"key":"abcdefghij","count":1}', "bad_length", "key"),
    (b'{"key":"A","count":1}', "bad_pattern", "key"),
    (b'{"key":"a","count":1,"kind":"z"}', "not_allowed", "kind"),
]


@pytest.mark.parametrize("num_good", [0, 200], ids=["alone", "among good lines"])
@pytest.mark.parametrize(("line", "rule", "field"), BAD_LINES)
def test_each_bad_line_breaks_its_rule(
    line: bytes, rule: str, field: str | None, num_good: int
) -> None:
    lines = [GOOD] * num_good + [line] + [GOOD] * num_good

    validated = validate_lines(EVENTS, b"\n".join(lines), max_line_bytes=9999)

    assert validated.accepted.num_rows == 2 * num_good
    (refused,) = validated.quarantined.to_pylist()
    assert (refused["rule"], refused["field"]) == (rule, field)
    assert refused["raw"] == line
    assert refused["_position"] == num_good
    assert field is None or field in refused["reason"]


GOOD_VALUES = [
    (b'"count":-0', {"count": 0}),
    (b'"count":0,"ratio":1', {"ratio": 1.0}),
    (b'"count":0,"ratio":null,"flag":null', {"ratio": None, "flag": None}),
    (b'"count":0,"c\\u006fmment":1', None),
    (b'"c\\u006funt":7', {"count": 7}),
    (b'"count":0,"day":"2013-02-01"', {"day": date(2013, 2, 1)}),
    (
        b'"count":0,"at":"2013-02-01T01:30:00.5+01:30"',
        {"at": datetime(2013, 2, 1, 0, 0, 0, 500_000, tzinfo=UTC)},
    ),
    (b'"count":0,"at":"2013-02-01 00:00Z"', {"at": datetime(2013, 2, 1, tzinfo=UTC)}),
]


@pytest.mark.parametrize(("members", "expected"), GOOD_VALUES)
def test_values_are_read_as_written(members: bytes, expected: dict[str, object] | None) -> None:
    validated = validate_lines(EVENTS, b'{"key":"a",' + members + b"}\n")

    rows = validated.accepted.to_pylist()
    assert [{name: row[name] for name in expected or ()} for row in rows] == (
        [expected] if expected is not None else []
    )


def test_an_open_contract_drops_columns_that_it_does_not_name() -> None:
    opened = Contract(name="events", version="3", fields=FIELDS, open=True)
    line = b'{"new":[{"deep":1}],"key":"a","count":1,"other":"x"}'

    validated = validate_lines(opened, line)

    assert validated.accepted.column_names == [*(f.name for f in FIELDS), "_position"]
    assert validated.accepted.num_rows == 1


@pytest.mark.parametrize("data", [b"", b"\n", b"\n \r\n\t\n", [], [b""]])
def test_nothing_received_gives_empty_tables(data: bytes | list[bytes]) -> None:
    validated = validate_lines(EVENTS, data)

    assert validated.num_received == 0
    assert validated.accepted.schema.remove(len(FIELDS)) == EVENTS.arrow_schema
    assert validated.quarantined.schema == QUARANTINE_SCHEMA


def test_blank_lines_take_a_number_but_are_not_received() -> None:
    data = b"\n" + GOOD + b"\r\n  \r\nx\n\n" + GOOD

    validated = validate_lines(EVENTS, data, first_position=100)

    assert validated.num_received == 3
    assert validated.accepted["_position"].to_pylist() == [101, 105]
    assert validated.quarantined["_position"].to_pylist() == [103]


def test_bytes_memoryviews_and_iterables_are_the_same() -> None:
    lines = [GOOD, b"bad", b'{"key":"b","count":2}']
    data = b"\n".join(lines)

    expected = validate_lines(EVENTS, data)
    for same in (data + b"\n", memoryview(data), bytearray(data), lines, map(memoryview, lines)):
        validated = validate_lines(EVENTS, same)
        assert validated.accepted.equals(expected.accepted)
        assert validated.quarantined.equals(expected.quarantined)


def test_a_record_of_an_iterable_may_span_lines() -> None:
    spread = b'{"key":"b",\n"count":2}'
    broken = b'{"key":"b",\n"count":2'

    validated = validate_lines(EVENTS, [GOOD, spread, GOOD, broken, GOOD])

    assert validated.accepted["_position"].to_pylist() == [0, 1, 2, 4]
    assert validated.quarantined["raw"].to_pylist() == [broken]


def test_blocks_join_seamlessly(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [b'{"key":"k","count":%d}' % at if at % 7 else b"bad %d" % at for at in range(1000)]
    data = b"\n".join(lines)
    whole = validate_lines(EVENTS, data, first_position=5)

    monkeypatch.setattr(validate_module, "BLOCK_BYTES", 200)
    cut = validate_lines(EVENTS, data, first_position=5)

    assert whole.accepted["_position"].to_pylist() == [at + 5 for at in range(1000) if at % 7]
    assert cut.accepted.combine_chunks().equals(whole.accepted.combine_chunks())
    assert cut.quarantined.combine_chunks().equals(whole.quarantined.combine_chunks())


def test_a_line_of_5_mb_is_kept_whole() -> None:
    huge = b'{"key":"' + b"x" * 5_000_000 + b'","count":1}'

    validated = validate_lines(EVENTS, b"\n".join([GOOD, huge, GOOD]))

    (refused,) = validated.quarantined.to_pylist()
    assert refused["raw"] == huge
    assert refused["rule"] == "too_large"
    assert len(refused["reason"]) < 200
    assert validated.accepted["_position"].to_pylist() == [0, 2]


@pytest.mark.parametrize("depth", [100, 5_000, 200_000])
@pytest.mark.parametrize("is_open", [False, True], ids=["closed", "open"])
def test_deep_nesting_neither_crashes_nor_passes_unread(depth: int, is_open: bool) -> None:
    contract = Contract(name="events", version="3", fields=FIELDS, open=is_open)
    line = b'{"key":"a","count":1,"new":' + b"[" * depth + b"]" * depth + b"}"

    validated = validate_lines(contract, [GOOD, line])

    rules = validated.quarantined["rule"].to_pylist()
    readable = "unknown_column" if not is_open else None
    assert rules in ([["not_json"]] if depth > 500 else [[readable]] if readable else [[]])


@pytest.mark.parametrize("num_lines", [40, 100, 1000, 2048, 2049, 5000])
def test_an_object_too_many_on_the_last_line_ends_the_search(num_lines: int) -> None:
    last = b'{"key":"a","count":1}{"key":"b","count":"x"}'

    validated = validate_lines(EVENTS, [*[GOOD] * (num_lines - 1), last])

    assert validated.num_received == num_lines
    assert validated.quarantined["raw"].to_pylist() == [last]


def test_a_snapshot_may_name_a_key_once() -> None:
    lines = [b'{"key":"a","count":1}', b'{"key":"b","count":2}', b'{"key":"a","count":3}', b"bad"]

    validated = validate_lines(EVENTS, lines, unique=True, first_position=10)

    assert validated.accepted["count"].to_pylist() == [1, 2]
    assert validated.num_received == 4
    assert validated.quarantined["rule"].to_pylist() == ["not_unique", "not_json"]
    assert validated.quarantined["_position"].to_pylist() == [12, 13]
    assert validated.quarantined["raw"].to_pylist() == lines[2:]
