"""An input made ready for replay: which feed has how many rows on which day, and their text."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scale_assets.replay import changes as cdc
from scale_assets.replay import events
from scale_assets.replay.clicks import summarize
from scale_assets.replay.source import Input
from scale_assets.replay.tables import Tables, rows_of


@dataclass(frozen=True)
class DailyTable:
    """A table small enough to hold, sorted by event_day, and how to write a slice of it."""

    rows: pa.Table
    write: Callable[[pa.Table], pa.Array]

    def rows_per_day(self) -> dict[int, int]:
        return count_days(self.rows["event_day"].to_numpy())

    def lines(self, day: int) -> pa.Array:
        days = self.rows["event_day"].to_numpy()
        first, last = np.searchsorted(days, [day, day + 1])
        return self.write(self.rows.slice(first, last - first))


@dataclass(frozen=True)
class DailySnapshot:
    """A catalogue: on each day it changed, all that is known by then."""

    known: Mapping[int, pa.Array]  # day -> presentation identifiers
    write: Callable[[pa.Array], pa.Array]

    def rows_per_day(self) -> dict[int, int]:
        return {day: len(self.lines(day)) for day in self.known}

    def lines(self, day: int) -> pa.Array:
        return self.write(self.known[day])


Feed: TypeAlias = DailyTable | DailySnapshot


@dataclass(frozen=True)
class Prepared:
    """Everything but the clicks themselves, which are streamed."""

    tables: Tables
    feeds: Mapping[str, Feed]  # all but clicks
    clicks_per_day: Mapping[int, int]


def prepare(source: Input, tables: Tables) -> Prepared:
    """One pass over the clicks, then the order of everything else."""
    undated = cdc.undated_registrations(tables)
    clicks = summarize(source, tables, undated=undated)
    created = cdc.created_days(tables, clicks.first_click)
    first_days = _first_days(tables, created, clicks.first_day)
    return Prepared(
        tables=tables,
        feeds=_changes(tables, created) | _submissions(tables) | _snapshots(tables, first_days),
        clicks_per_day=clicks.rows_per_day,
    )


def _changes(tables: Tables, created: np.ndarray) -> dict[str, Feed]:
    log = cdc.change_log(tables, created)
    of_students = pc.is_in(log["phase"], pa.array([cdc.ENROLLED, cdc.FINISHED]))
    registrations, students = log.filter(pc.invert(of_students)), log.filter(of_students)
    return {
        "registrations": DailyTable(registrations, partial(cdc.registration_lines, tables)),
        "students": DailyTable(students, partial(cdc.student_lines, tables)),
    }


def _submissions(tables: Tables) -> dict[str, Feed]:
    order = [(name, "ascending") for name in ("event_day", "presentation_id", "event_order")]
    return {"submissions": DailyTable(tables.submissions.sort_by(order), events.submission_lines)}


def _snapshots(tables: Tables, first_days: Mapping[str, int]) -> dict[str, Feed]:
    snapshots: dict[str, Feed] = {}
    for name, table, write in (
        ("presentations", tables.presentations, events.presentation_lines),
        ("sites", tables.sites, events.site_lines),
        ("assessments", tables.assessments, events.assessment_lines),
    ):
        known = _known(first_days, with_rows=set(table["presentation_id"].to_pylist()))
        snapshots[name] = DailySnapshot(known, partial(write, tables))
    return snapshots


def count_days(days: np.ndarray) -> dict[int, int]:
    """Rows per day, days ascending."""
    values, counts = np.unique(days, return_counts=True)
    return dict(zip(values.tolist(), counts.tolist(), strict=True))


def _first_days(
    tables: Tables, created: np.ndarray, first_click: Mapping[int, int]
) -> dict[str, int]:
    """Day of each presentation's first event; its day 0 where it has none."""
    first = tables.presentations["start_day"].to_numpy().copy()
    np.minimum.at(
        first, rows_of(tables.registrations["presentation_id"], tables.presentations), created
    )
    submitted = tables.submissions
    np.minimum.at(
        first,
        rows_of(submitted["presentation_id"], tables.presentations),
        submitted["event_day"].to_numpy(),
    )
    for row, day in first_click.items():
        first[row] = min(first[row], day)
    return dict(
        zip(tables.presentations["presentation_id"].to_pylist(), first.tolist(), strict=True)
    )


def _known(first_days: Mapping[str, int], *, with_rows: set[str]) -> dict[int, pa.Array]:
    """For each day on which the catalogue grows, the presentations in it."""
    listed = {name: day for name, day in first_days.items() if name in with_rows}
    return {
        day: pa.array(sorted(name for name, first in listed.items() if first <= day), pa.string())
        for day in sorted(set(listed.values()))
    }
