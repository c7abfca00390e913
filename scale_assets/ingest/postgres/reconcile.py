"""A new snapshot of a table that has rows already: which keys vanished in the meantime."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from scale_assets.contracts import Contract
from scale_assets.lake import Lake
from scale_assets.lake.duckdb_types import quoted
from scale_assets.lake.snapshots import snapshot_dataset


def newest_lsn(changes: DeltaTable) -> int:
    """The largest log position of any change; 0 without one."""
    batches = snapshot_dataset(changes).to_batches(columns=["lsn"])
    return max((pc.max(batch["lsn"]).as_py() or 0 for batch in batches), default=0)


def vanished_keys(
    lake: Lake, table: str, contract: Contract, *, version: int, present: Sequence[pa.Table]
) -> pa.Table:
    """Keys that exist according to the changes and are not among those that are present."""
    import duckdb

    key = contract.primary_key
    columns = ", ".join(map(quoted, key))
    same = " and ".join(f"live.{quoted(name)} = present.{quoted(name)}" for name in key)
    sql = f"""
        with changes as ({lake.duckdb_relation_sql(table, version=version)}),
        emptied as (
            select lsn, tx_ordinal from changes where op = 't'
            order by lsn desc, tx_ordinal desc limit 1
        ),
        newest as (
            select {columns}, op, lsn, tx_ordinal from changes where op <> 't'
            qualify row_number() over (
                partition by {columns} order by lsn desc nulls last, tx_ordinal desc
            ) = 1
        ),
        live as (
            select {columns} from newest
            where op <> 'd' and not exists (
                select 1 from emptied
                where (newest.lsn, newest.tx_ordinal) < (emptied.lsn, emptied.tx_ordinal)
                    or newest.lsn is null
            )
        )
        select {columns} from live
        where not exists (select 1 from present where {same})
        order by {columns}
    """
    with duckdb.connect() as connection:
        connection.execute("set TimeZone = 'UTC'")
        connection.register("present", pa.concat_tables(present))
        return connection.sql(sql).to_arrow_table().cast(present[0].schema)


def deletes(
    keys: pa.Table,
    schema: pa.Schema,
    *,
    lsn: int,
    first_ordinal: int,
    first_position: int,
    at: datetime,
    place: str,
) -> pa.Table:
    """Rows of the table of changes that say that these keys are gone."""
    num_rows = keys.num_rows
    said: dict[str, Any] = {
        "op": "d",
        "event_time": at,
        "received_at": at,
        "lsn": lsn,
        "_source_file": place,
    }
    counted = {"tx_ordinal": first_ordinal, "_position": first_position}
    columns = []
    for field in schema:
        if field.name in keys.column_names:
            columns.append(keys[field.name])
        elif field.name in counted:
            first = counted[field.name]
            columns.append(pa.array(range(first, first + num_rows), field.type))
        else:
            columns.append(pa.repeat(pa.scalar(said.get(field.name), field.type), num_rows))
    return pa.table(columns, schema=schema)
