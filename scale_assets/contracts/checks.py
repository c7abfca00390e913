"""The contract's constraints, column by column: an aggregate first, a mask only where it fails."""

from collections.abc import Iterator, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scale_assets.contracts.faults import Fault, Rule, shown
from scale_assets.contracts.model import Contract, Field

SAMPLE_ROWS = 1000  # of which a pattern's column is judged
FEW_DISTINCT = 10  # a distinct value in so many rows is few

Breach = tuple[Rule, pa.ChunkedArray, str]  # rule, mask of rows that break it, what was expected
Exempt = Mapping[str, pa.ChunkedArray | pa.Array]  # field to the rows that need no value of it


def check_table(
    contract: Contract,
    table: pa.Table,
    faults: dict[int, Fault],
    *,
    exempt: Exempt | None = None,
) -> None:
    """Add a fault for each row that breaks a constraint; a row's first fault stays.

    ``exempt`` rows (of a delete, say) may lack a required value.
    """
    for field in contract.fields:
        column = table.column(field.name)
        for rule, mask, expected in _breaches(field, column, (exempt or {}).get(field.name)):
            for row in rows_of(mask):
                if row not in faults:
                    got = shown(column[row].as_py())
                    faults[row] = Fault(rule, f"{field.name} {expected}, got {got}", field.name)


def rows_of(mask: pa.ChunkedArray | pa.Array) -> list[int]:
    """Row numbers where the mask is true; null counts as false."""
    filled = pc.fill_null(mask, False)
    return [int(row) for row in np.flatnonzero(filled.to_numpy(zero_copy_only=False))]


def _breaches(
    field: Field, column: pa.ChunkedArray, exempt: pa.ChunkedArray | pa.Array | None
) -> Iterator[Breach]:
    if field.required and column.null_count:
        missing = pc.is_null(column)
        missing = missing if exempt is None else pc.and_not(missing, exempt)
        yield Rule.MISSING_FIELD, missing, "is required"
    if field.type == "number":
        finite = pc.is_finite(column)
        if pc.all(finite).as_py() is False:
            yield Rule.OUT_OF_RANGE, pc.invert(finite), "must be a finite number"
    yield from _bounds(field, column)
    yield from _lengths(field, column)
    if field.pattern is not None:
        matches = _matches(column, field.pattern)
        if pc.all(matches).as_py() is False:
            yield Rule.BAD_PATTERN, pc.invert(matches), f"must match {field.pattern}"
    if field.allowed is not None:
        allowed = pa.array(field.allowed, type=field.arrow_type)
        known = pc.or_(pc.is_in(column, value_set=allowed), pc.is_null(column))
        if pc.all(known).as_py() is False:
            yield Rule.NOT_ALLOWED, pc.invert(known), f"must be one of {shown(field.allowed)}"


def _matches(column: pa.ChunkedArray, pattern: str) -> pa.ChunkedArray:
    """Which values match; where few are distinct, as codes and names often are, each once."""
    sample = pc.count_distinct(column.slice(0, SAMPLE_ROWS)).as_py()
    if len(column) > SAMPLE_ROWS and sample * FEW_DISTINCT < SAMPLE_ROWS:
        encoded = pc.dictionary_encode(column)
        chunks = [
            pc.match_substring_regex(chunk.dictionary, pattern).take(chunk.indices)
            for chunk in encoded.chunks
        ]
        return pa.chunked_array(chunks, pa.bool_())
    return pc.match_substring_regex(column, pattern)


def _bounds(field: Field, column: pa.ChunkedArray) -> Iterator[Breach]:
    for bound, broken, expected in (
        (field.minimum, pc.less, "must be at least"),
        (field.exclusive_minimum, pc.less_equal, "must be greater than"),
        (field.maximum, pc.greater, "must be at most"),
        (field.exclusive_maximum, pc.greater_equal, "must be less than"),
    ):
        if bound is None:
            continue
        mask = broken(column, pa.scalar(bound, type=field.arrow_type))
        if pc.any(mask).as_py():
            yield Rule.OUT_OF_RANGE, mask, f"{expected} {bound}"


def _lengths(field: Field, column: pa.ChunkedArray) -> Iterator[Breach]:
    if field.min_length is None and field.max_length is None:
        return
    lengths = pc.utf8_length(column)
    for bound, broken, expected in (
        (field.min_length, pc.less, "must have at least"),
        (field.max_length, pc.greater, "must have at most"),
    ):
        if bound is None:
            continue
        mask = broken(lengths, bound)
        if pc.any(mask).as_py():
            yield Rule.BAD_LENGTH, mask, f"{expected} {bound} characters"
