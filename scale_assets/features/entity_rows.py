"""The entity rows of a point-in-time join, numbered in the caller's order, in DuckDB."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pyarrow as pa

from scale_assets.features.reader import quoted

if TYPE_CHECKING:
    import duckdb

_INTEGERS = {"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT"}
_INTEGERS |= {"UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "UHUGEINT"}
_FLOATS = {"FLOAT", "DOUBLE"}


@dataclass(frozen=True)
class EntityRows:
    """What the table entity_rows holds: _row, _time, and "entity <column>" of each column.

    ``first`` and ``last`` are the bounds of _time, in microseconds; None where no row has a time.
    """

    connection: "duckdb.DuckDBPyConnection"
    kinds: dict[str, str]
    count: int
    first: int | None
    last: int | None
    _most: dict[frozenset[str], int] = field(default_factory=dict)

    def most_per_entity(self, keys: Sequence[tuple[str, str]]) -> int:
        """The largest number of rows that share all keys; a null key is nobody's."""
        names = frozenset(name for name, _ in keys)
        if not names:
            return self.count
        if names not in self._most:
            columns = [quoted(f"entity {name}") for name in sorted(names)]
            known = " and ".join(f"{column} is not null" for column in columns)
            self._most[names] = self.connection.execute(
                "select coalesce(max(n), 0) from (select count(*) as n from entity_rows"
                f" where {known} group by {', '.join(columns)})"
            ).fetchall()[0][0]
        return self._most[names]

    def key_as(self, name: str, kind: str) -> str | None:
        """A key column as the history's type: what cannot be equal is null. None: not comparable."""
        column, own = quoted(f"entity {name}"), self.kinds[name]
        if own in (kind, '"NULL"'):
            return column
        if (own in _INTEGERS and kind in _INTEGERS) or (
            own.startswith("ENUM") and kind == "VARCHAR"
        ):
            return f"try_cast({column} as {kind})"
        if own in _FLOATS and kind in _INTEGERS:  # pandas makes floats of whole numbers with a gap
            return f"case when {column} = floor({column}) then try_cast({column} as {kind}) end"
        return None


def store_entities(
    connection: "duckdb.DuckDBPyConnection", entities: str | pa.Table, *, time: str
) -> EntityRows:
    """Number the rows; prefixed columns cannot collide with features' names."""
    source = entities if isinstance(entities, str) else "select * from caller_rows"
    if isinstance(entities, pa.Table):
        connection.register("caller_rows", entities)
    kinds = {row[0]: row[1] for row in connection.execute(f"describe {source}").fetchall()}
    moment = f"epoch_us({quoted(time)}::timestamptz)" if time in kinds else "null::bigint"
    renamed = ", ".join(f"{quoted(name)} as {quoted(f'entity {name}')}" for name in kinds)
    connection.execute(
        "create or replace table entity_rows as select row_number() over () as _row,"
        f" {moment} as _time, {renamed} from ({source})"
    )
    count, first, last = connection.execute(
        "select count(*), min(_time), max(_time) from entity_rows"
    ).fetchall()[0]
    return EntityRows(connection, kinds, count, first, last)
