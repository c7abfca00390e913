"""The next_site dataset: who opened which site on which day, and what was known at a cut day.

Shape suffixes: R = registrations of one presentation, C = its sites in catalogue order (ascending
site_id), E = distinct site-days of one presentation, N = examples of one cut.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from training.dataset import Dataset, open_dataset, read_parquet
from training.errors import TrainingError

Int64s = NDArray[np.int64]
Float32s = NDArray[np.float32]

POPULARITY_WINDOWS_DAYS = (1, 3, 7, 14, 28)
POPULARITY_COLUMNS = (
    "students_1d",
    "students_3d",
    "students_7d",
    "students_14d",
    "students_28d",
    "students_total",
    "new_students_7d",
)
NEVER = -999  # a day before every presentation's first event


@dataclass(frozen=True, kw_only=True)
class SiteState:
    """What is known about a presentation's sites at the start of one day. One value per site."""

    day: int
    first_opened_day_C: Int64s  # -999 while nobody has opened the site
    students_C: dict[str, Float32s]  # by column: students_1d, ..., students_total, new_students_7d


@dataclass(frozen=True, kw_only=True)
class Examples:
    """Registrations seen before `day` and again from it on, with the sites of that first day.

    An example's history is entries[history_start:history_end] of its presentation.
    """

    day: int
    registration_N: Int64s
    history_start_N: Int64s
    history_end_N: Int64s
    target_end_N: Int64s  # relevant sites are entries[history_end:target_end]

    def __len__(self) -> int:
        return len(self.registration_N)


@dataclass(frozen=True)
class Presentation:
    """One presentation: its catalogue, and its site-days by registration, oldest first."""

    presentation_id: str
    site_ids_C: Int64s
    activity_types_C: list[str]
    week_from_C: Int64s
    week_to_C: Int64s
    registration_ids: list[str]
    offsets: Int64s  # (R + 1,): registration r owns entries[offsets[r]:offsets[r + 1]]
    site_index_E: Int64s
    day_E: Int64s

    @property
    def num_sites(self) -> int:
        return len(self.site_ids_C)

    @cached_property
    def entry_registrations(self) -> Int64s:
        return np.repeat(np.arange(len(self.registration_ids)), np.diff(self.offsets))

    @cached_property
    def _pairs_by_day(self) -> tuple[Int64s, NDArray[np.int16]]:
        order = np.argsort(self.day_E, kind="stable")
        pair_E = self.entry_registrations * self.num_sites + self.site_index_E
        return pair_E[order], self.day_E[order].astype(np.int16)

    def site_state(self, day: int) -> SiteState:
        """Popularity from entries before `day` alone."""
        pair_E, day_E = self._pairs_by_day
        known = int(np.searchsorted(day_E, day))
        pair_E, day_E = pair_E[:known], day_E[:known]
        shape = (len(self.registration_ids), self.num_sites)
        last_RC = np.full(shape, NEVER, dtype=np.int16)
        last_RC.flat[pair_E] = day_E  # ascending days: the latest assignment stays
        first_RC = np.full(shape, -NEVER, dtype=np.int16)
        first_RC.flat[pair_E[::-1]] = day_E[::-1]
        students_C = {
            f"students_{window}d": _count(last_RC >= day - window)
            for window in POPULARITY_WINDOWS_DAYS
        }
        students_C["students_total"] = _count(last_RC > NEVER)
        students_C["new_students_7d"] = _count((first_RC >= day - 7) & (last_RC > NEVER))
        first_C = first_RC.min(axis=0, initial=-NEVER).astype(np.int64)
        first_C[first_C == -NEVER] = NEVER
        return SiteState(day=day, first_opened_day_C=first_C, students_C=students_C)

    def examples(self, *, day: int, target_before: int | None = None) -> Examples:
        """Registrations with an entry before `day` and a first one in [day, target_before)."""
        # One sorted key per entry finds a registration's first entry at or after any day.
        span = 4096
        key_E = self.entry_registrations * span + (self.day_E - NEVER)
        registration_R = np.arange(len(self.registration_ids))
        history_end_R = np.searchsorted(key_E, registration_R * span + (day - NEVER))
        seen_R = history_end_R > self.offsets[:-1]
        again_R = history_end_R < self.offsets[1:]
        kept_R = registration_R[seen_R & again_R]
        history_end = history_end_R[kept_R]
        target_day = self.day_E[history_end]
        target_end = np.searchsorted(key_E, kept_R * span + (target_day + 1 - NEVER))
        in_time = target_day < (target_before if target_before is not None else span)
        return Examples(
            day=day,
            registration_N=kept_R[in_time],
            history_start_N=self.offsets[kept_R[in_time]],
            history_end_N=history_end[in_time],
            target_end_N=target_end[in_time],
        )


def _count(flags_RC: NDArray[np.bool_]) -> Float32s:
    return np.asarray(flags_RC.sum(axis=0), dtype=np.float32)


def load_presentations(folder: Path) -> list[Presentation]:
    """Read sequences.parquet and sites.parquet; refuse what no ranking could use."""
    dataset = open_dataset(folder)
    if dataset.kind != "sequence":
        raise TrainingError(f"{folder} holds a {dataset.kind} dataset; sequence is needed")
    sites = read_parquet(dataset, "sites.parquet").sort_by(
        [("presentation_id", "ascending"), ("site_id", "ascending")]
    )
    sequences = read_parquet(dataset, "sequences.parquet").sort_by("registration_id")
    known = set(sites["presentation_id"].to_pylist())
    unknown = sorted(set(sequences["presentation_id"].to_pylist()) - known)
    if unknown:
        raise TrainingError(
            f"sites.parquet has no site of presentation {unknown[0]!r}, which sequences.parquet "
            "has: materialize the site catalogue, then the dataset again"
        )
    return [
        _presentation(presentation_id, _of(sites, presentation_id), _of(sequences, presentation_id))
        for presentation_id in sorted(set(sequences["presentation_id"].to_pylist()))
    ]


def _of(table: pa.Table, presentation_id: str) -> pa.Table:
    return table.filter(pc.equal(table["presentation_id"], presentation_id))


def _presentation(presentation_id: str, sites: pa.Table, sequences: pa.Table) -> Presentation:
    site_ids_C = sites["site_id"].to_numpy().astype(np.int64)
    site_E = _flat(sequences["site_ids"])
    day_E = _flat(sequences["days"])
    offsets = np.concatenate([[0], np.cumsum([len(s) for s in sequences["site_ids"]])])
    site_index_E = np.searchsorted(site_ids_C, site_E)
    strange = site_ids_C[np.minimum(site_index_E, len(site_ids_C) - 1)] != site_E
    if strange.any():
        raise TrainingError(
            f"{presentation_id}: site {site_E[strange][0]} was opened but is not in sites.parquet: "
            "materialize the site catalogue, then the dataset again"
        )
    registration_E = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    order = np.lexsort((np.arange(len(day_E)), day_E, registration_E))
    return Presentation(
        presentation_id=presentation_id,
        site_ids_C=site_ids_C,
        activity_types_C=sites["activity_type"].to_pylist(),
        week_from_C=_weeks(sites["week_from"]),
        week_to_C=_weeks(sites["week_to"]),
        registration_ids=sequences["registration_id"].to_pylist(),
        offsets=offsets.astype(np.int64),
        site_index_E=site_index_E[order],
        day_E=day_E[order],
    )


def _flat(lists: pa.ChunkedArray) -> Int64s:
    values = lists.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return np.array(values, dtype=np.int64)  # a copy: Arrow's own memory is read-only


def _weeks(column: pa.ChunkedArray) -> Int64s:
    return np.array(column.fill_null(-1).to_numpy(), dtype=np.int64)


def cut_day(dataset: Dataset, phase: str) -> int:
    """The day to rank at in phase "tune" or "test", from dataset.json."""
    name = f"{phase}_cut_day"
    declared = {**dataset.manifest, **dataset.evaluation}
    if name not in declared:
        raise TrainingError(
            f"{dataset.folder / 'dataset.json'} has no {name!r}: add it to the dataset's evaluation"
        )
    return int(declared[name])
