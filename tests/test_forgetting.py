"""`scale forget`: what a project declares is found, erased and proved from the command line."""

import uuid
from io import StringIO
from pathlib import Path

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console as RichConsole
from typer.testing import CliRunner

from scale_assets.cli import app
from scale_assets.console import Console
from scale_assets.erasure.check import Checked, Residue
from scale_assets.erasure.person import ErasureError
from scale_assets.follow import ingest_feeds
from scale_assets.forgetting import conclude, forget_person
from scale_assets.instance import open_instance
from scale_assets.lake import Lake
from scale_assets.settings import load_settings
from tests.erasure.conftest import GONE, MEMBERS, STAYS, VISITS, change, json_lines, visit

DECLARED = """\
type: scale_assets.components.EventStream
attributes:
  name: visits
  contract: visits.odcs.yaml
  transport: {type: files, path: visits}
  key: [event_id]
  event_time: event_time
  calendar: {start: "2013-01-01", end: "2013-01-31"}
  max_quarantined_fraction: 1
---
type: scale_assets.components.ChangeFeed
attributes:
  name: members
  contract: members.odcs.yaml
  transport: {type: files, path: members}
  key: [user_id]
---
type: scale_assets.components.Snapshot
attributes:
  name: people
  contract: people.odcs.yaml
  transport: {type: files, path: people}
---
type: scale_assets.components.DatabaseCapture
attributes:
  name: shop
  connection: shop
  slot: shop
  publication: shop
  tables:
    - {name: buyers, table: public.buyers, contract: buyers.odcs.yaml, key: [user_id]}
"""
DG = """\
directory_type = "project"
[project]
root_module = "shop"
code_location_name = "shop"
"""


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lake:
    """Stand in a project that has taken in two feeds."""
    folder = tmp_path / "shop" / "defs" / "shop"
    folder.mkdir(parents=True)
    (tmp_path / "dg.toml").write_text(DG)
    (folder.parent.parent / "__init__.py").touch()
    (folder / "defs.yaml").write_text(DECLARED)
    (folder / "visits.odcs.yaml").write_text(VISITS)
    for name in ("members", "people", "buyers"):
        (folder / f"{name}.odcs.yaml").write_text(MEMBERS.replace("members", name))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("SCALE_DATA_DIR", str(tmp_path / "data"))
    for name, rows in (
        ("visits", [visit(1, GONE), visit(2, STAYS)]),
        ("members", [change("c", GONE, "Bath", lsn=1), change("c", STAYS, "York", lsn=2)]),
    ):
        feeds = tmp_path / "data" / "feeds" / name
        feeds.mkdir(parents=True)
        (feeds / "1.jsonl").write_bytes(json_lines(rows))
    take_in()
    return Lake(tmp_path / "data" / "lake")


def take_in() -> None:
    ingest_feeds(
        load_settings(),
        ["visits", "members"],
        Console(RichConsole(file=StringIO(), width=200)),
        follow=False,
        every_seconds=1,
        report_seconds=1,
        accept_loss=False,
        replay_quarantine=False,
    )


def scale_forget(*, check_only: bool = False, subject: str = "user") -> str:
    said = StringIO()
    console = Console(RichConsole(file=said, width=300))
    forget_person(load_settings(), console, subject=subject, id_=str(GONE), check_only=check_only)
    return said.getvalue()


def test_a_person_is_erased_and_stays_out(lake: Lake, tmp_path: Path) -> None:
    with pytest.raises(ErasureError, match=r"still there:\n(?s:.*)raw/visits/.*: column user_id"):
        scale_forget(check_only=True)

    said = scale_forget()

    assert "nothing of the person found" in said
    for source in (
        f"**source of visits** (folder {tmp_path}/data/feeds/visits)",
        "**source of members**",
        "**source of people**",
        "**source of shop** (database shop)",
    ):
        assert source in said
    assert lake.read("raw/visits")["user_id"].to_pylist() == [STAYS]
    assert lake.read("raw/members_changes")["user_id"].to_pylist() == [STAYS]
    assert len(list((tmp_path / "data" / "erasure").iterdir())) == 2
    again = json_lines([visit(3, GONE), visit(4, STAYS)])
    (tmp_path / "data" / "feeds" / "visits" / "2.jsonl").write_bytes(again)
    take_in()  # which fails where rows are unaccounted for
    assert lake.read("raw/visits")["user_id"].to_pylist() == [STAYS, STAYS]
    assert "nothing of the person found" in scale_forget(check_only=True)


def test_residue_fails_the_command_and_is_named(lake: Lake) -> None:
    del lake
    scale_forget()
    left = load_settings().training_dir / "copy.parquet"
    left.parent.mkdir(parents=True)
    pq.write_table(pa.table({"user_id": [GONE]}), left)

    with pytest.raises(ErasureError, match=f"- {left}: column user_id"):
        scale_forget(check_only=True)


def test_many_residues_are_counted_beyond_the_first(tmp_path: Path) -> None:
    residues = tuple(
        Residue(path=f"{tmp_path}/{number}.parquet", where="column id") for number in range(50)
    )

    with pytest.raises(ErasureError, match=r"(?s)0\.parquet.*19\.parquet.*and 30 more") as raised:
        conclude(
            Console(RichConsole(file=StringIO())),
            Checked(num_files=50, num_bytes=1, residues=residues),
        )

    assert "20.parquet" not in str(raised.value)


@pytest.mark.parametrize(
    ("assets", "is_refused"),
    [
        pytest.param(["members"], True, id="derives a table"),
        pytest.param(["ingest/visits", "raw/members_changes"], False, id="only reads on"),
    ],
)
def test_runs_that_write_tables_are_waited_for(
    lake: Lake, assets: list[str], is_refused: bool
) -> None:
    del lake
    with open_instance(load_settings()) as instance:
        keys = frozenset(dg.AssetKey(name.split("/")) for name in assets)
        run = dg.DagsterRun(
            job_name="__ASSET_JOB",
            run_id=str(uuid.uuid4()),
            status=dg.DagsterRunStatus.STARTED,
            asset_selection=keys,
        )
        instance.add_run(run)

    if is_refused:
        with pytest.raises(ErasureError, match=f"{run.run_id} may be writing tables"):
            scale_forget()
    else:
        assert "nothing of the person found" in scale_forget()


def test_the_collectors_pseudonym_is_erased_too(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del lake
    monkeypatch.setenv("SCALE_COLLECT_PII_KEY", "k" * 32)
    from scale_assets.contracts import Pseudonyms

    pseudonym = Pseudonyms(key="k" * 32, key_id="1").of(str(GONE))
    kept = tmp_path / "data" / "training" / "kept.parquet"
    kept.parent.mkdir(parents=True)
    pq.write_table(pa.table({"user_id": [pseudonym, "somebody"]}), kept)

    scale_forget()

    assert pq.read_table(kept)["user_id"].to_pylist() == ["somebody"]


def test_the_id_has_to_be_given() -> None:
    assert CliRunner().invoke(app, ["forget"]).exit_code == 2
