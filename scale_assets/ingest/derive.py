"""The current rows and their history, derived from one version of a table of changes."""

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from scale_assets.contracts import Contract
from scale_assets.lake import Lake
from scale_assets.lake.duckdb_types import quoted


@dataclass(frozen=True, kw_only=True)
class Derived:
    """A derived table: its version, and which version of the changes it shows."""

    table: str
    version: int
    changes_version: int
    num_rows: int
    is_rewritten: bool


def current_schema(contract: Contract) -> pa.Schema:
    """Columns of the table that ``derive_current`` makes."""
    return pa.schema([*contract.arrow_schema, _time("event_time"), _time("received_at")])


def history_schema(contract: Contract) -> pa.Schema:
    """Columns of the table that ``derive_history`` makes."""
    times = [_time(name) for name in ("valid_from", "valid_to", "received_at")]
    return pa.schema([*contract.arrow_schema, pa.field("op", pa.string()), *times])


def derive_current(lake: Lake, contract: Contract, *, changes: str, table: str) -> Derived:
    """One row per key that exists: its newest values, and when they happened and reached us."""
    columns = _names([field.name for field in contract.fields])
    sql = f"""
        select {columns}, event_time, received_at
        from ({{changes}})
        qualify row_number() over (
            partition by {_names(contract.primary_key)} order by {_ORDER_DESC}
        ) = 1 and op <> 'd'
        order by {_names(contract.primary_key)}
    """
    return _derive(lake, sql, changes=changes, table=table)


def derive_history(lake: Lake, contract: Contract, *, changes: str, table: str) -> Derived:
    """One row per change: values valid from its event_time to the key's next change, or open.

    A delete is a row too (op = 'd'): from then on the key did not exist.
    """
    columns = _names([field.name for field in contract.fields])
    sql = f"""
        select
            {columns}, op,
            event_time as valid_from,
            lead(event_time) over (
                partition by {_names(contract.primary_key)} order by {_ORDER}
            ) as valid_to,
            received_at
        from ({{changes}})
        order by {_names(contract.primary_key)}, {_ORDER}
    """
    return _derive(lake, sql, changes=changes, table=table)


# Changes without an lsn (a source's first snapshot, a source without a log) come first, as read.
_SORT = ("lsn", "tx_ordinal", "_source_file", "_position")
_ORDER = ", ".join(f"{name} asc nulls first" for name in _SORT)
_ORDER_DESC = ", ".join(f"{name} desc nulls last" for name in _SORT)


def _derive(lake: Lake, sql: str, *, changes: str, table: str) -> Derived:
    """Rewrite the table in one commit, unless it already shows the changes' newest version."""
    import duckdb

    changes_version = lake.version(changes)
    is_rewritten = (
        not lake.exists(table)
        or lake.last_metadata(table).get("changes_version") != changes_version
    )
    if is_rewritten:
        snapshot = lake.duckdb_relation_sql(changes, version=changes_version)
        with duckdb.connect() as connection:
            connection.execute("set TimeZone = 'UTC'")
            rows = connection.sql(sql.format(changes=snapshot)).to_arrow_reader()
            lake.overwrite(table, rows, metadata={"changes_version": changes_version})
    return Derived(
        table=table,
        version=lake.version(table),
        changes_version=changes_version,
        num_rows=lake.num_rows(table),
        is_rewritten=is_rewritten,
    )


def _names(columns: Sequence[str]) -> str:
    return ", ".join(quoted(column) for column in columns)


def _time(name: str) -> pa.Field:
    return pa.field(name, pa.timestamp("us", tz="UTC"))
