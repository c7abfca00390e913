"""The click table, streamed: far too large to hold, so read in passes over windows of days."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from scale_assets.replay.source import Input, InputError
from scale_assets.replay.tables import (
    KEY,
    WHOLE,
    Tables,
    presentation_ids,
    ranks_within,
    read_csv_options,
    refuse_unknown,
    rows_of,
    to_whole,
)

BATCH_ROWS = 1 << 18
CSV_BLOCK_BYTES = 1 << 24
COLUMNS_READ = {"id_student": WHOLE, "id_site": WHOLE, "date": WHOLE, "sum_click": WHOLE}


@dataclass(frozen=True)
class Clicks:
    """Parallel int64 columns, one entry per click record."""

    presentation: np.ndarray  # row number in Tables.presentations
    event_order: np.ndarray  # row number among the presentation's records in the source
    event_day: np.ndarray  # days since 1970-01-01
    student_id: np.ndarray
    site_id: np.ndarray
    num_clicks: np.ndarray

    def __len__(self) -> int:
        return len(self.event_day)

    def take(self, rows: np.ndarray | slice) -> "Clicks":
        return Clicks(**{name: column[rows] for name, column in vars(self).items()})


@dataclass
class ClickSummary:
    """What the plan needs to know of the clicks before any is written."""

    rows_per_day: dict[int, int] = field(default_factory=dict)
    first_day: dict[int, int] = field(default_factory=dict)  # by presentation row number
    first_click: dict[tuple[int, int], int] = field(default_factory=dict)  # see summarize()


def read_clicks(source: Input, tables: Tables) -> Iterator[Clicks]:
    """Batches in source order; each presentation's records keep their file order."""
    counts = np.zeros(tables.presentations.num_rows, np.int64)
    starts = tables.presentations["start_day"].to_numpy()
    for groups, batch in _batches(source, tables):
        yield Clicks(
            presentation=groups,
            event_order=counts[groups] + ranks_within(groups),
            event_day=starts[groups] + _numbers(batch, "date"),
            student_id=_numbers(batch, "id_student"),
            site_id=_numbers(batch, "id_site"),
            num_clicks=_numbers(batch, "sum_click"),
        )
        counts += np.bincount(groups, minlength=len(counts))


def summarize(source: Input, tables: Tables, *, undated: set[tuple[int, int]]) -> ClickSummary:
    """One pass: rows per day, first day per presentation, first click of undated registrations.

    ``undated`` holds (presentation row number, student_id) pairs.
    """
    summary = ClickSummary()
    students = np.array(sorted({student for _, student in undated}), np.int64)
    for batch in read_clicks(source, tables):
        for day, count in zip(*np.unique(batch.event_day, return_counts=True), strict=True):
            summary.rows_per_day[int(day)] = summary.rows_per_day.get(int(day), 0) + int(count)
        for group in np.unique(batch.presentation):
            first = int(batch.event_day[batch.presentation == group].min())
            summary.first_day[int(group)] = min(first, summary.first_day.get(int(group), first))
        found = batch.take(np.isin(batch.student_id, students))
        for group, student, day in zip(
            found.presentation, found.student_id, found.event_day, strict=True
        ):
            key = (int(group), int(student))
            if key in undated:
                summary.first_click[key] = min(int(day), summary.first_click.get(key, int(day)))
    return summary


def clicks_by_day(
    source: Input, tables: Tables, rows_per_day: Mapping[int, int], *, window_rows: int
) -> Iterator[tuple[int, Clicks]]:
    """Each day's clicks, days ascending; within a day by presentation, then in file order.

    Every pass over the source keeps a window of whole days of about ``window_rows`` rows, so that
    memory does not grow with the source.
    """
    for window_days in _windows(rows_per_day, window_rows):
        window = _collect(read_clicks(source, tables), window_days)
        days, starts = np.unique(window.event_day, return_index=True)
        ends = np.append(starts[1:], len(window))
        for day, start, end in zip(days, starts, ends, strict=True):
            yield int(day), window.take(slice(start, end))


def _collect(batches: Iterator[Clicks], days: list[int]) -> Clicks:
    """The clicks of these days, sorted by day, presentation and file order."""
    kept = [batch.take(np.isin(batch.event_day, days)) for batch in batches]
    columns = {name: [vars(batch).pop(name) for batch in kept] for name in list(vars(kept[0]))}
    keys = [np.concatenate(columns[name]) for name in ("event_order", "presentation", "event_day")]
    order = np.lexsort(keys)
    del keys  # one column at a time from here: a window's columns are most of our memory
    return Clicks(**{name: np.concatenate(columns.pop(name))[order] for name in list(columns)})


def _windows(rows_per_day: Mapping[int, int], window_rows: int) -> Iterator[list[int]]:
    """Consecutive days, as many as fit; a day with more rows than that is a window of its own."""
    days: list[int] = []
    rows = 0
    for day in sorted(rows_per_day):
        if days and rows + rows_per_day[day] > window_rows:
            yield days
            days, rows = [], 0
        days.append(day)
        rows += rows_per_day[day]
    if days:
        yield days


def _batches(source: Input, tables: Tables) -> Iterator[tuple[np.ndarray, pa.RecordBatch]]:
    """Record batches of the chosen presentations, each row's presentation beside it."""
    try:
        if source.layout == "csv":
            yield from _csv_batches(source, tables)
        else:
            yield from _parquet_batches(source, tables)
    except (pa.ArrowInvalid, pa.ArrowKeyError, KeyError) as error:
        raise InputError(f"studentVle cannot be read: {error}") from error


def _csv_batches(source: Input, tables: Tables) -> Iterator[tuple[np.ndarray, pa.RecordBatch]]:
    reader = pa_csv.open_csv(
        source.click_files()[0],
        read_options=pa_csv.ReadOptions(block_size=CSV_BLOCK_BYTES),
        convert_options=read_csv_options(KEY | COLUMNS_READ),
    )
    chosen = tables.presentations["presentation_id"].combine_chunks()
    for batch in reader:
        ids = presentation_ids(batch)
        refuse_unknown(ids, tables.known_ids, name="studentVle")
        is_chosen = pc.is_in(ids, chosen)
        yield rows_of(ids.filter(is_chosen), tables.presentations), batch.filter(is_chosen)


def _parquet_batches(source: Input, tables: Tables) -> Iterator[tuple[np.ndarray, pa.RecordBatch]]:
    chosen = tables.presentations["presentation_id"].to_pylist()
    for path in source.click_files():
        module, term = (folder.name.partition("=")[2] for folder in (path.parents[1], path.parent))
        presentation_id = f"{module}-{term}"
        refuse_unknown(pa.array([presentation_id]), tables.known_ids, name="studentVle_ds")
        if presentation_id not in chosen:
            continue
        row = chosen.index(presentation_id)
        for batch in pq.ParquetFile(path).iter_batches(BATCH_ROWS, columns=list(COLUMNS_READ)):
            yield np.full(batch.num_rows, row), batch


def _numbers(batch: pa.RecordBatch, column: str) -> np.ndarray:
    values = batch.column(column)
    if values.null_count:
        raise InputError(f"studentVle, column {column}, has missing values; every row needs one")
    numbers: np.ndarray = to_whole(values, name=f"studentVle, column {column},").to_numpy()
    return numbers
