"""Sequence datasets: what each entity opened, in order, and the catalogue of items."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from scale_assets.features.asof import connect
from scale_assets.features.dataset import Check, NotEnoughHistory, write_manifest, write_rows
from scale_assets.features.leakage import no_forbidden_columns
from scale_assets.features.reader import quoted
from scale_assets.features.tabular import Built
from scale_assets.lake import Lake

if TYPE_CHECKING:
    import duckdb


@dataclass(frozen=True, kw_only=True)
class SequenceSet:
    """What a sequence dataset is made of; see ``components.TrainingSet`` for each field."""

    name: str
    events: str
    entities: str
    join: Sequence[str]
    entity: str
    carry: Sequence[str]
    day_zero: str
    item: str
    needs_day: int | None = None
    date: str
    order: str
    items: str
    item_columns: Sequence[str]
    feature_service: str
    evaluation: Mapping[str, Any]
    forbidden: Sequence[str]


def build_sequences(declared: SequenceSet, *, lake: Lake, folder: Path) -> Built:
    """Write sequences.parquet, the items' file and dataset.json. Equal snapshots, equal bytes."""
    tables = (declared.events, declared.entities, declared.items)
    versions = {table: lake.version(table) for table in tables}
    with connect() as connection:
        for alias, table in zip(("events", "entities", "items"), tables, strict=True):
            relation = lake.duckdb_relation_sql(table, version=versions[table])
            connection.execute(f"create temp view {alias} as {relation}")
        _store_steps(connection, declared)
        sequences = connection.sql(_sequence_query(declared)).to_arrow_table()
        items = connection.sql(_item_query(declared)).to_arrow_table()
        checks = [
            _every_event_once(connection, declared),
            _every_item_is_known(connection, declared),
            no_forbidden_columns(
                [*sequences.column_names, *items.column_names], forbidden=declared.forbidden
            ),
        ]
    _require_day(sequences, declared)
    write_rows(sequences, folder / "sequences.parquet")
    write_rows(items, folder / _items_file(declared))
    write_manifest(folder, _manifest(declared, versions), lake=lake)
    kinds = {field.name: str(field.type) for field in sequences.schema}
    return Built(
        {"sequences": sequences.num_rows, "items": items.num_rows}, kinds, versions, checks
    )


def _require_day(sequences: pa.Table, declared: SequenceSet) -> None:
    """Some entity must have come as far as the declaration needs."""
    days = pc.list_flatten(sequences["days"])
    last = pc.max(days).as_py() if len(days) else None
    if last is None or (declared.needs_day is not None and last < declared.needs_day):
        raise NotEnoughHistory(
            f"{declared.name}: needs_day is {declared.needs_day}, and the last day with an event in "
            f"{declared.events} is {last}; it is made once later events have arrived"
        )


def _store_steps(connection: "duckdb.DuckDBPyConnection", declared: SequenceSet) -> None:
    """One row per entity, item and day, however many events or arrivals that day had."""
    on = " and ".join(f"events.{quoted(key)} = entities.{quoted(key)}" for key in declared.join)
    own = ", ".join(f"entities.{quoted(name)}" for name in (declared.entity, *declared.carry))
    connection.execute(
        f"create temp table steps as select {own}, events.{quoted(declared.item)} as _item,"
        f" date_diff('day', entities.{quoted(declared.day_zero)}::date,"
        f" events.{quoted(declared.date)}::date)::bigint as _day,"
        f" min(events.{quoted(declared.order)}) as _order"
        f" from events join entities on {on} group by all"
    )


def _sequence_query(declared: SequenceSet) -> str:
    own = ", ".join(quoted(name) for name in (declared.entity, *declared.carry))
    order = "order by _day, _order, _item"
    return (
        f"select {own}, list(_item {order}) as {quoted(f'{declared.item}s')},"
        f" list(_day {order}) as days from steps group by all order by {quoted(declared.entity)}"
    )


def _item_query(declared: SequenceSet) -> str:
    columns = ", ".join(quoted(name) for name in declared.item_columns)
    return f"select {columns} from items order by all"


def _every_event_once(connection: "duckdb.DuckDBPyConnection", declared: SequenceSet) -> Check:
    """Events in = steps out: each distinct (entity, item, day) of the source is one step."""
    keys = ", ".join(quoted(name) for name in (*declared.join, declared.item, declared.date))
    ((num_distinct, num_steps),) = connection.execute(
        f"select (select count(*) from (select distinct {keys} from events)),"
        " (select count(*) from steps)"
    ).fetchall()
    return Check(
        "every_event_once",
        passed=num_distinct == num_steps,
        found={"num_distinct_events": num_distinct, "num_steps": num_steps},
    )


def _every_item_is_known(connection: "duckdb.DuckDBPyConnection", declared: SequenceSet) -> Check:
    """The catalogue has every item that anybody opened."""
    ((num_unknown,),) = connection.execute(
        "select count(distinct _item) from steps anti join items"
        f" on (_item = items.{quoted(declared.item)})"
    ).fetchall()
    return Check("every_item_is_known", passed=num_unknown == 0, found={"num_unknown": num_unknown})


def _items_file(declared: SequenceSet) -> str:
    return f"{declared.items.rsplit('/', 1)[-1]}.parquet"


def _manifest(declared: SequenceSet, versions: Mapping[str, int]) -> dict[str, Any]:
    return {
        "name": declared.name,
        "kind": "sequence",
        "feature_service": declared.feature_service,
        "entity": declared.entity,
        "files": {"sequences": "sequences.parquet", "items": _items_file(declared)},
        "delta_versions": dict(versions),
        "evaluation": dict(declared.evaluation),
    }
