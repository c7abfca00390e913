"""How old the newest value of a view was, at every midnight (UTC) and at the clock."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING

import pyarrow as pa

from scale_assets.lake import Lake
from scale_assets.lake.duckdb_types import quoted
from scale_assets.monitoring.population import day_end
from scale_assets.monitoring.watched import Watched

if TYPE_CHECKING:
    import duckdb

TIME = pa.timestamp("us", tz="UTC")
SCHEMA = pa.schema(
    [
        ("view", pa.string()),
        ("at", TIME),
        ("newest_feature_time", TIME),
        ("age_hours", pa.float64()),
        ("max_age_hours", pa.float64()),
    ]
)


@dataclass(frozen=True, kw_only=True)
class Age:
    """What was the newest at an instant."""

    at: datetime
    newest: datetime

    @property
    def hours(self) -> float:
        return (self.at - self.newest) / timedelta(hours=1)


def ages(
    connection: "duckdb.DuckDBPyConnection", watched: Watched, relation: str, clock: datetime
) -> list[Age]:
    """From the first value to the clock, counting a value from when it was known.

    A table that keeps only the latest row of each entity does not tell what was the newest before:
    of such a one there is only the age at the clock.
    """
    time_sql = f"{quoted(watched.time)}::timestamptz"
    known = time_sql
    if watched.known_at:  # a row without it is not used, so it makes nothing fresh
        column = quoted(watched.known_at)
        known = f"case when {column} is not null then greatest({time_sql}, {column}) end"
    entity = ", ".join(quoted(column) for column in _entity_columns(watched))
    source = f"(select *, {known} as _known from ({relation})) as each"
    until = f"where _known <= timestamptz '{clock.isoformat()}'"
    (num_rows, num_entities, newest) = connection.execute(
        f"select count(*), count(distinct ({entity})), max({time_sql}) from {source} {until}"
    ).fetchall()[0]
    if newest is None:
        return []
    now = Age(at=clock, newest=newest.astimezone(UTC))
    if num_rows == num_entities:
        return [now]
    found = connection.execute(
        f"select {day_end('_known')}::date, max({time_sql}) from {source} {until} group by 1"
    ).fetchall()
    midnights = _at_midnights({day: at.astimezone(UTC) for day, at in found}, clock)
    return [*(age for age in midnights if age.at < clock), now]


def keep_ages(
    lake: Lake, table: str, view: str, found: list[Age], *, max_age: timedelta | None
) -> None:
    """Put them into the table, in place of the view's others."""
    limit = None if max_age is None else max_age / timedelta(hours=1)
    rows = [
        {
            "view": view,
            "at": age.at,
            "newest_feature_time": age.newest,
            "age_hours": age.hours,
            "max_age_hours": limit,
        }
        for age in found
    ]
    data = pa.Table.from_pylist(rows, SCHEMA)
    lake.replace_partitions(table, data, partition_by="view", keys=[view])


def _entity_columns(watched: Watched) -> list[str]:
    if watched.stream is None:
        return list(watched.entity)
    return [column for key in watched.stream.columns.keys for column in key.columns]


def _at_midnights(newest_by: dict[date, datetime], clock: datetime) -> list[Age]:
    """The newest of all that was known by each midnight."""
    found: list[Age] = []
    day, newest = min(newest_by), datetime.min.replace(tzinfo=UTC)
    while (at := datetime.combine(day, time(), UTC)) <= clock:
        newest = max(newest, newest_by.get(day, newest))
        found.append(Age(at=at, newest=newest))
        day += timedelta(days=1)
    return found
