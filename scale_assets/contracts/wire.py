"""Wire values to contract types: dates and times are read here, for every path alike."""

import pyarrow as pa
import pyarrow.compute as pc

from scale_assets.contracts.decimals import from_base64, from_variable
from scale_assets.contracts.encodings import encoding_of
from scale_assets.contracts.model import Field

# ISO 8601 with a zone, down to microseconds; what the shape allows and the calendar does not
# (30 February) is found by the cast.
TIMESTAMP_SHAPE = r"^\d{4}-\d\d-\d\d[T ]\d\d(:\d\d(:\d\d(\.\d{1,6})?)?)?(Z|[+-]\d\d(:?\d\d)?)$"
DATE_SHAPE = r"^\d{4}-\d\d-\d\d$"
SHAPES = {"timestamp": TIMESTAMP_SHAPE, "date": DATE_SHAPE}
EXPECTED = {
    "timestamp": "an ISO 8601 time with a zone, such as 2013-02-01T00:00:00Z",
    "date": "a date such as 2013-02-01",
}
LONG_FRACTION = r"(\.\d{6})\d{1,3}(Z|[+-]\d\d(:?\d\d)?)$"
FIRST_DAY, LAST_DAY = -719_162, 2_932_896  # 0001-01-01 and 9999-12-31, which Python can hold
COUNTS_PER_DAY = {"days": 1, "ms": 86_400 * 10**3, "us": 86_400 * 10**6, "ns": 86_400 * 10**9}


def expected(field: Field) -> str:
    """What a value of the field should have been, for its reader."""
    if field.type == "string":
        return "a time of day, counted from midnight and less than a day"
    return EXPECTED.get(field.type) or f"a {field.type_name} that needs no rounding"


def to_contract_type(column: pa.ChunkedArray, field: Field) -> tuple[pa.ChunkedArray, pa.Array]:
    """The column in the field's type, and a mask of values that could not be read (null there)."""
    if column.type == field.arrow_type:  # typed at the source
        none = none_bad(len(column))
        return keep_representable(column, none) if field.type in SHAPES else (column, none)
    if field.type == "decimal":
        read = from_variable if pa.types.is_struct(column.type) else from_base64
        decimals, bad = read(column, field.arrow_type)
        return pa.chunked_array([decimals]), bad
    if pa.types.is_integer(column.type):
        to_time = count_to_clock if field.type == "string" else count_to_time
        return to_time(column, field.arrow_type, unit=encoding_of(field))
    parsed, bad = parse_text(column, field)
    return keep_representable(parsed, bad)


def count_to_time(
    column: pa.ChunkedArray, type_: pa.DataType, *, unit: str
) -> tuple[pa.ChunkedArray, pa.Array]:
    """Days, ms, us or ns since 1970 to a date or time; below a microsecond is cut off."""
    per_day = COUNTS_PER_DAY[unit]
    inside = _between(column, FIRST_DAY * per_day, (LAST_DAY + 1) * per_day - 1)
    bad = pc.invert(pc.fill_null(inside, True))
    kept = pc.if_else(bad, pa.scalar(None, pa.int64()), column) if pc.any(bad).as_py() else column
    if unit == "days":
        return kept.cast(pa.int32()).cast(type_), bad.combine_chunks()
    ticks = kept.cast(pa.timestamp(unit, tz="UTC"))
    return ticks.cast(type_, safe=unit != "ns"), bad.combine_chunks()


def count_to_clock(
    column: pa.ChunkedArray, type_: pa.DataType, *, unit: str
) -> tuple[pa.ChunkedArray, pa.Array]:
    """ms, us or ns since midnight to HH:MM:SS.ffffff; below a microsecond is cut off."""
    inside = _between(column, 0, COUNTS_PER_DAY[unit] - 1)
    bad = pc.invert(pc.fill_null(inside, True))
    kept = pc.if_else(bad, pa.scalar(None, pa.int64()), column)
    clock = kept.cast(pa.int32()).cast(pa.time32("ms")) if unit == "ms" else kept
    return clock.cast(pa.time64("us" if unit == "ms" else unit)).cast(
        pa.time64("us"), safe=False
    ).cast(type_), bad.combine_chunks()


def parse_text(column: pa.ChunkedArray, field: Field) -> tuple[pa.ChunkedArray, pa.Array]:
    """Strings to dates or times."""
    try:  # the whole column first: it is the usual case
        return column.cast(field.arrow_type), none_bad(len(column))
    except pa.ArrowInvalid:
        pass
    column = _as_debezium_writes(column, field)
    shaped = pc.match_substring_regex(column, SHAPES[field.type])
    candidates = pc.if_else(shaped, column, None)
    parsed = pa.chunked_array([_cast_each(candidates, field.arrow_type)])
    bad = pc.and_(pc.is_valid(column), pc.is_null(parsed))
    return parsed, bad.combine_chunks()


def _as_debezium_writes(column: pa.ChunkedArray, field: Field) -> pa.ChunkedArray:
    """Its dates say that they are in UTC, its times go down to the nanosecond, which is cut off."""
    if field.debezium_type is None:
        return column
    if field.type == "date":
        return pc.replace_substring_regex(column, "^(.{10})Z$", r"\1")
    return pc.replace_substring_regex(column, LONG_FRACTION, r"\1\2")


def _cast_each(column: pa.ChunkedArray, type_: pa.DataType) -> pa.Array:
    """Cast in halves until what remains refused is a single value, which becomes null."""
    array = column.combine_chunks()
    try:
        return array.cast(type_)
    except pa.ArrowInvalid:
        if len(array) == 1:
            return pa.nulls(1, type_)
    middle = len(array) // 2
    halves = [pa.chunked_array([array[:middle]]), pa.chunked_array([array[middle:]])]
    return pa.concat_arrays([_cast_each(half, type_) for half in halves])


def keep_representable(column: pa.ChunkedArray, bad: pa.Array) -> tuple[pa.ChunkedArray, pa.Array]:
    """Null what lies outside years 1 to 9999, which neither Python nor Delta readers can show."""
    days = pa.types.is_date32(column.type)
    per_day = 1 if days else COUNTS_PER_DAY["us"]
    numbers = (column.cast(pa.int32()) if days else column).cast(pa.int64())
    inside = _between(numbers, FIRST_DAY * per_day, (LAST_DAY + 1) * per_day - 1)
    if pc.all(inside).as_py() is not False:
        return column, bad
    outside = pc.invert(pc.fill_null(inside, True)).combine_chunks()
    return pc.if_else(outside, pa.scalar(None, column.type), column), pc.or_(bad, outside)


def _between(numbers: pa.ChunkedArray, low: int, high: int) -> pa.ChunkedArray:
    lowest, highest = max(low, -(2**63)), min(high, 2**63 - 1)
    return pc.and_(pc.greater_equal(numbers, lowest), pc.less_equal(numbers, highest))


def none_bad(length: int) -> pa.Array:
    return pa.repeat(False, length)
