"""Kill -9 at every point of an online load: the next load goes on, and the store equals the lake."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow.compute as pc
import pytest

from scale_assets.features import changes
from scale_assets.features.codec import Layout
from scale_assets.features.loading import LoadReport, load_view
from scale_assets.features.stores import Backend, open_backend
from scale_assets.lake import Lake
from tests.features.test_loading import DAY, START, VIEW, append, table

pytestmark = pytest.mark.fault

POINTS = [
    ("load_started", 0),
    ("load_in_part", 0),
    ("load_in_part:4", None),  # parts are written side by side, so any number may be done
    ("load_before_progress", 0),
    ("load_after_part", None),
    ("load_after_part:3", None),
    ("load_before_finish", 7),
    ("load_finished", 7),
]
PROGRAM = """
import sys
from scale_assets.features import changes
from scale_assets.features.stores import open_backend
from scale_assets.lake import Lake
from tests.features.test_load_kills import load
root, address = sys.argv[1:]
with open_backend(address) as backend:
    load(Lake(root), backend)
"""


def load(lake: Lake, backend: Backend) -> LoadReport:
    changes.PART_ROWS = 300
    return load_view(lake, VIEW, backend)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """A table that the store equals, and then commits: late, newer, corrected and lost rows."""
    return Lake(tmp_path / "lake")


@pytest.fixture
def backend(address: str) -> Iterator[Backend]:
    with open_backend(address) as backend:
        yield backend


def killed(lake: Lake, address: str, point: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, lake.root, address],
        env={**os.environ, "SCALE_FAULT": point},
        check=False,
    )
    assert done.returncode == -signal.SIGKILL


@pytest.mark.parametrize(("point", "num_done"), POINTS)
def test_a_first_load_that_is_killed(
    lake: Lake, backend: Backend, address: str, point: str, num_done: int | None
) -> None:
    append(lake, table(*[(f"u{i}", i % 5, i % 7, i % 9) for i in range(2_000)]))

    killed(lake, address, point)
    report = load(lake, backend)

    assert_equals_the_lake(lake, backend)
    if point == "load_finished":
        assert report.num_considered == 0
    elif num_done is not None:
        assert (report.num_parts, report.num_parts_done_before) == (7, num_done)
    assert load(lake, backend).num_considered == 0


@pytest.mark.parametrize("point", [point for point, _ in POINTS])
@pytest.mark.parametrize("goes_on", [False, True], ids=["the table rests", "the table goes on"])
def test_an_incremental_load_that_is_killed(
    lake: Lake, backend: Backend, address: str, point: str, goes_on: bool
) -> None:
    append(lake, table(*[(f"u{i}", 2, 2, i % 9) for i in range(2_000)]))
    append(lake, table(*[(f"u{i}", 5, 5, 1) for i in range(0, 2_000, 3)]))
    load(lake, backend)
    rows = lake.read("features/clicks")
    lake.overwrite(
        "features/clicks", rows.filter(pc.not_equal(rows["feature_time"], START + 5 * DAY))
    )
    late = [(f"u{i}", 1, 9, 4) for i in range(2_000)]
    append(lake, table(*late, *[(f"v{i}", 3, 3, 2) for i in range(1_500)]))

    killed(lake, address, point)
    if goes_on:
        append(lake, table(*[(f"u{i}", 6, 6, 3) for i in range(0, 2_000, 5)]))
        lake.open("features/clicks").delete("\"user\" = 'v1'")
    load(lake, backend)

    assert_equals_the_lake(lake, backend)


def assert_equals_the_lake(lake: Lake, backend: Backend) -> None:
    rows = lake.read("features/clicks").to_pylist()
    latest: dict[str, dict[str, object]] = {}
    for row in rows:
        rank = (row["feature_time"], row["known_at"], row["clicks"])
        if row["user"] not in latest or rank > _rank(latest[row["user"]]):
            latest[row["user"]] = row
    layout = Layout(VIEW.columns)
    keys = [key for batch in backend.keys("clicks") for key in batch]
    values = backend.get({"clicks": keys}).values["clicks"]
    found = {key: layout.decode(data) for key, data in zip(keys, values, strict=True)}
    assert found.keys() == latest.keys()
    wrong = [
        key
        for key, row in latest.items()
        if found[key].feature_time != row["feature_time"]
        or found[key].known_at != row["known_at"]
        or found[key].values["clicks"] != row["clicks"]
    ]
    assert wrong == []


def _rank(row: dict[str, object]) -> tuple[object, ...]:
    return row["feature_time"], row["known_at"], row["clicks"]
