"""Statistics and drift as tables of the lake, brought up to date by what commits changed.

Numbers come from the rows' own times, never from when they are computed: one run or many give equal
tables.
"""

import shutil
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import date
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from scale_assets.features.asof import connect
from scale_assets.lake import Lake
from scale_assets.monitoring.changed import changed_days
from scale_assets.monitoring.drift import Limits
from scale_assets.monitoring.population import Comparison, store_population
from scale_assets.monitoring.statistics import statistics
from scale_assets.monitoring.watched import MonitoringError, Watched
from scale_assets.monitoring.windows import drift_per_window

if TYPE_CHECKING:
    import duckdb

MEMORY_LIMIT = "1GB"  # beyond it DuckDB goes to the disk


@dataclass(frozen=True, kw_only=True)
class Tables:
    """Where one monitor keeps its numbers."""

    statistics: str
    drift: str
    freshness: str

    @classmethod
    def of(cls, monitor: str) -> "Tables":
        base = f"monitoring/{monitor}"
        return cls(
            statistics=f"{base}/statistics", drift=f"{base}/drift", freshness=f"{base}/freshness"
        )


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What kept numbers are of: a table's version, and the declaration that they were made by.

    It is in the metadata of the commit that writes the statistics. Two views that are written at once
    may lose one of the two; what it says then is older than the numbers, which are made again.
    """

    source_id: str
    source_version: int
    declared: str


@dataclass(frozen=True, kw_only=True)
class Update:
    """What one run brought up to date."""

    delta_version: int
    previous_version: int | None
    num_dates: int  # whose statistics were computed
    num_windows: int  # whose drift was
    is_full: bool


def bring_up_to_date(
    lake: Lake,
    watched: Watched,
    comparison: Comparison,
    limits: Mapping[str, Limits],
    tables: Tables,
) -> Update:
    """Compute what changed since the kept numbers were made, or everything where that is not known.

    Statistics are written last: what a killed run left undone is computed again.

    Raises:
        MonitoringError: A declared condition or column does not fit the table.
        MissingTable: The table has not been made yet.
    """
    handle = lake.open(watched.table)
    comparison = _fitting(lake, watched, comparison)
    origin = Origin(
        source_id=str(handle.metadata().id),
        source_version=int(handle.version()),
        declared=watched.fingerprint(comparison, sorted(limits.items())),
    )
    before = _origin(lake, tables.statistics, watched.name)
    if before == origin:
        return _update(origin, before, num_dates=0, num_windows=0, is_full=False)
    spill = tempfile.mkdtemp(prefix="monitoring-")
    try:
        with connect(memory_limit=MEMORY_LIMIT, temp_folder=spill) as connection:
            run = _Run(lake, watched, comparison, limits, tables, connection)
            return run.run(before, origin)
    finally:
        shutil.rmtree(spill, ignore_errors=True)


class _Run:
    """One computation, with a DuckDB of its own."""

    def __init__(
        self,
        lake: Lake,
        watched: Watched,
        comparison: Comparison,
        limits: Mapping[str, Limits],
        tables: Tables,
        connection: "duckdb.DuckDBPyConnection",
    ) -> None:
        self.lake = lake
        self.watched = watched
        self.comparison = comparison
        self.limits = limits
        self.tables = tables
        self.connection = connection

    def run(self, before: Origin | None, origin: Origin) -> Update:
        whole = self.lake.duckdb_relation_sql(self.watched.table, version=origin.source_version)
        days = self._changed(before, origin, whole)
        # A changed reference is another one for every window.
        every_window = days is None or self.comparison.reference.may_hold(days)
        windows = None if every_window else {self.comparison.window(day) for day in days or ()}
        self._store(whole, None if every_window else days)
        drift = drift_per_window(
            self.connection, self.watched, self.comparison, self.limits, windows=windows
        )
        found = statistics(self.connection, self.watched, days=days)
        self._write(self.tables.drift, drift, "window_start", replaced=windows)
        self._write(self.tables.statistics, found, "feature_date", replaced=days, origin=origin)
        return _update(
            origin,
            before,
            num_dates=pc.count_distinct(found["feature_date"]).as_py(),
            num_windows=pc.count_distinct(drift["window_start"]).as_py(),
            is_full=days is None,
        )

    def _changed(self, before: Origin | None, origin: Origin, whole: str) -> set[date] | None:
        """Dates to compute; None for all."""
        if before is None or replace(before, source_version=origin.source_version) != origin:
            return None
        found = self.lake.changes_since(
            self.watched.table, before.source_version, until=origin.source_version
        )
        if found is None:
            return None
        added, removed = found
        return changed_days(
            self.connection, self.watched, added=added, removed=removed, whole=whole
        )

    def _store(self, whole: str, days: set[date] | None) -> None:
        import duckdb

        try:
            store_population(self.connection, self.watched, whole, self.comparison, days=days)
        except (duckdb.BinderException, duckdb.ParserException) as error:
            raise MonitoringError(
                f"{self.watched.name}: a `where` of its monitor does not fit table "
                f"{self.watched.table}: {error}"
            ) from error

    def _write(
        self,
        table: str,
        found: pa.Table,
        column: str,
        *,
        replaced: Collection[date] | None,
        origin: Origin | None = None,
    ) -> None:
        """Replace the rows of these dates or windows, or all of the view's."""
        view = self.watched.name
        if replaced is not None and self.lake.exists(table):
            kept = self.lake.read(table, filters=[("view", "=", view)])
            of_others = pc.invert(
                pc.is_in(kept[column], value_set=pa.array(sorted(replaced), pa.date32()))
            )
            others = kept.filter(of_others).select(found.column_names).cast(found.schema)
            found = pa.concat_tables([others, found])
        found = found.sort_by([("feature", "ascending"), (column, "ascending")])
        metadata = None
        if origin is not None:
            said = self.lake.last_metadata(table) if self.lake.exists(table) else {}
            metadata = {**said, _named(view): asdict(origin)}
        self.lake.replace_partitions(
            table, found, partition_by="view", keys=[view], metadata=metadata
        )


def _fitting(lake: Lake, watched: Watched, comparison: Comparison) -> Comparison:
    """Without the alignment where the rows have no such column."""
    aligned = comparison.alignment
    if aligned is None:
        return comparison
    columns = {feature.name for feature in watched.features}
    if watched.stream is None:
        columns |= set(lake.schema(watched.table).names)
    return comparison if aligned.column in columns else replace(comparison, alignment=None)


def _origin(lake: Lake, table: str, view: str) -> Origin | None:
    if not lake.exists(table):
        return None
    said = lake.last_metadata(table).get(_named(view))
    return Origin(**said) if said else None


def _named(view: str) -> str:
    return f"source/{view}"


def _update(
    origin: Origin, before: Origin | None, *, num_dates: int, num_windows: int, is_full: bool
) -> Update:
    return Update(
        delta_version=origin.source_version,
        previous_version=before.source_version if before else None,
        num_dates=num_dates,
        num_windows=num_windows,
        is_full=is_full,
    )
