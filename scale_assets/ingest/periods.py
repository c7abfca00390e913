"""Changes of each key to the periods in which their values held."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scale_assets.contracts import Contract
from scale_assets.contracts.change_schema import UNCHANGED
from scale_assets.ingest.columns import UNAVAILABLE
from scale_assets.ingest.news import NEWS, News
from scale_assets.ingest.states import ORDER, Facts, names, states_sql

THERE = "_there"  # what the caller keeps of the open row that a period closes, or follows
CLOSING = "closing"  # open rows that the news close, in DuckDB


def periods_sql(contract: Contract, changes: str, facts: Facts, *more: str) -> str:
    """One row per change, closed by the next of its key."""
    valid_to = "lead(event_time) over key_in_order as valid_to"
    columns = [names(contract.arrow_schema.names), "op", "event_time as valid_from", valid_to]
    return f"""
        select {", ".join([*columns, "received_at", UNAVAILABLE.name, *more])}
        from ({states_sql(contract, changes, facts)})
        window key_in_order as (partition by {names(contract.primary_key)} order by {ORDER})
    """


def continued(contract: Contract, news: News, closing: pa.Table) -> pa.Table:
    """The open rows that the news close, and the news, as periods.

    Each row has in ``_there`` what its key's row of ``closing`` has.
    """
    partial = pc.unique(pc.list_flatten(closing[UNAVAILABLE.name])).to_pylist()
    unchanged = tuple(sorted({*news.facts.unchanged, *partial}))
    if unchanged:
        return _resolved(contract, news, closing, replace(news.facts, unchanged=unchanged))
    return _plain(contract, news, closing)


def _resolved(contract: Contract, news: News, closing: pa.Table, facts: Facts) -> pa.Table:
    """Where some value was not sent."""
    changes = f"""
        from {NEWS}
        union all by name
        select
            {names(contract.arrow_schema.names)}, op, valid_from as event_time, received_at,
            {UNAVAILABLE.name} as {UNCHANGED.name}, {THERE}
        from {CLOSING}
    """
    there = f"first_value({THERE}) over key_in_order as {THERE}"
    with news.in_duckdb() as connection:
        connection.register(CLOSING, closing)
        return connection.sql(periods_sql(contract, changes, facts, there)).to_arrow_table()


def _plain(contract: Contract, news: News, closing: pa.Table) -> pa.Table:
    """Where every value was sent: each row ends where the next of its key begins."""
    columns = [*contract.arrow_schema.names, "op", "valid_from", "received_at", UNAVAILABLE.name]
    new = news.rows.rename_columns(
        {"event_time": "valid_from", UNCHANGED.name: UNAVAILABLE.name}
    ).select(columns)
    rows = pa.concat_tables([closing.select(columns), new]).combine_chunks()
    keys = _numbered(rows.select(list(contract.primary_key)))
    order = np.argsort(keys, kind="stable")  # open rows stand first, then the log's order
    is_next = keys[order[1:]] == keys[order[:-1]]
    following = np.full(len(rows), -1)
    following[order[:-1][is_next]] = order[1:][is_next]
    starts = np.append(True, ~is_next)
    first = np.empty_like(order)
    first[order] = order[np.maximum.accumulate(np.where(starts, np.arange(len(rows)), 0))]
    return rows.append_column(
        "valid_to", rows["valid_from"].take(pa.array(following, mask=following < 0))
    ).append_column(THERE, closing[THERE].take(pa.array(first, mask=first >= len(closing))))


def _numbered(keys: pa.Table) -> np.ndarray:
    """One number per row, the same for the same key."""
    numbers = np.zeros(len(keys), np.int64)
    for column in keys.columns:
        encoded = column.combine_chunks().dictionary_encode()
        numbers = numbers * len(encoded.dictionary) + encoded.indices.to_numpy()
        if keys.num_columns > 1:  # before the next column makes them too large
            numbers = np.unique(numbers, return_inverse=True)[1]
    return numbers
