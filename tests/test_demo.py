"""The demo as a whole: killed anywhere or run in steps, it ends with the same tables."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pytest

from scale_assets.lake import Lake

ROOT = Path(__file__).resolve().parent.parent
DEMO = [sys.executable, "-m", "scale_assets", "demo", "--tiny"]
TIMEOUT_S = 1800

# (environment, text whose appearance in the output is the moment to kill): the first kind of kill
# happens inside a commit, at a named point of the lake; the second while a stage is at work.
KILLS: list[tuple[dict[str, str], str | None]] = [
    ({}, "...  replay"),
    ({"SCALE_FAULT": "after_parquet"}, None),
    ({"SCALE_FAULT": "after_quarantine"}, None),
    ({"SCALE_FAULT": "after_commit:3"}, None),
    ({"SCALE_FAULT": "before_log"}, None),
    ({}, "...  sessions"),
    ({}, "...  scale_warehouse_models"),
    ({}, "...  online/registration_activity"),
    ({}, "...  train_withdrawal_network"),
]


def environment(data_dir: Path, extra: dict[str, str] | None = None) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if name[:6] != "SCALE_"}
    return {**inherited, "SCALE_DATA_DIR": str(data_dir), **(extra or {})}


def run_demo(data_dir: Path, *options: str) -> str:
    done = subprocess.run(
        [*DEMO, *options],
        cwd=ROOT,
        env=environment(data_dir),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    return done.stdout


def run_and_kill(data_dir: Path, extra: dict[str, str], moment: str | None) -> None:
    """SIGKILL the demo and all that it started; it must not have come to its end."""
    with subprocess.Popen(
        DEMO,
        cwd=ROOT,
        env=environment(data_dir, extra),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if moment is not None and moment in line:
                break
        else:
            assert moment is None, f"the demo ended before {moment!r}"
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            assert moment is None  # it killed itself at its fault point
    assert process.returncode != 0


def tables(data_dir: Path) -> dict[str, pa.Table]:
    lake = Lake(data_dir / "lake")
    return {name: in_order(lake.read(name)) for name in lake.tables()}


def in_order(rows: pa.Table) -> pa.Table:
    plain = [
        field.name
        for field in rows.schema
        if not pa.types.is_nested(field.type) and not pa.types.is_dictionary(field.type)
    ]
    return rows.sort_by([(name, "ascending") for name in plain]).combine_chunks()


def differences(found: dict[str, pa.Table], expected: dict[str, pa.Table]) -> Iterator[str]:
    if found.keys() != expected.keys():
        yield f"tables {sorted(found.keys() ^ expected.keys())}"
    for name in found.keys() & expected.keys():
        if not found[name].equals(expected[name]):
            yield f"{name}: {found[name].num_rows} and {expected[name].num_rows} rows"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, pa.Table]:
    data_dir = tmp_path_factory.mktemp("undisturbed")
    output = run_demo(data_dir)
    assert '"probabilities"' in output
    assert '"site_ids"' in output
    assert (data_dir / "report.html").stat().st_size > 50_000
    return tables(data_dir)


@pytest.mark.fault
@pytest.mark.timeout(3 * TIMEOUT_S)
def test_killed_anywhere_and_run_again_the_tables_are_the_same(
    undisturbed: dict[str, pa.Table], tmp_path: Path
) -> None:
    for extra, moment in KILLS:
        run_and_kill(tmp_path, extra, moment)
    run_demo(tmp_path)

    assert list(differences(tables(tmp_path), undisturbed)) == []


@pytest.mark.slow
@pytest.mark.timeout(3 * TIMEOUT_S)
@pytest.mark.parametrize("steps", [("2014-03-01", "2014-06-15")], ids=["three steps"])
def test_run_in_steps_the_tables_are_the_same(
    steps: Sequence[str], undisturbed: dict[str, pa.Table], tmp_path: Path
) -> None:
    for until in steps:
        run_demo(tmp_path, "--until", until)
    run_demo(tmp_path)

    assert list(differences(tables(tmp_path), undisturbed)) == []
