"""Known answers of the real data: a small course always, everything with -m slow."""

import json
from datetime import date
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.json as pa_json
import pytest

from scale_assets.replay.feeds import replay
from scale_assets.replay.source import Input, open_input
from scale_assets.replay.tables import load_tables


@pytest.fixture
def oulad(oulad_dir: Path) -> Input:
    return open_input(oulad_dir, reason="test")


def sums(folder: Path, feed: str, column: str) -> tuple[int, int]:
    """Rows of a feed, and the sum of one of its columns."""
    tables = [pa_json.read_json(path) for path in sorted((folder / feed).glob("*.jsonl"))]
    return (
        sum(table.num_rows for table in tables),
        sum(pc.sum(table[column]).as_py() for table in tables),
    )


def cancellations(folder: Path) -> int:
    return sum(
        json.loads(line)["after"]["unregistered_on"] is not None
        for path in (folder / "registrations").glob("*.jsonl")
        for line in path.read_text().splitlines()
    )


def test_small_tables_have_the_known_counts(oulad: Input) -> None:
    tables = load_tables(oulad)

    assert tables.presentations.num_rows == 15
    assert tables.sites.num_rows == 4_694
    assert tables.assessments.num_rows == 149
    assert tables.submissions.num_rows == 121_738
    assert tables.students.num_rows == 21_333
    registrations = tables.registrations
    assert registrations.num_rows == 21_333
    assert registrations.num_rows - registrations["unregistered_day"].null_count == 6_333
    # 45 in the full archive, which has presentations that these files lack
    assert registrations["registered_day"].null_count == 36


def test_one_course_has_the_known_counts(oulad: Input, tmp_path: Path) -> None:
    report = replay(oulad, tmp_path, presentations=["GGG-2014B"])

    assert sums(tmp_path, "clicks", "num_clicks") == (123_319, 425_165)
    assert report.rows["clicks"] == 123_319
    clicks = sorted(path.stem for path in (tmp_path / "clicks").glob("*.jsonl"))
    assert clicks[0] == str(date(2014, 1, 24))  # day -8
    assert clicks[-1] == str(report.last_day)


@pytest.mark.slow
def test_everything_has_the_known_counts(oulad: Input, tmp_path: Path) -> None:
    report = replay(oulad, tmp_path)

    assert dict(report.rows) == {
        "presentations": 105,
        "sites": 37_820,
        "assessments": 1_137,
        "registrations": 21_333 + 6_333,
        "students": 2 * 21_333,
        "submissions": 121_738,
        "clicks": 7_035_828,
    }
    assert sums(tmp_path, "clicks", "num_clicks") == (7_035_828, 25_804_801)
    assert cancellations(tmp_path) == 6_333
    assert (report.first_day, report.last_day) == (date(2012, 3, 28), date(2015, 9, 15))
