"""`scale ingest` and `scale check` in a project of its own, as a person would call them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ingest.conftest import CONTRACT, event, lines

STREAM = """\
type: scale_assets.components.EventStream
attributes:
  name: views
  contract: views.odcs.yaml
  transport: {type: files, path: views}
  key: [event_id]
  event_time: event_time
  calendar: {start: "2013-01-01", end: "2013-01-31"}
"""
DG = """\
directory_type = "project"
[project]
root_module = "shop"
code_location_target_module = "scale_assets.definitions"
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "dg.toml").write_text(DG)
    defs = tmp_path / "shop" / "defs" / "views"
    defs.mkdir(parents=True)
    (defs / "defs.yaml").write_text(STREAM)
    (defs / "views.odcs.yaml").write_text(CONTRACT.format(version="1.0.0", more=""))
    feeds = tmp_path / ".data" / "feeds" / "views"
    feeds.mkdir(parents=True)
    (feeds / "a.jsonl").write_bytes(lines([event(1), event(2, color="red")]))
    return tmp_path


def scale(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "scale_assets", *arguments],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )


def test_a_mended_contract_brings_the_quarantined_lines_back(project: Path) -> None:
    first = scale(project, "ingest", "views")
    counts = "views: 2 received, 1 accepted, 1 quarantined, 0 duplicates"
    assert counts in first.stdout, first.stderr
    assert "  1 in quarantine" in first.stdout
    assert "  held back: 2013-01-01" in first.stdout
    contract = project / "shop" / "defs" / "views" / "views.odcs.yaml"
    contract.write_text(
        CONTRACT.format(version="1.1.0", more="      - {name: color, logicalType: string}\n")
    )

    assert "views: contract 1.1.0 may follow: adds color" in scale(project, "check").stdout
    replayed = scale(project, "ingest", "views", "--replay-quarantine")

    assert "1 quarantined lines read again: 1 accepted, 0 were duplicates" in replayed.stdout
    assert "0 in quarantine" in replayed.stdout
    assert "  logged: 2013-01-01 to 2013-01-01" in replayed.stdout


def test_a_breaking_contract_fails_the_check(project: Path) -> None:
    scale(project, "ingest", "views")
    contract = project / "shop" / "defs" / "views" / "views.odcs.yaml"
    contract.write_text(contract.read_text().replace("1.0.0", "1.1.0").replace("score", "rating"))

    failed = scale(project, "check", "views")

    assert failed.returncode == 1
    assert "- field_removed score:" in failed.stdout
    assert "BreakingContracts: views: mend the contract" in failed.stdout


def test_an_unknown_feed_is_named(project: Path) -> None:
    failed = scale(project, "ingest", "clicks")

    assert failed.returncode == 1
    assert "UnknownFeed: no event stream or change feed is named clicks; there are views" in said(
        failed
    )


def test_a_replay_has_an_end_and_following_has_none(project: Path) -> None:
    failed = scale(project, "ingest", "views", "--follow", "--replay-quarantine")

    assert failed.returncode == 1
    assert "replay in a run of its own" in said(failed)


def said(done: subprocess.CompletedProcess[str]) -> str:
    """What was printed, without the breaks of lines that were too long."""
    return " ".join(done.stdout.split())
