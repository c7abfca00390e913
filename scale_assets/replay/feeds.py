"""Replays history into the feeds a company would have: one JSON-lines file per feed and day."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path

import pyarrow as pa

from scale_assets.replay.clicks import Clicks, clicks_by_day
from scale_assets.replay.events import click_lines
from scale_assets.replay.files import WholeFiles, only_writer
from scale_assets.replay.lines import line_bytes
from scale_assets.replay.manifest import FORMAT, Manifest, read_manifest, write_manifest
from scale_assets.replay.prepared import Prepared, prepare
from scale_assets.replay.source import Input
from scale_assets.replay.tables import EPOCH, Tables, load_tables

# In the order in which one day's files are written: what others refer to comes first.
FEEDS = (
    "presentations",
    "sites",
    "assessments",
    "registrations",
    "students",
    "submissions",
    "clicks",
)
WINDOW_ROWS = 1_000_000  # click rows held at once
RENDER_ROWS = 100_000  # click rows held as text at once

Progress = Callable[[date, int, int], None]  # day just reached, files done, files to write


@dataclass(frozen=True)
class ReplayReport:
    """What lies in the feeds up to ``until``, and what this run added."""

    rows: Mapping[str, int]  # per feed, up to until
    new_rows: Mapping[str, int]  # per feed, written by this run
    new_days: Sequence[date]
    first_day: date | None
    last_day: date | None  # latest day with an event, up to until
    is_complete: bool  # nothing left after until
    seconds: float


def replay(
    source: Input,
    feeds_dir: Path,
    *,
    until: date | None = None,
    modules: Sequence[str] | None = None,
    presentations: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> ReplayReport:
    """Write every feed's files for the days up to and including ``until``; None means all days.

    A day's file depends on the input and the choice of presentations alone, so any sequence of
    runs, killed or not, leaves the same bytes. Files that are there are kept.

    Raises:
        InputError: The input is broken, or has none of the chosen presentations.
        FeedsError: The folder holds other feeds, is in use, or the disk is full.

    """
    started = time.monotonic()
    tables = load_tables(source, modules=modules, presentations=presentations)
    with only_writer(feeds_dir):
        manifest, prepared = _manifest(source, tables, feeds_dir)
        wanted = _up_to(manifest, until)
        missing = _missing(wanted, feeds_dir)
        if missing:
            _write_days(source, prepared or prepare(source, tables), feeds_dir, missing, progress)
    return _report(manifest, wanted, missing, seconds=time.monotonic() - started)


def _manifest(source: Input, tables: Tables, feeds_dir: Path) -> tuple[Manifest, Prepared | None]:
    """The folder's manifest, made and written on the first run."""
    wanted = Manifest(
        format=FORMAT,
        fingerprint=source.fingerprint(),
        presentations=tables.presentations["presentation_id"].to_pylist(),
        rows={},
        source=source.description.partition(": ")[0],
    )
    manifest = read_manifest(feeds_dir, wanted)
    if manifest is not None:
        return manifest, None
    prepared = prepare(source, tables)
    rows = {name: feed.rows_per_day() for name, feed in prepared.feeds.items()}
    rows["clicks"] = dict(sorted(prepared.clicks_per_day.items()))
    manifest = replace(
        wanted,
        rows={
            feed: {_on(day).isoformat(): count for day, count in days.items()}
            for feed, days in rows.items()
        },
    )
    for feed in FEEDS:
        (feeds_dir / feed).mkdir(exist_ok=True)
    write_manifest(feeds_dir, manifest)
    return manifest, prepared


Files = dict[date, dict[str, int]]  # day -> feed -> rows, days ascending, feeds in FEEDS' order


def _up_to(manifest: Manifest, until: date | None) -> Files:
    files: Files = {}
    for feed in FEEDS:
        for day_text, count in manifest.rows[feed].items():
            day = date.fromisoformat(day_text)
            if until is None or day <= until:
                files.setdefault(day, {})[feed] = count
    return dict(sorted(files.items()))


def _missing(wanted: Files, feeds_dir: Path) -> Files:
    there = {feed: {path.name for path in (feeds_dir / feed).glob("*.jsonl")} for feed in FEEDS}
    missing = {
        day: {feed: rows for feed, rows in feeds.items() if f"{day}.jsonl" not in there[feed]}
        for day, feeds in wanted.items()
    }
    return {day: feeds for day, feeds in missing.items() if feeds}


def _write_days(
    source: Input,
    prepared: Prepared,
    feeds_dir: Path,
    missing: Files,
    progress: Progress | None,
) -> None:
    click_days = {
        (day - EPOCH).days: feeds["clicks"] for day, feeds in missing.items() if "clicks" in feeds
    }
    presentations = prepared.tables.presentations
    clicks = clicks_by_day(source, prepared.tables, click_days, window_rows=WINDOW_ROWS)
    num_files, done = sum(map(len, missing.values())), 0
    files = WholeFiles()
    for day, feeds in missing.items():
        for feed in feeds:
            path = feeds_dir / feed / f"{day}.jsonl"
            if feed == "clicks":
                _, of_day = next(clicks)
                files.add(path, _click_text(of_day, presentations))
            else:
                lines = prepared.feeds[feed].lines((day - EPOCH).days)
                files.add(path, [line_bytes(lines)])
            done += 1
        if progress is not None:
            progress(day, done, num_files)
    files.publish()


def _click_text(clicks: Clicks, presentations: pa.Table) -> Iterator[memoryview]:
    for start in range(0, len(clicks), RENDER_ROWS):
        part = clicks.take(slice(start, start + RENDER_ROWS))
        yield line_bytes(click_lines(part, presentations=presentations))


def _report(manifest: Manifest, wanted: Files, missing: Files, *, seconds: float) -> ReplayReport:
    num_days = len({day for days in manifest.rows.values() for day in days})
    return ReplayReport(
        rows=_count_rows(wanted),
        new_rows=_count_rows(missing),
        new_days=list(missing),
        first_day=min(wanted, default=None),
        last_day=max(wanted, default=None),
        is_complete=len(wanted) == num_days,
        seconds=seconds,
    )


def _count_rows(files: Files) -> dict[str, int]:
    counts = Counter(dict.fromkeys(FEEDS, 0))
    for feeds in files.values():
        counts.update(feeds)
    return dict(counts)


def _on(day: int) -> date:
    return EPOCH + timedelta(days=day)
