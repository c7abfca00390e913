"""Online load: makes a view in the online store equal to the latest rows of its Delta table.

What a load reads are the files that commits added or took away since the version that the store
equals, never a range of times, so that a late row cannot be missed.
"""

import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

from scale_assets.features.asof import connect
from scale_assets.features.changes import Changes, find_changes, find_latest
from scale_assets.features.codec import Layout, from_micros
from scale_assets.features.repo import ViewDeclaration
from scale_assets.features.stores import Backend, OnlineStoreError, Progress, Put, Snapshot
from scale_assets.features.stores.sqlite import quoted
from scale_assets.lake import Lake, fault_point

if TYPE_CHECKING:
    import duckdb

MAX_WORKERS = 4


@dataclass(frozen=True)
class LoadReport:
    """What one load did. Considered are the entities whose rows changed; all in a full load.

    Unknown are rows that were left out because they do not say when they became known.
    """

    num_considered: int
    num_unknown: int
    num_written: int
    num_removed: int
    delta_version: int
    previous_version: int | None
    is_full: bool
    num_parts: int
    num_parts_done_before: int
    seconds: float


def load_view(
    lake: Lake,
    view: ViewDeclaration,
    backend: Backend,
    *,
    clock: int | None = None,
    full: bool = False,
    on_part: Callable[[int, int], None] = lambda _done, _all: None,
) -> LoadReport:
    """Make the online view equal to the lake's latest rows; pushed values that are newer stay.

    What is done is recorded in the store part by part. A load that died goes on where it was, as
    long as the table has not moved on; otherwise it starts from the version that the store equals.

    Args:
        lake: Where the view's table is.
        view: What to load.
        backend: The online store.
        clock: Newest received_at of the world, microseconds; without it the newest known_at.
        full: Compare everything, as after a store was lost.
        on_part: Told how many parts are done, and how many there are.
    """
    started = time.perf_counter()
    with backend.sole_loader(view.name) as check:
        load = _Load(lake, view, backend, check, on_part)
        return load.run(clock=clock, full=full, started=started)


def newest(lake: Lake, table: str, column: str) -> datetime:
    """The newest time in a column of the newest snapshot.

    Raises:
        OnlineStoreError: The table is empty, so there is no such time.
    """
    with connect() as connection:
        found = connection.execute(
            f"select epoch_us(max({quoted(column)})::timestamptz)"
            f" from ({lake.duckdb_relation_sql(table)})"
        ).fetchall()[0][0]
    if found is None:
        raise OnlineStoreError(f"table {table} has no {column} to tell the time by; it is empty")
    return from_micros(found)


class _Load:
    """One load, while nobody else loads the view."""

    def __init__(
        self,
        lake: Lake,
        view: ViewDeclaration,
        backend: Backend,
        check: Callable[[], None],
        on_part: Callable[[int, int], None],
    ) -> None:
        self.lake = lake
        self.view = view
        self.backend = backend
        self.check = check
        self.on_part = on_part
        self.layout = Layout(view.columns)
        self._lock = threading.Lock()

    def run(self, *, clock: int | None, full: bool, started: float) -> LoadReport:
        handle = self.lake.open(self.view.source.table)
        snapshot = Snapshot(str(handle.metadata().id), int(handle.version()))
        before = Progress() if full else self._before(snapshot)
        if before.loaded == snapshot:
            if self.backend.views()[self.view.name].ttl != self.view.ttl:
                self.backend.declare(self.view.name, self.layout, ttl=self.view.ttl)
            self._advance(None, clock)
            return self._report(None, Progress(loaded=snapshot), before, 0, 0, started)
        spill = tempfile.mkdtemp(prefix="online-load-")
        try:
            with connect(temp_folder=spill) as connection:
                changes = self._changes(connection, before, snapshot)
                progress = self._started(changes, before, snapshot)
                written, removed = self._write(changes, progress, clock)
        finally:
            shutil.rmtree(spill, ignore_errors=True)
        return self._report(changes, progress, before, written, removed, started)

    def _before(self, snapshot: Snapshot) -> Progress:
        """What an earlier load left; nothing of it counts for another table, layout or lifetime."""
        progress = self.backend.progress(self.view.name)
        known = self.backend.views().get(self.view.name)
        if known is None or known.layout != self.layout or self._lives_longer(known.ttl):
            return Progress()
        if progress.loaded and progress.loaded.table_id != snapshot.table_id:
            return Progress()
        return progress

    def _lives_longer(self, ttl: object) -> bool:
        """Whether values that the backend let go by their former ttl would be fresh by the new."""
        return self.backend.clock == "wall" and ttl != self.view.ttl

    def _changes(
        self, connection: "duckdb.DuckDBPyConnection", before: Progress, snapshot: Snapshot
    ) -> Changes:
        whole = self.lake.duckdb_relation_sql(self.view.source.table, version=snapshot.version)
        found = None
        if before.loaded is not None:
            found = self.lake.changes_since(
                self.view.source.table, before.loaded.version, until=snapshot.version
            )
        if found is None:
            return find_latest(connection, self.view, self.layout, whole)
        added, removed = found
        return find_changes(
            connection, self.view, self.layout, added=added, removed=removed, whole=whole
        )

    def _started(self, changes: Changes, before: Progress, snapshot: Snapshot) -> Progress:
        """Declare the view and note what is to be done, or go on with a load that did so."""
        if before.target == snapshot and before.num_parts == changes.num_parts:
            return before
        progress = Progress(before.loaded, snapshot, changes.num_parts)
        with self.backend.atomically():
            self.backend.declare(self.view.name, self.layout, ttl=self.view.ttl)
            self.backend.set_progress(self.view.name, progress)
        fault_point("load_started")
        return progress

    def _write(self, changes: Changes, progress: Progress, clock: int | None) -> tuple[int, int]:
        """Every part that is not there yet, then what the lake has no more; then it is loaded."""
        left = [part for part in range(progress.num_parts) if part not in progress.done]
        if len(left) <= 1:  # where the backend can, readers see all of it or nothing
            with self.backend.atomically():
                return self._write_parts(changes, progress, left, clock)
        return self._write_parts(changes, progress, left, clock)

    def _write_parts(
        self, changes: Changes, progress: Progress, left: list[int], clock: int | None
    ) -> tuple[int, int]:
        self._current = progress
        if len(left) > 1:
            with ThreadPoolExecutor(min(MAX_WORKERS, len(left))) as pool:
                done = list(pool.map(lambda part: self._write_part(changes, part), left))
        else:
            done = [self._write_part(changes, part) for part in left]
        num_written = sum(number for number, _ in done)
        num_written += self._settle(changes, [key for _, keys in done for key in keys])
        num_removed = self._remove(changes)
        fault_point("load_before_finish")
        self.check()
        with self.backend.atomically():
            self._advance(changes.newest, clock)
            self.backend.set_progress(self.view.name, Progress(loaded=progress.target))
        fault_point("load_finished")
        return num_written, num_removed

    def _advance(self, newest: tuple[int, int] | None, clock: int | None) -> None:
        """Time goes on also where no row of this view changed."""
        feature_time, known_at = newest or (None, None)
        now = max((time for time in (clock, known_at) if time is not None), default=None)
        if now is not None:
            self.backend.advance(self.view.name, feature_time=feature_time, known_at=now)

    def _write_part(self, changes: Changes, part: int) -> tuple[int, list[str]]:
        num_written, undecided = 0, []
        try:
            with self.backend.atomically():
                for how, rows in changes.rows(part):
                    self.check()
                    outcome = self.backend.put(self.view.name, rows, how)
                    num_written += outcome.num_written
                    undecided += outcome.undecided
                    fault_point("load_in_part")
            fault_point("load_before_progress")
            if not undecided:  # else the part is looked at again if we die before we settle it
                self._note(part)
        finally:
            if threading.current_thread() is not threading.main_thread():
                self.backend.release_thread()
        fault_point("load_after_part")
        return num_written, undecided

    def _note(self, part: int) -> None:
        with self._lock:
            self._current = replace(self._current, done=self._current.done | {part})
            self.backend.set_progress(self.view.name, self._current)
            self.on_part(len(self._current.done), self._current.num_parts)

    def _settle(self, changes: Changes, keys: list[str]) -> int:
        """Rows as new as those stored, yet other ones: the whole snapshot says which is the latest."""
        if not keys:
            return 0
        return sum(
            self.backend.put(self.view.name, rows, Put.FOLLOW).num_written
            for rows in changes.latest_of(keys)
        )

    def _remove(self, changes: Changes) -> int:
        stored = (self.backend.keys(self.view.name),) if changes.is_full else ()
        return sum(
            self.backend.remove_loaded(self.view.name, keys) for keys in changes.gone(*stored)
        )

    def _report(
        self,
        changes: Changes | None,
        progress: Progress,
        before: Progress,
        num_written: int,
        num_removed: int,
        started: float,
    ) -> LoadReport:
        target = progress.target or progress.loaded
        assert target is not None
        return LoadReport(
            num_considered=changes.num_rows if changes else 0,
            num_unknown=changes.num_unknown if changes else 0,
            num_written=num_written,
            num_removed=num_removed,
            delta_version=target.version,
            previous_version=before.loaded.version if before.loaded else None,
            is_full=changes.is_full if changes else False,
            num_parts=progress.num_parts,
            num_parts_done_before=len(progress.done),
            seconds=time.perf_counter() - started,
        )
