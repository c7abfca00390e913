"""The proof's long rows: 200 deaths at random, and 25 workloads of TOAST values and moved keys."""

from dataclasses import replace
from typing import Any

import psycopg
import pytest

from scale_assets.ingest.postgres.changes import PostgresChanges
from scale_assets.ingest.postgres.spec import CaptureSpec
from scale_assets.lake import Lake
from tests.ingest.postgres.test_kills import WINDOW_BYTES, killed_over_and_over

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.mark.parametrize("seed", range(10))
def test_killed_twenty_times_each(
    lake: Lake,
    spec: CaptureSpec,
    feeds: list[PostgresChanges],
    database: psycopg.Connection[Any],
    seed: int,
) -> None:
    small = replace(spec, max_batch_bytes=WINDOW_BYTES)
    assert killed_over_and_over(lake, small, feeds, database, seed=seed, times=20) > 0


@pytest.mark.parametrize("identity", ["default", "full"])
@pytest.mark.parametrize("seed", range(100, 113))
def test_toast_and_moved_keys_survive(
    lake: Lake,
    spec: CaptureSpec,
    feeds: list[PostgresChanges],
    database: psycopg.Connection[Any],
    seed: int,
    identity: str,
) -> None:
    database.execute(f"alter table plans replica identity {identity}")
    small = replace(spec, max_batch_bytes=WINDOW_BYTES)
    killed_over_and_over(lake, small, feeds, database, seed=seed, times=4)
