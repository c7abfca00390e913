"""Arrow schemas as Delta stores them, and data brought to a table's schema or refused."""

import pyarrow as pa
from deltalake import DeltaTable

from scale_assets.lake.errors import LakeError

_STORED_AS: dict[pa.DataType, pa.DataType] = {
    pa.large_string(): pa.string(),
    pa.string_view(): pa.string(),
    pa.large_binary(): pa.binary(),
    pa.binary_view(): pa.binary(),
    pa.date64(): pa.date32(),
    pa.uint8(): pa.int16(),
    pa.uint16(): pa.int32(),
    pa.uint32(): pa.int64(),
}


def arrow_schema(handle: DeltaTable) -> pa.Schema:
    """The table's schema in Arrow, normalised as ``delta_schema`` does."""
    return delta_schema(pa.schema(handle.schema().to_arrow()))


def delta_schema(schema: pa.Schema) -> pa.Schema:
    """The same columns with the one Arrow type that Delta has for each; all nullable."""
    return pa.schema([pa.field(field.name, stored_type(field.type)) for field in schema])


def stored_type(arrow_type: pa.DataType) -> pa.DataType:
    """The Arrow type that a column comes back with after a round trip through Delta."""
    if pa.types.is_dictionary(arrow_type):
        return stored_type(arrow_type.value_type)
    if pa.types.is_timestamp(arrow_type):
        return pa.timestamp("us", tz=None if arrow_type.tz is None else "UTC")
    if pa.types.is_list(arrow_type) or pa.types.is_large_list(arrow_type):
        return pa.list_(pa.field("element", stored_type(arrow_type.value_type)))
    if pa.types.is_struct(arrow_type):
        return pa.struct([pa.field(f.name, stored_type(f.type)) for f in arrow_type])
    return _STORED_AS.get(arrow_type, arrow_type)


def fit(data: pa.Table, schema: pa.Schema) -> pa.Table:
    """Data with exactly the schema: absent columns become null, nothing is dropped or rounded.

    Raises:
        LakeError: A column that the schema lacks, or a value that its type cannot hold.
    """
    unknown = [name for name in data.column_names if name not in schema.names]
    if unknown:
        raise LakeError(
            f"columns {unknown} are not in the table ({schema.names}); add or drop them"
        )
    columns = []
    for field in schema:
        if field.name not in data.column_names:
            columns.append(pa.nulls(data.num_rows, field.type))
            continue
        try:
            columns.append(data[field.name].cast(field.type))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            given = data.schema.field(field.name).type
            raise LakeError(f"column {field.name}: {given} to {field.type}: {error}") from error
    return pa.Table.from_arrays(columns, schema=schema)


def new_columns(table: str, *, wanted: pa.Schema, present: pa.Schema) -> list[pa.Field]:
    """Columns to add to a table so that it holds the wanted schema.

    Raises:
        LakeError: A column is there with another type, which Delta cannot change in place.
    """
    for field in wanted:
        if field.name in present.names and present.field(field.name).type != field.type:
            raise LakeError(
                f"table {table}, column {field.name}: is {present.field(field.name).type}, "
                f"wanted {field.type}; Delta cannot change a type in place, overwrite the table"
            )
    return [field for field in wanted if field.name not in present.names]
