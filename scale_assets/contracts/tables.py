"""Rows that arrive as tables (Parquet, CSV, SQL): the same rules, the same quarantine."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scale_assets.contracts.checks import rows_of
from scale_assets.contracts.decimals import from_text
from scale_assets.contracts.faults import Fault, Rule, shown
from scale_assets.contracts.model import Contract, Field
from scale_assets.contracts.uniqueness import repeated_keys
from scale_assets.contracts.validate import (
    POSITION,
    QUARANTINE_SCHEMA,
    Validated,
    quarantine_rows,
    to_contract,
)
from scale_assets.contracts.wire import expected


def validate_table(
    contract: Contract, table: pa.Table, *, unique: bool = True, first_position: int = 0
) -> Validated:
    """Validate typed rows; the raw bytes of a refused one are its values as JSON.

    Widths may differ (int32 for an integer, ns for a timestamp); kinds may not: a double is no
    integer and a time without a zone no timestamp. Text is parsed for dates and timestamps only.
    """
    faults: dict[int, Fault] = {}
    unknown = [name for name in table.column_names if name not in contract.names]
    if unknown and not contract.open:
        reason = f"{unknown[0]!r} is not a field of contract {contract.name} {contract.version}"
        fault = Fault(Rule.UNKNOWN_COLUMN, reason, unknown[0])
        faults = dict.fromkeys(range(table.num_rows), fault)
    wire = pa.table(
        [_wire_column(table, field, faults) for field in contract.fields],
        names=[field.name for field in contract.fields],
    )
    accepted = to_contract(contract, wire, faults).append_column(
        POSITION, pa.array(np.arange(table.num_rows) + first_position, POSITION.type)
    )
    accepted = _without(accepted, set(faults))
    if unique and accepted.num_rows:
        repeated = repeated_keys(contract, accepted)
        rows = accepted.column("_position").to_numpy() - first_position
        faults |= {int(rows[at]): fault for at, fault in repeated.items()}
        accepted = _without(accepted, set(repeated))
    return Validated(
        accepted=accepted.cast(contract.arrow_schema.append(POSITION)),
        quarantined=_quarantine(table, faults, first_position),
        num_received=table.num_rows,
    )


def _wire_column(table: pa.Table, field: Field, faults: dict[int, Fault]) -> pa.ChunkedArray:
    """The field's column as text or in the field's own kind; elsewhere null, with a fault each."""
    if table.column_names.count(field.name) != 1:
        if field.name in table.column_names:
            fault = Fault(Rule.DUPLICATE_KEY, f"{field.name} is given more than once", field.name)
            faults |= dict.fromkeys(range(table.num_rows), fault)
        return pa.chunked_array([pa.nulls(table.num_rows, field.arrow_type)])
    column = table.column(field.name)
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if field.type == "decimal" and (given := _digits(column)) is not None:
        return _decimals(given, field, faults)
    target = _wire_type(column.type, field)
    if target is not None:
        return column.cast(target, safe=not pa.types.is_timestamp(target))
    reason = f"{field.name} must be of type {field.type_name}, got {column.type}"
    for row in np.flatnonzero(pc.is_valid(column).to_numpy()):
        faults.setdefault(int(row), Fault(Rule.WRONG_TYPE, reason, field.name))
    return pa.chunked_array([pa.nulls(table.num_rows, field.arrow_type)])


def _digits(column: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """Numbers that are exact, as text; None where they are not."""
    type_ = column.type
    is_exact = pa.types.is_decimal(type_) or pa.types.is_integer(type_) or pa.types.is_string(type_)
    return column.cast(pa.string()) if is_exact or pa.types.is_large_string(type_) else None


def _decimals(digits: pa.ChunkedArray, field: Field, faults: dict[int, Fault]) -> pa.ChunkedArray:
    decimals, bad = from_text(digits, field.arrow_type)
    for row in rows_of(bad):
        reason = f"{field.name} must be {expected(field)}, got {shown(digits[row].as_py())}"
        faults.setdefault(row, Fault(Rule.BAD_FORMAT, reason, field.name))
    return pa.chunked_array([decimals])


def _wire_type(given: pa.DataType, field: Field) -> pa.DataType | None:
    """What to cast a column of type ``given`` to, without loss; None where the kinds differ."""
    is_text = pa.types.is_string(given) or pa.types.is_large_string(given)
    if pa.types.is_null(given):
        return field.arrow_type
    if is_text:
        return pa.string() if field.type in ("string", "date", "timestamp") else None
    kinds = {
        "integer": pa.types.is_integer(given) and given != pa.uint64(),
        "number": pa.types.is_floating(given) or pa.types.is_integer(given),
        "boolean": pa.types.is_boolean(given),
        "date": pa.types.is_date(given),
        "timestamp": pa.types.is_timestamp(given) and given.tz is not None,
        "array": given == field.arrow_type,
    }
    return field.arrow_type if kinds.get(field.type, False) else None


def _without(table: pa.Table, rows: set[int]) -> pa.Table:
    keep = np.ones(table.num_rows, dtype=bool)
    keep[list(rows)] = False
    return table.filter(pa.array(keep)) if rows else table


def _quarantine(table: pa.Table, faults: dict[int, Fault], first_position: int) -> pa.Table:
    rows = sorted(faults)
    if not rows:
        return QUARANTINE_SCHEMA.empty_table()
    refused = table.take(rows).rename_columns(_distinct(table.column_names)).to_pylist()
    raws = [json.dumps(row, default=str, ensure_ascii=False).encode() for row in refused]
    return quarantine_rows(rows, raws, faults, first_position)


def _distinct(names: list[str]) -> list[str]:
    """A table may name two columns alike, a JSON object may not."""
    return [
        name if names.count(name) == 1 else f"{name} ({names[: at + 1].count(name)})"
        for at, name in enumerate(names)
    ]
