"""Runs a capture in a process that dies: at a named point, or after some time."""

import multiprocessing
import os
import signal
from collections.abc import Sequence
from multiprocessing.context import ForkServerContext

from scale_assets.ingest.postgres.capture import Capture
from scale_assets.ingest.postgres.changes import PostgresChanges
from scale_assets.ingest.postgres.spec import CaptureSpec
from scale_assets.lake import Lake

PRELOADED = ["tests.ingest.postgres.killing", "psycopg", "duckdb", "pyarrow.csv"]


class Doomed:
    """Starts processes quickly: from one that has imported everything and done nothing."""

    def __init__(self, lake: Lake, spec: CaptureSpec, feeds: Sequence[PostgresChanges]) -> None:
        self._arguments = (lake.root, spec, list(feeds))
        self._context: ForkServerContext = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(PRELOADED)

    def run(self, *, fault: str = "", seconds: float | None = None) -> bool:
        """Whether the run was killed; it may have ended before. Any other end is an error."""
        process = self._context.Process(target=_capture, args=(*self._arguments, fault))
        process.start()
        process.join(timeout=60 if seconds is None else seconds)
        process.kill()
        process.join()
        assert process.exitcode in (0, -signal.SIGKILL), process.exitcode
        return process.exitcode != 0


def _capture(root: str, spec: CaptureSpec, feeds: Sequence[PostgresChanges], fault: str) -> None:
    os.environ["SCALE_FAULT"] = fault
    Capture(Lake(root), spec, feeds).run()
