"""What the report reads of a data folder."""

import json
from pathlib import Path

from scale_assets.report import collect


def test_each_stage_keeps_the_time_of_the_newest_run_that_had_work_for_it(tmp_path: Path) -> None:
    runs = [
        [("sessions", 7.0), ("sessions", 2.0), ("marts", 5.0)],
        [("sessions", 1.0)],
        [],
    ]
    log = [{"steps": [{"name": name, "seconds": took} for name, took in run]} for run in runs]
    (tmp_path / "runs.jsonl").write_text("".join(json.dumps(run) + "\n" for run in log))

    assert collect.stage_seconds(tmp_path) == {"sessions": 1.0, "marts": 5.0}


def test_without_a_run_there_are_no_timings(tmp_path: Path) -> None:
    assert collect.stage_seconds(tmp_path) == {}


def test_the_world_is_what_was_replayed_so_far(tmp_path: Path) -> None:
    manifest = {"source": "tables in x", "presentations": ["GGG-2013J", "GGG-2014B", "EEE-2013J"]}
    (tmp_path / "replay.json").write_text(json.dumps(manifest))
    for day in ("2013-10-02", "2013-10-01", "2013-10-05"):
        (tmp_path / "clicks").mkdir(exist_ok=True)
        (tmp_path / "clicks" / f"{day}.jsonl").touch()

    world = collect.replayed_world(tmp_path)

    assert world is not None
    assert world.modules == ["EEE", "GGG"]
    assert (world.first_day, world.last_day) == ("2013-10-01", "2013-10-05")


def test_feeds_that_the_replay_did_not_write_are_no_world(tmp_path: Path) -> None:
    assert collect.replayed_world(tmp_path) is None
