"""Arrow types in DuckDB's words."""

import pyarrow as pa

from scale_assets.lake.errors import LakeError

_PLAIN: dict[pa.DataType, str] = {
    pa.bool_(): "BOOLEAN",
    pa.int8(): "TINYINT",
    pa.int16(): "SMALLINT",
    pa.int32(): "INTEGER",
    pa.int64(): "BIGINT",
    pa.float32(): "FLOAT",
    pa.float64(): "DOUBLE",
    pa.string(): "VARCHAR",
    pa.large_string(): "VARCHAR",
    pa.string_view(): "VARCHAR",
    pa.binary(): "BLOB",
    pa.large_binary(): "BLOB",
    pa.binary_view(): "BLOB",
    pa.date32(): "DATE",
}


def duckdb_type(arrow_type: pa.DataType) -> str:
    """The DuckDB type that holds every value of an Arrow type that Delta knows.

    Raises:
        LakeError: A type that no Delta table has.
    """
    if arrow_type in _PLAIN:
        return _PLAIN[arrow_type]
    if pa.types.is_timestamp(arrow_type):
        return "TIMESTAMP" if arrow_type.tz is None else "TIMESTAMPTZ"
    if pa.types.is_decimal(arrow_type):
        return f"DECIMAL({arrow_type.precision}, {arrow_type.scale})"
    if pa.types.is_list(arrow_type) or pa.types.is_large_list(arrow_type):
        return duckdb_type(arrow_type.value_type) + "[]"
    if pa.types.is_map(arrow_type):
        return f"MAP({duckdb_type(arrow_type.key_type)}, {duckdb_type(arrow_type.item_type)})"
    if pa.types.is_struct(arrow_type):
        members = (f"{quoted(field.name)} {duckdb_type(field.type)}" for field in arrow_type)
        return f"STRUCT({', '.join(members)})"
    raise LakeError(f"no DuckDB type for Arrow type {arrow_type}; cast the column first")


def quoted(identifier: str) -> str:
    """An identifier as SQL writes it, whatever its letters."""
    return '"' + identifier.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A string as SQL writes it."""
    return "'" + text.replace("'", "''") + "'"
