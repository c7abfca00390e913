"""The one place where a test may kill this process: ``SCALE_FAULT=<point>[:<n>]``.

With the variable set, reaching the named point for the n-th time (first by default) is SIGKILL,
so that nothing is flushed, closed or caught. The points: before_write, rewriting, after_parquet,
after_quarantine, after_move, after_commit, before_acknowledge, before_log; of a captured database
also after_slot, in_snapshot, at_handover; of an erasure after_listing, after_erase, before_purge,
before_replace; of an online load load_started, load_in_part, load_before_progress, load_after_part,
load_before_finish, load_finished.
"""

import os
import signal
from collections import Counter

_reached: Counter[str] = Counter()


def fault_point(name: str) -> None:
    """Die here if a test asked for it; otherwise do nothing."""
    wanted, _, occurrence = os.environ.get("SCALE_FAULT", "").partition(":")
    if wanted != name:
        return
    _reached[name] += 1
    if _reached[name] == int(occurrence or 1):
        os.kill(os.getpid(), signal.SIGKILL)
