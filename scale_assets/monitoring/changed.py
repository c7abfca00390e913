"""Which dates of a table have other rows than at an earlier version."""

from datetime import date
from typing import TYPE_CHECKING

from scale_assets.lake.duckdb_types import quoted
from scale_assets.monitoring.population import day_end
from scale_assets.monitoring.watched import Watched

if TYPE_CHECKING:
    import duckdb


def changed_days(
    connection: "duckdb.DuckDBPyConnection",
    watched: Watched,
    *,
    added: str,
    removed: str,
    whole: str,
) -> set[date]:
    """Dates whose rows differ, given SELECTs of the rows that came, that went, and of all.

    Rows that were rewritten as they were are no change. An event counts from when it was received
    on, so that of a stream every later date may have changed as well.
    """
    time = f"{quoted(watched.time)}::timestamptz"
    if watched.stream is not None:
        time = day_end(watched.stream.columns.received_at)
    day = f"({time})::date"
    found = connection.execute(
        f"with came as ({_digests(added, day)}), went as ({_digests(removed, day)})"
        " select coalesce(came.day, went.day) from came full join went on came.day = went.day"
        " where (came.n, came.total, came.mixed) is distinct from (went.n, went.total, went.mixed)"
    ).fetchall()
    days = {each for (each,) in found if each is not None}
    if watched.stream is not None and days:
        later = f"select distinct {day} from ({whole}) where {day} >= date '{min(days)}'"
        days |= {each for (each,) in connection.execute(later).fetchall()}
    return days


def _digests(relation: str, day: str) -> str:
    """By date, what tells whether two sets of rows are equal, in any order."""
    return (
        f"select {day} as day, count(*) as n, sum(hash(each)) as total,"
        f" bit_xor(hash(each)) as mixed from ({relation}) as each group by 1"
    )
