"""The persistent Dagster instance of a data folder, and the one process that may drive it."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg

from scale_assets.errors import ScaleError
from scale_assets.pipeline import RUN_TAG
from scale_assets.settings import Settings, project_dir

UNFINISHED = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


class AlreadyRunning(ScaleError):
    """Another process drives this data folder."""


def prepare_home(settings: Settings) -> Path:
    """Make DAGSTER_HOME and copy dagster.yaml into it: the project's own, else ours."""
    home = settings.dagster_home
    home.mkdir(parents=True, exist_ok=True)
    declared = project_dir() / "dagster.yaml"
    ours = Path(__file__).with_name("dagster.yaml")
    shutil.copyfile(declared if declared.is_file() else ours, home / "dagster.yaml")
    return home


def open_instance(settings: Settings) -> dg.DagsterInstance:
    """The instance that `scale dev` shows too, so that every run appears in the UI."""
    home = prepare_home(settings)
    os.environ["DAGSTER_HOME"] = str(home)
    return dg.DagsterInstance.from_config(str(home))


@contextmanager
def sole_driver(settings: Settings) -> Iterator[None]:
    """Hold the data folder while a command drives the graph.

    Raises:
        AlreadyRunning: Another process holds it; the lock goes with that process.
    """
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    with (settings.data_dir / "driver.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise AlreadyRunning(
                f"process {lock.read().strip() or 'unknown'} already runs the pipeline of "
                f"{settings.data_dir}; wait for it, or set SCALE_DATA_DIR to another folder"
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def clear_dead_runs(instance: dg.DagsterInstance) -> int:
    """Cancel what a killed driver left unfinished and free the pools it held.

    Call under `sole_driver`: then no run with our tag can be alive.
    """
    dead = instance.get_runs(dg.RunsFilter(statuses=UNFINISHED, tags={RUN_TAG: "1"}))
    for run in dead:
        instance.report_run_canceled(run, message="The process that ran it was killed.")
        instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
    return len(dead)
