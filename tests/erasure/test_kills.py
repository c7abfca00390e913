"""kill -9 anywhere in an erasure: run it again, and the end is the same."""

import os
import pickle
import signal
import subprocess
import sys

import pytest

from scale_assets.ingest.account import account
from scale_assets.ingest.ingestion import ingest
from tests.erasure.conftest import GONE, STAYS, Shop, json_lines, visit

PROGRAM = """
import pickle, sys
from tests.erasure.conftest import Shop
pickle.loads(sys.stdin.buffer.read()).forget()
"""
POINTS = [
    *("after_parquet:1", "after_parquet:2", "after_parquet:9", "after_listing"),
    *(f"after_erase:{nth}" for nth in range(1, 8)),
    *(f"before_purge:{nth}" for nth in range(1, 8)),
    *(f"before_replace:{nth}" for nth in (1, 2, 3)),
]


@pytest.mark.fault
@pytest.mark.parametrize("point", POINTS)
def test_killed_and_run_again(shop: Shop, point: str) -> None:
    received = account(shop.lake, shop.visits).received
    killed = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input=pickle.dumps(shop),
        env={**os.environ, "SCALE_FAULT": point, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        check=False,
        timeout=120,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    shop.deliver(shop.visits, "2.jsonl", json_lines([visit(20, GONE, day=5), visit(21, 9, day=5)]))
    ingest(shop.lake, shop.visits)

    statement = shop.forget()

    assert statement.checked.residues == ()
    assert shop.users("raw/visits") == {STAYS, 9}
    assert account(shop.lake, shop.visits).received == received + 2
    assert account(shop.lake, shop.visits).is_exact
    assert account(shop.lake, shop.members).is_exact
    assert shop.lake.read("accounts")["account_id"].to_pylist() == ["north-4712", "north-9"]
    assert not list(shop.root.rglob(".forget-*"))
    assert not list(shop.root.rglob("*forget_fresh*"))
