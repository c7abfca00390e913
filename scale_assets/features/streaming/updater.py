"""Brings a view's states forward by the commits of its stream's table, each exactly once.

Commits are counted in their order, and a state carries the last one that it counted: whoever counts
a commit again, after a crash or beside another process, finds it counted. A view's own position is
only where to go on.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from deltalake import DeltaTable

from scale_assets.features.asof import connect
from scale_assets.features.stores import Backend, PackedRow, Progress, Put, Snapshot
from scale_assets.features.streaming.arrivals import Arrivals, Gathered, arrivals, columns_read
from scale_assets.features.streaming.declared import StreamingView
from scale_assets.features.streaming.states import OtherLayout, StateLayout
from scale_assets.lake.commits import at_newest
from scale_assets.lake.files import paths_here
from scale_assets.lake.history import FileChanges, changes_of_commits_after
from scale_assets.lake.snapshots import snapshot_dataset

BATCH_ROWS = 1 << 18
KEYS_PER_CALL = 10_000
STATES_IN_MEMORY_BYTES = 256 << 20


@dataclass(kw_only=True)
class UpdateReport:
    """What one pass did."""

    version: int  # of the stream's table, up to which the view has counted now
    num_events: int = 0
    num_states: int = 0  # written; an entity counts once per commit
    num_commits: int = 0
    rebuilt: str | None = None  # why, if it was

    def with_later(self, later: "UpdateReport") -> "UpdateReport":
        """Two passes as one."""
        return UpdateReport(
            version=later.version,
            num_events=self.num_events + later.num_events,
            num_states=self.num_states + later.num_states,
            num_commits=self.num_commits + later.num_commits,
            rebuilt=later.rebuilt or self.rebuilt,
        )


class CannotFollow(Exception):
    """Why the commits do not tell what the states lack, so that they have to be made anew."""


class Updater:
    """One view in one store. Several may run at once: what one has counted, the others find."""

    def __init__(self, handle: DeltaTable, view: StreamingView, backend: Backend) -> None:
        self.handle = handle
        self.view = view
        self.backend = backend
        self.layout = StateLayout(view.aggregates)

    def catch_up(self) -> UpdateReport:
        """Count what was committed since, or build the view anew where commits do not tell.

        That is the first time, after rows were rewritten or erased, and where the log was cut off.
        """
        report = UpdateReport(version=int(at_newest(self.handle).version()))
        try:
            for version, changes in self._due().items():
                self._count(version, changes, report)
                report.num_commits += 1
        except CannotFollow as reason:
            return self.rebuild(str(reason))
        return report

    def rebuild(self, reason: str) -> UpdateReport:
        """Make every state anew from the newest snapshot; readers see the old ones meanwhile."""
        version = int(at_newest(self.handle).version())
        report = UpdateReport(version=version, rebuilt=reason)
        dataset = snapshot_dataset(self.handle)
        self.backend.declare(self.view.name, self.layout, ttl=None)
        parts = self._parts(dataset)
        newest = (0, 0)
        for part in range(parts):
            gathered = Gathered(self.layout)
            for batch in dataset.to_batches(columns=self._columns, batch_size=BATCH_ROWS):
                arrived = _part(self._arrivals(pa.Table.from_batches([batch])), part, parts)
                gathered.add(arrived)
                report.num_events += len(arrived.events.entity_M)
                newest = max(newest, _newest(arrived))
            gathered.states["counted"] = version
            self._write(list(gathered.numbers), gathered.states, report)
        self._sweep(version)
        self._mark(version, newest)
        return report

    def _due(self) -> dict[int, FileChanges]:
        """The commits that are to be counted."""
        declared = self.backend.views().get(self.view.name)
        counted = self.backend.progress(self.view.name).loaded
        if declared is None or declared.layout != self.layout or counted is None:
            raise CannotFollow("the view has no states of this layout yet")
        if counted.table_id != self._table_id:
            raise CannotFollow("the stream has another table now")
        commits = changes_of_commits_after(self.handle, counted.version)
        if commits is None:
            raise CannotFollow("the table's log no longer reaches back to what was counted")
        if any(changes.removed for changes in commits.values()):
            raise CannotFollow("rows were rewritten or removed")
        return commits

    def _count(self, version: int, changes: FileChanges, report: UpdateReport) -> None:
        """Count the rows that one commit added."""
        newest = (0, 0)
        if changes.added:
            try:
                files = paths_here(self.handle, changes.added)
            except FileNotFoundError as error:
                raise CannotFollow("files of a commit were compacted and cleaned away") from error
            arrived = self._arrivals(snapshot_dataset(self.handle, files).to_table(self._columns))
            states_E = self._stored(arrived.keys)
            is_due_E = states_E["counted"] < version
            due = arrived.events.where(is_due_E[arrived.events.entity_M])
            self.layout.add(states_E, due)
            states_E["counted"][is_due_E] = version
            self._write(arrived.keys, states_E, report)
            report.num_events += len(due.entity_M)
            newest = _newest(arrived)
        self._mark(version, newest)

    def _stored(self, keys: Sequence[str]) -> np.ndarray:
        try:
            return self.layout.unpack(
                [
                    state
                    for start in range(0, len(keys), KEYS_PER_CALL)
                    for state in self._get(keys[start : start + KEYS_PER_CALL])
                ]
            )
        except OtherLayout as error:
            raise CannotFollow("an older process wrote states of its layout") from error

    def _get(self, keys: Sequence[str]) -> list[bytes | None]:
        return self.backend.get({self.view.name: keys}).values[self.view.name]

    def _write(self, keys: Sequence[str], states_E: np.ndarray, report: UpdateReport) -> None:
        rows = list(map(PackedRow, keys, self.layout.pack(states_E)))
        report.num_states += self.backend.put(self.view.name, rows, Put.COUNT).num_written

    def _sweep(self, version: int) -> None:
        """Remove what no event of the snapshot made: states of other layouts, and of the erased."""
        for keys in self.backend.keys(self.view.name):
            found = zip(keys, self._get(keys), strict=True)
            old = [key for key, state in found if state and self.layout.lacks(state, version)]
            self.backend.forget(self.view.name, old)

    def _mark(self, version: int, newest: tuple[int, int]) -> None:
        happened, received = newest
        self.backend.advance(self.view.name, feature_time=happened, known_at=received)
        progress = Progress(loaded=Snapshot(self._table_id, version))
        self.backend.set_progress(self.view.name, progress)

    @property
    def _table_id(self) -> str:
        return str(self.handle.metadata().id)

    @property
    def _columns(self) -> list[str]:
        return columns_read(self.view.columns, self.view.aggregates)

    def _arrivals(self, rows: pa.Table) -> Arrivals:
        return arrivals(rows, self.view.columns, self.view.aggregates)

    def _parts(self, dataset: object) -> int:
        """In how many parts the states of all entities fit into memory."""
        keys = ", ".join(key.sql("stream") for key in self.view.columns.keys)
        with connect() as connection:
            connection.register("stream", dataset)
            query = f"select approx_count_distinct(({keys})) from stream"
            ((num_entities,),) = connection.sql(query).fetchall()
        return int(1 + num_entities * self.layout.dtype.itemsize // STATES_IN_MEMORY_BYTES)


def _newest(arrived: Arrivals) -> tuple[int, int]:
    """The last time that something happened, and that something was received."""
    events = arrived.events
    return int(events.happened.max(initial=0)), int(events.received_at_M.max(initial=0))


def _part(arrived: Arrivals, part: int, parts: int) -> Arrivals:
    """The events of those entities that are in this part."""
    if parts == 1:
        return arrived
    is_in_E = np.array([zlib.crc32(key.encode()) % parts == part for key in arrived.keys], bool)
    events = arrived.events.where(is_in_E[arrived.events.entity_M])
    number_E = np.cumsum(is_in_E) - 1
    keys = [key for key, is_in in zip(arrived.keys, is_in_E, strict=True) if is_in]
    return Arrivals(keys, replace(events, entity_M=number_E[events.entity_M]))
