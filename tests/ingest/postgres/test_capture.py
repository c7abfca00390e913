"""Tables of a database arrive in the lake row for row, whatever was done to them."""

from collections.abc import Callable
from typing import Any

import psycopg

from scale_assets.ingest.account import account
from scale_assets.ingest.postgres.capture import Capture
from scale_assets.ingest.postgres.changes import PostgresChanges
from scale_assets.lake import Lake
from tests.ingest.postgres.conftest import agree, changes

Database = psycopg.Connection[Any]
LONG = "x" * 9000  # stored out of line


def test_a_snapshot_and_then_the_stream(
    capture: Callable[[], Capture], database: Database, lake: Lake, feeds: list[PostgresChanges]
) -> None:
    database.execute("insert into plans values (1, 10, 'old'), (2, 20, null), (3, 30, '')")
    first = capture().run()
    assert first.snapshots == ["public.plans", "public.orders"]
    agree(lake, database)

    database.execute("insert into plans values (4, 40, 'new')")
    with database.transaction():
        database.execute("update plans set price = 11 where id = 1")
        database.execute("insert into orders values ('a', 1, 9.5, '2013-02-01 10:00+02')")
        database.execute("delete from plans where id = 2")
    second = capture().run()
    agree(lake, database)

    assert second.snapshots == []
    assert [row["op"] for row in changes(lake, "plans")] == ["r", "r", "r", "c", "u", "d"]
    in_transaction = [row["tx_ordinal"] for row in changes(lake, "plans")[-2:]]
    assert in_transaction == [0, 2]  # 1 is the order's
    assert all(account(lake, feed).is_exact for feed in feeds)
    again = capture().run()
    assert [report.num_received for report in again.tables.values()] == [0, 0]
