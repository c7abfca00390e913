"""Types that can grow: which ones hold every value of another, and columns brought to them."""

from dataclasses import dataclass

import pyarrow as pa
from deltalake import DeltaTable

from scale_assets.lake.commits import at_newest
from scale_assets.lake.errors import LakeError
from scale_assets.lake.fit import arrow_schema, fit
from scale_assets.lake.rewrite import rewrite

# Each type to the wider ones. A 64-bit integer beyond 2^53 has no double of its own: the cast of
# such a value fails, so that a column that holds one is refused, not rounded.
WIDER: dict[pa.DataType, tuple[pa.DataType, ...]] = {
    pa.int8(): (pa.int16(), pa.int32(), pa.int64(), pa.float32(), pa.float64()),
    pa.int16(): (pa.int32(), pa.int64(), pa.float32(), pa.float64()),
    pa.int32(): (pa.int64(), pa.float64()),
    pa.int64(): (pa.float64(),),
    pa.float32(): (pa.float64(),),
}


@dataclass(frozen=True, kw_only=True)
class Evolution:
    """What it takes to bring a table to a schema."""

    schema: pa.Schema  # the columns that it has then, in its order
    added: tuple[str, ...]
    widened: tuple[str, ...]  # their files must be rewritten, for Delta cannot do it in place


def holds(wide: pa.DataType, narrow: pa.DataType) -> bool:
    """Whether a type, another one, holds every value of the narrower."""
    if pa.types.is_decimal(wide) and pa.types.is_decimal(narrow):
        whole_digits = wide.precision - wide.scale, narrow.precision - narrow.scale
        is_other = (wide.precision, wide.scale) != (narrow.precision, narrow.scale)
        return is_other and wide.scale >= narrow.scale and whole_digits[0] >= whole_digits[1]
    return wide in WIDER.get(narrow, ())


def plan_evolution(table: str, *, present: pa.Schema, wanted: pa.Schema) -> Evolution:
    """How a table gets every wanted column, wide enough; a column that is wider already stays so.

    Raises:
        LakeError: A column has a type that does not hold the wanted one's values, nor the reverse.
    """
    fields = {field.name: field for field in present}
    added, widened = [], []
    for field in wanted:
        has = fields.setdefault(field.name, field).type
        if field.name not in present.names:
            added.append(field.name)
        elif holds(field.type, has):
            widened.append(field.name)
            fields[field.name] = field
        elif has != field.type and not holds(has, field.type):
            raise LakeError(
                f"table {table}, column {field.name}: is {has}, wanted {field.type}, and neither "
                "holds the other's values; add a column of a new name"
            )
    return Evolution(schema=pa.schema(fields.values()), added=tuple(added), widened=tuple(widened))


def widen(handle: DeltaTable, table: str, wanted: pa.Schema) -> DeltaTable:
    """Rewrite the table in one commit if a column must grow; readers see old or new, whole.

    Positions and transactions stay. Columns that are new come with the same commit.

    Raises:
        LakeError: A column cannot grow, or holds a value that the wider type has not.
        ConcurrentCommit: Another writer committed meanwhile.
    """
    present = arrow_schema(at_newest(handle))
    plan = plan_evolution(table, present=present, wanted=wanted)
    if plan.widened:
        try:
            rewrite(handle, lambda rows: fit(rows, plan.schema), schema=plan.schema)
        except LakeError as error:
            raise LakeError(
                f"table {table} cannot be widened: {error}; add a column of a new name"
            ) from error
    return handle
