"""The example as its README says: copied elsewhere, one file in, tables equal to a naive loop."""

import gzip
import json
import os
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from scale_assets.lake import Lake

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "wikipedia"
SAMPLE = "wikiticker-2015-09-12-sampled.json.gz"
GAP = timedelta(minutes=30)
ALLOWED_SUFFIXES = {".yaml", ".toml", ".md"}

pytestmark = pytest.mark.timeout(900)  # one Spark run, which other tests beside it slow down


@pytest.fixture(scope="module")
def sample(shared_data_dir: Path) -> Path:
    return shared_data_dir / "wikiticker" / SAMPLE


@pytest.fixture(scope="module")
def edits(sample: Path) -> list[dict[str, Any]]:
    with gzip.open(sample, "rt") as lines:
        found = [json.loads(line) for line in lines]
    for edit in found:
        edit["time"] = datetime.strptime(edit["time"], "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)
    return found


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, sample: Path) -> Path:
    """The example outside this repository, run once with the file in its feed."""
    folder = tmp_path_factory.mktemp("example") / "wikipedia"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns(".*"))
    feed = folder / ".data" / "feeds" / "edits"
    feed.mkdir(parents=True)
    shutil.copyfile(sample, feed / SAMPLE)
    scale_run(folder)
    return folder


@pytest.fixture(scope="module")
def lake(project: Path) -> Lake:
    return Lake(project / ".data" / "lake")


def scale_run(folder: Path) -> str:
    """`scale run` as a user calls it: in the project's folder, with no setting at all."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("SCALE_") and name != "DAGSTER_HOME"
    }
    command = [sys.executable, "-m", "scale_assets", "run"]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_edit_is_taken_once_and_none_is_refused(
    lake: Lake, edits: list[dict[str, Any]]
) -> None:
    taken = lake.read("raw/edits", columns=["time", "user", "page", "isRobot", "metroCode"])

    assert taken.num_rows == len(edits) == 39_244
    assert lake.num_rows("raw/edits_quarantine") == 0
    expected = [{name: edit[name] for name in taken.column_names} for edit in edits]
    assert sorted(taken.to_pylist(), key=by_time) == sorted(expected, key=by_time)


def by_time(row: dict[str, Any]) -> datetime:
    time: datetime = row["time"]
    return time


def test_the_key_tells_every_edit_of_the_file_apart(edits: list[dict[str, Any]]) -> None:
    keys = {(edit["time"], edit["channel"], edit["user"], edit["page"]) for edit in edits}

    assert len(keys) == len(edits)


def test_sessions_equal_a_loop_over_each_users_edits(
    lake: Lake, edits: list[dict[str, Any]]
) -> None:
    made = lake.read("sessions")

    assert made.num_rows == 16_097
    rows = [
        (
            *(row["user"], row["session_start"], row["session_end"], row["num_edits"]),
            *(row["added"], row["deleted"], row["num_pages"], row["num_channels"]),
        )
        for row in made.to_pylist()
    ]
    assert sorted(rows) == sorted(looped_sessions(edits))
    assert set(made["session_date"].to_pylist()) == {date(2015, 9, 12)}


def looped_sessions(edits: list[dict[str, Any]]) -> Iterator[tuple[Any, ...]]:
    by_user: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for edit in edits:
        by_user[edit["user"]].append(edit)
    for user, own in by_user.items():
        session: list[dict[str, Any]] = []
        for edit in sorted(own, key=by_time):
            if session and edit["time"] - session[-1]["time"] > GAP:
                yield summed(user, session)
                session = []
            session.append(edit)
        yield summed(user, session)


def summed(user: str, session: list[dict[str, Any]]) -> tuple[Any, ...]:
    return (
        *(user, session[0]["time"], session[-1]["time"], len(session)),
        *(sum(edit[name] for edit in session) for name in ("added", "deleted")),
        *(len({edit[name] for edit in session}) for name in ("page", "channel")),
    )


def test_channel_days_equal_sums_over_the_file(lake: Lake, edits: list[dict[str, Any]]) -> None:
    of_channel: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for edit in edits:
        of_channel[edit["channel"]].append(edit)
    expected = {
        channel: {
            "channel": channel,
            "event_date": date(2015, 9, 12),
            "num_edits": len(own),
            "num_users": len({edit["user"] for edit in own}),
            "added": sum(edit["added"] for edit in own),
            "deleted": sum(edit["deleted"] for edit in own),
        }
        for channel, own in of_channel.items()
    }

    made = {row["channel"]: row for row in lake.read("channel_days").to_pylist()}

    assert made == expected
    assert len(made) == 51
    english = made["#en.wikipedia"]
    assert (english["num_edits"], english["num_users"]) == (11_549, 4_343)


def test_running_again_changes_nothing(project: Path, lake: Lake) -> None:
    tables = ["raw/edits", "raw/edits_quarantine", "sessions", "channel_days"]
    before = {table: lake.version(table) for table in tables}

    said = scale_run(project)

    assert {table: lake.version(table) for table in tables} == before
    assert "done ingest/edits" in said
    assert "sessions" not in said


def test_telemetry_is_off_in_a_project_without_a_dagster_yaml(project: Path) -> None:
    assert not (project / "dagster.yaml").exists()
    assert "enabled: false" in (project / ".data" / "dagster" / "dagster.yaml").read_text()


def test_the_example_has_no_code_and_no_data() -> None:
    files = [
        path
        for path in EXAMPLE.rglob("*")
        if path.is_file() and ".data" not in path.relative_to(EXAMPLE).parts
    ]

    assert {path.suffix for path in files} == ALLOWED_SUFFIXES
    assert sum(path.name.endswith(".odcs.yaml") for path in files) == 1
