"""The fast path accepts nothing that the strict path refuses, and reads the same values."""

import json
from dataclasses import replace

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, example, given, settings

from scale_assets.contracts import Contract, Field, validate_change_lines, validate_lines
from scale_assets.contracts import decode as decode_module
from scale_assets.contracts import validate as validate_module
from scale_assets.contracts.native import library

FIELDS = (
    Field(name="key", type="string", required=True, max_length=20),
    Field(name="count", type="integer", required=True, minimum=0),
    Field(name="ratio", type="number"),
    Field(name="flag", type="boolean"),
    Field(name="day", type="date"),
    Field(name="at", type="timestamp"),
    Field(name="price", type="decimal", precision=6, scale=2),
    Field(name="tags", type="array", items="string"),
    Field(name="marks", type="array", items="number"),
)
# The C reader leaves contracts with decimals and arrays to pyarrow.
PLAIN_FIELDS = tuple(field for field in FIELDS if field.type not in ("decimal", "array"))
CLOSED = Contract(name="closed", version="1", fields=FIELDS, primary_key=("key",))
OPEN = Contract(name="open", version="1", fields=FIELDS, primary_key=("key",), open=True)
PLAIN = replace(CLOSED, name="plain", fields=PLAIN_FIELDS)
OPEN_PLAIN = replace(PLAIN, name="open plain", open=True)
GOOD = (
    b'{"key":"a","count":1,"ratio":0.5,"flag":true,"day":"2013-02-01","at":"2013-02-01T00:00:00Z"}'
)
MAX_LINE_BYTES = 4096

# Values as written, so that what no JSON library would write is tried as well.
TOKENS = st.sampled_from(
    [
        *("0", "1", "-0", "-1", "4.0", "4.5", "1e2", "1e999", "-1e999", "1e-400", "01", "+1"),
        *(".5", "1.", "NaN", "-NaN", "Infinity", "-Infinity", "nan", "null", "true", "false"),
        *("True", "9223372036854775807", "9223372036854775808", "-9223372036854775808"),
        *("-9223372036854775809", "9" * 30, "9" * 500, "0.1", "1.7976931348623157e308"),
        *(
            '""',
            '"a"',
            '"4"',
            '"é"',
            '"😀"',
            '"\\u0000"',
            '"\\ud800"',
            '"\\udc00"',
            '"\\ud83d\\ude00"',
        ),
        *('"\\x"', '"a\tb"', '"\x7f"', '"' + "x" * 21 + '"', "'a'", '"2013-02-01"', '"2013-02-30"'),
        *('"2013-02-01T00:00:00Z"', '"2013-02-01T00:00:00"', '"2013-02-01T01:00:00.123456+01:00"'),
        *('"2013-02-01T00:00:00.1234567Z"', '"2013-02-01 00:00Z"', '"0000-01-01T00:00:00Z"'),
        *('"9999-12-31T23:59:59.999999-23:59"', '"2013-02-01T24:00:00Z"', '"NaN"', "1735689600000"),
        *("1.50", "1.555", "-1234.5", "12345", '"1.5"', '"+1"', '".5"', '"1e2"', "1E-2", '"1.555"'),
        *("12345.6", "9999.99", "10000.00", '"00000000001.50"', "1.50000000000000000000000000000"),
        *('"1_0"', '" 1.5"', '"1e999999"', '"1e-7"', "1000000000e-7", "0e99", '"-.5"', '"\\u0661"'),
        *('["a"]', '["a",null]', '["a",1]', "[1.5,null]", "[NaN]", "[1e999]", "[true]", '[["a"]]'),
        *("{}", "[]", "[1]", '{"a":1}', "[" * 70 + "]" * 70, '{"a":' * 70 + "1" + "}" * 70),
        *("", "1 2", "/**/1", '"open', "1}", '1}{"key":"b","count":2', "[1,", "{"),
    ]
)
KEYS = st.sampled_from(
    [
        '"key"',
        '"count"',
        '"ratio"',
        '"flag"',
        '"day"',
        '"at"',
        '"price"',
        '"tags"',
        '"marks"',
        '"k\\u0065y"',
        '"KEY"',
        '"new"',
        '""',
        "key",
    ]
)
TAILS = st.sampled_from([b"", b" ", b"\r", b"\t", b",", b"x", b"}", b"\0", b"\xff", b"{}", b"\x0b"])
HEADS = st.sampled_from([b"", b"", b"", b" ", b"\xef\xbb\xbf", b"\xff\xfe", b"[", b"\x1f\x8b"])
SCRATCHES = st.sampled_from([*(bytes([n]) for n in b'{}[]",:\\u09eE+-.tfn \xc3\x01'), b"", b"\\n"])
GAPS = st.sampled_from([":", " : ", ":\r"])


@st.composite
def objects(draw: st.DrawFn) -> bytes:
    """Mostly well-formed objects: a good one with some members replaced or added."""
    texts = [(json.dumps(name), json.dumps(value)) for name, value in json.loads(GOOD).items()]
    for key, token in draw(st.lists(st.tuples(KEYS, TOKENS), max_size=3)):
        if draw(st.booleans()):
            texts = [pair for pair in texts if pair[0] != key]
        texts.append((key, token))
    gap = draw(GAPS)
    return ("{" + ",".join(f"{key}{gap}{token}" for key, token in texts) + "}").encode()


@st.composite
def scraps(draw: st.DrawFn) -> bytes:
    """Arbitrary, truncated, wrapped or foreign lines."""
    text = draw(objects())
    cut = draw(st.integers(0, len(text)))
    kinds = ["cut", "changed", "wrapped", "binary", "blank", "long", "scalar"]
    kind = draw(st.sampled_from(kinds))
    return {
        "cut": text[:cut],
        "changed": text[:cut] + draw(SCRATCHES) + text[cut + draw(st.integers(0, 2)) :],
        "wrapped": draw(HEADS) + text + draw(TAILS),
        "binary": draw(st.binary(max_size=30)).replace(b"\n", b""),
        "blank": draw(st.sampled_from([b"", b" ", b"\r", b"\t \r"])),
        "long": b'{"key":"' + b"x" * MAX_LINE_BYTES + b'"}',
        "scalar": draw(TOKENS).encode(),
    }[kind]


LINES = st.lists(st.one_of(st.just(GOOD), objects(), objects(), scraps()), max_size=12)


HOSTILE = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(autouse=True)
def small_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the search reach single lines by the fast path, as it would not on small input."""
    monkeypatch.setattr(decode_module, "STRICT_BELOW_LINES", 2)


@pytest.fixture(params=["C", "pyarrow"])
def reader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What reads lines first: the C reader, or pyarrow as where it is not built."""
    if request.param == "pyarrow":
        monkeypatch.setattr(validate_module, "layout_of", lambda _: None)
    elif not library.is_built():
        pytest.skip("the C reader is not built: run make setup where there is a C compiler")
    return str(request.param)


def _strictly(validate, contract: Contract, lines: list[bytes], monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(decode_module, "fast_lines", lambda *_: decode_module.Refused())
        patch.setattr(validate_module, "layout_of", lambda _: None)
        return validate(contract, b"\n".join(lines) + b"\n", max_line_bytes=MAX_LINE_BYTES)


@pytest.mark.parametrize(
    "contract", [CLOSED, OPEN, PLAIN, OPEN_PLAIN], ids=lambda contract: contract.name
)
@given(lines=LINES)
@example(lines=[GOOD, b"null", GOOD])
@example(lines=[GOOD, b'{"key":"a","count":1,"ratio":NaN}', GOOD])
@example(lines=[GOOD, b'{"key":"a","count":1,"new":-Infinity}', GOOD])
@example(lines=[b'{"key":"a","count":1,', b'"ratio":1}{"key":"b","count":2}'])
@example(lines=[b'{"key":"a","count":1}{"key":"b","count":2}', b"", GOOD])
@example(lines=[b'{"key":"a","count":1,"new":' + b"[" * 1500 + b"]" * 1500 + b"}"])
@example(lines=[b'{"key":"a","count":1,"new":{}', b"{}}"])
@example(lines=[b'{"key":"a","count":1}\r', GOOD + b"\r"])
@example(lines=[b'{"key":"a","count":1}\r', GOOD])
@HOSTILE
def test_both_paths_give_the_same_tables(
    reader: str, contract: Contract, lines: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = b"\n".join(lines) + b"\n"
    mixed = validate_lines(contract, data, max_line_bytes=MAX_LINE_BYTES)
    strict = _strictly(validate_lines, contract, lines, monkeypatch)

    assert mixed.accepted.equals(strict.accepted)
    assert mixed.quarantined.equals(strict.quarantined)
    assert mixed.num_received == sum(1 for line in lines if line.strip(b" \t\r"))
    for raw, position in zip(
        mixed.quarantined["raw"].to_pylist(),
        mixed.quarantined["_position"].to_pylist(),
        strict=True,
    ):
        assert raw == lines[position]


@given(line=st.one_of(objects(), scraps()))
@HOSTILE
def test_a_line_fares_the_same_alone_and_among_others(
    reader: str, line: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = _strictly(validate_lines, PLAIN, [line], monkeypatch)
    among = validate_lines(PLAIN, b"\n".join([GOOD, line, GOOD]), max_line_bytes=MAX_LINE_BYTES)

    assert among.num_received == alone.num_received + 2
    assert among.quarantined.drop(["_position"]).equals(alone.quarantined.drop(["_position"]))
    middle = among.accepted.slice(1, alone.accepted.num_rows).drop(["_position"])
    assert middle.equals(alone.accepted.drop(["_position"]))


CHANGE_FIELDS = (
    *FIELDS[:-3],
    Field(name="price", type="decimal", precision=6, scale=2),
    Field(
        name="free",
        type="decimal",
        precision=6,
        scale=2,
        debezium_type="io.debezium.data.VariableScaleDecimal",
    ),
    Field(name="digits", type="decimal", precision=6, scale=2, debezium_type="string"),
    Field(name="clock", type="string", debezium_type="io.debezium.time.MicroTime"),
    Field(name="sent", type="timestamp", debezium_type="io.debezium.time.ZonedTimestamp"),
    Field(name="tags", type="array", items="string"),
)
CLOSED_CHANGES = replace(CLOSED, name="closed changes", fields=CHANGE_FIELDS)
OPEN_CHANGES = replace(CLOSED_CHANGES, name="open changes", open=True)
OPS = st.sampled_from(['"c"', '"u"', '"u"', '"d"', '"r"', '"t"', '"m"', "null", "1", '""'])
TIMES = st.sampled_from(["1000", "null", "1.5", '"1"', "9223372036854775807", "-99999999999999999"])
ROW = '{"key":"a","count":1,"ratio":1,"flag":null,"day":15000,"at":1359676800000000}'
EXTRA_VALUES = st.sampled_from(
    [
        *('"price":"AQ=="', '"price":"A"', '"price":"f////w=="', '"price":1', '"price":null'),
        *(
            '"free":{"scale":1,"value":"AQ=="}',
            '"free":{"scale":3,"value":"AQ=="}',
            '"free":"AQ=="',
        ),
        *('"free":{"value":"AQ=="}', '"free":{"scale":1,"value":"AQ==","x":1}', '"free":{}'),
        *('"free":{"scale":1,"scale":1}', '"free":{"scale":9e9}', '"free":{"scale":99999999999}'),
        *(
            '"digits":1.5',
            '"digits":"1.5"',
            '"digits":1e2',
            '"digits":1.555',
            '"digits":12345.6',
            '"digits":1e-9',
            '"digits":true',
        ),
        *('"clock":1', '"clock":-1', '"clock":86400000000', '"clock":"01:00"', '"clock":1.0'),
        *('"sent":"2013-02-01T00:00:00.123456789+01:00"', '"sent":"2013-02-01T00:00:00.1234567"'),
        *('"tags":["a"]', '"tags":[1]', '"tags":"a"', '"tags":["__debezium_unavailable_value"]'),
        *('"tags":[]', '"tags":[null]', '"key":"__debezium_unavailable_value"'),
        '"price":"X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ=="',
        '"free":{"scale":0,"value":"X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ=="}',
        '"sent":"__debezium_unavailable_value"',
        '"digits":"__debezium_unavailable_value"',
    ]
)
ROWS = st.one_of(
    st.just(ROW),
    st.just(ROW),
    st.just("null"),
    st.just(ROW.replace('"a"', '"b"')),
    st.lists(EXTRA_VALUES, min_size=1, max_size=3).map(
        lambda more: f"{ROW[:-1]},{','.join(more)}}}"
    ),
    st.sampled_from(
        [
            *('{"key":"a"}', '{"key":"a","count":1}', "{}", "[]", "1", '{"key":"a","new":1}'),
            *('{"key":"a","count":1,"day":"2013-02-01"}', '{"key":"a","count":1,"day":2.0}'),
            *('{"key":"a","count":1,"day":99999999999}', '{"key":"a","key":"b","count":1}'),
            *('{"key":null,"count":1}', '{"count":1}', '{"key":"a","count":-1}'),
        ]
    ),
)
SOURCES = st.one_of(
    TIMES.map(lambda time: f'{{"ts_ms":{time},"lsn":7,"txId":8,"db":"u"}}'),
    st.sampled_from(
        [
            *("null", "{}", "[]", '{"ts_ms":1,"lsn":"x"}', '{"ts_ms":1,"lsn":1,"lsn":2}'),
            *('{"ts_ms":1,"file":"bin.000003","pos":154,"row":2}', '{"ts_ms":1,"file":"","pos":0}'),
            '{"ts_ms":1,"file":"bin.99999999999999999999","pos":1}',
            '{"ts_ms":1,"file":"bin.3","pos":-1}',
            '{"ts_ms":1,"change_lsn":"00000027:00000758:0003","event_serial_no":2}',
            '{"ts_ms":1,"change_lsn":"NULL","commit_lsn":"00000027:00000758:0003"}',
            *('{"ts_ms":1,"scn":"123456"}', '{"ts_ms":1,"scn":""}', '{"ts_ms":1,"scn":1}'),
            *(
                '{"ts_ms":1,"db":"a","db":"b"}',
                '{"ts_ms":1,"x":[1,"a"]}',
                '{"ts_ms":1,"x":{"y":[]}}',
            ),
        ]
    ),
)
EXTRAS = st.sampled_from(
    [
        *("", "", ',"transaction":null', ',"transaction":{"id":"1"}', ',"op":"c"', ',"x":[1,"a"]'),
        *(",,", ',"transaction":{"id":"7","total_order":1,"data_collection_order":2,"x":0}'),
        *(',"transaction":7', ',"transaction":{"id":"7","id":"8"}', ',"transaction":{}'),
    ]
)
IGNORED = (
    '{"ts_ms":1}',
    '{"ts_ms":1,"ts_us":1000,"ts_ns":1000000}',
    '{"status":"BEGIN","id":"7","ts_ms":1,"event_count":null,"data_collections":null}',
    '{"status":"END","id":"7","event_count":1,"data_collections":[{"data_collection":"a"}]}',
    '{"source":{"ts_ms":1},"databaseName":"shop","ddl":"ALTER TABLE a","tableChanges":[]}',
    '{"op":"m","ts_ms":1,"source":{"ts_ms":1},"message":{"prefix":"a","content":"AQ=="}}',
    '{"schema":{},"payload":null}',
)
SCHEMA = '{"type":"struct","fields":[{"type":"int64","field":"count"}]}'


@st.composite
def envelopes(draw: st.DrawFn) -> bytes:
    text = (
        f'{{"before":{draw(ROWS)},"after":{draw(ROWS)},"source":{draw(SOURCES)},'
        f'"op":{draw(OPS)},"ts_ms":{draw(TIMES)}{draw(EXTRAS)}}}'
    )
    wrapping = draw(
        st.sampled_from(["{}", "{}", "{}", "wrapped", "swapped", "more", "null", "ignored"])
    )
    return {
        "{}": text,
        "wrapped": f'{{"schema":{SCHEMA},"payload":{text}}}',
        "swapped": f'{{"payload":{text},"schema":{SCHEMA}}}',
        "more": f'{{"schema":{SCHEMA},"payload":{text},"more":1}}',
        "null": "null",
        "ignored": draw(st.sampled_from(IGNORED)),
    }[wrapping].encode()


GOOD_CHANGE = (
    f'{{"before":null,"after":{ROW},"source":{{"ts_ms":1,"lsn":7}},"op":"c","ts_ms":2}}'.encode()
)
WRAPPED = b'{"schema":' + SCHEMA.encode() + b',"payload":' + GOOD_CHANGE + b"}"


@pytest.mark.parametrize("contract", [CLOSED_CHANGES, OPEN_CHANGES], ids=["closed", "open"])
@given(lines=st.lists(st.one_of(st.just(GOOD_CHANGE), st.just(WRAPPED), envelopes()), max_size=10))
@example(lines=[WRAPPED, WRAPPED])
@example(lines=[WRAPPED, WRAPPED[:-1] + b',"more":1}'])
@example(lines=[WRAPPED, GOOD_CHANGE, b"null", b" null "])
@example(lines=[GOOD_CHANGE.replace(b'"before":null', b'"before":{"digits":12345.6}')])
@example(lines=[GOOD_CHANGE.replace(b'"before":null', b'"before":{"ratio":1e999}')])
@HOSTILE
def test_both_paths_read_change_events_alike(
    contract: Contract, lines: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = b"\n".join(lines) + b"\n"
    mixed = validate_change_lines(contract, data, max_line_bytes=MAX_LINE_BYTES)
    strict = _strictly(validate_change_lines, contract, lines, monkeypatch)

    assert mixed.accepted.equals(strict.accepted)
    assert mixed.quarantined.equals(strict.quarantined)
    assert mixed.num_tombstones == sum(1 for line in lines if line.strip() == b"null")
    assert mixed.num_messages == strict.num_messages
    num_moves = mixed.accepted["_moved_from"].drop_null()
    assert mixed.num_received == len(lines) + len(num_moves)


def test_what_is_no_change_is_ignored_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [line.encode() for line in IGNORED]
    mixed = validate_change_lines(CLOSED_CHANGES, b"\n".join([GOOD_CHANGE, *lines, GOOD_CHANGE]))
    strict = _strictly(validate_change_lines, CLOSED_CHANGES, lines, monkeypatch)

    assert (mixed.accepted.num_rows, mixed.quarantined.num_rows) == (2, 0)
    assert mixed.num_messages == strict.num_messages == len(IGNORED)
