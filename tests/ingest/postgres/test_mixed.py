"""Unchanged TOAST values, moved keys and everything else in one transaction: row for row the same."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from scale_assets.ingest.account import account
from scale_assets.ingest.postgres.capture import Capture
from scale_assets.ingest.postgres.changes import PostgresChanges
from scale_assets.lake import Lake
from tests.ingest.postgres.conftest import agree, changes
from tests.ingest.postgres.workload import Workload

IDENTITIES = ["default", "full"]


@pytest.mark.parametrize("seed", range(5))
def test_a_workload_arrives_row_for_row(
    capture: Callable[[], Capture],
    database: psycopg.Connection[Any],
    lake: Lake,
    feeds: list[PostgresChanges],
    seed: int,
) -> None:
    workload = Workload(database, seed)
    workload.fill(20)
    for identity in IDENTITIES:
        database.execute(f"alter table plans replica identity {identity}")
        for _ in range(2):
            workload.transactions(15)
            run = capture()
            run.spec = replace(run.spec, max_batch_bytes=20_000)  # windows, and parts of windows
            run.run()
            agree(lake, database)
    assert all(account(lake, feed).is_exact for feed in feeds)
    assert lake.num_rows("raw/plans_quarantine") == 0
    seen = changes(lake, "plans")
    assert any(row["_unchanged"] for row in seen)
    assert any(row["_moved_from"] for row in seen)
    identities = [(row["lsn"], row["tx_ordinal"]) for row in seen]
    assert len(set(identities)) == len(identities)
