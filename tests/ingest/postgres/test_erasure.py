"""Whom the lake has forgotten a captured database does not bring back, though it still has them."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import psycopg

from scale_assets.contracts import load_contract
from scale_assets.erasure.forget import check, forget
from scale_assets.erasure.person import Feed
from scale_assets.erasure.scope import Scope
from scale_assets.ingest.account import account
from scale_assets.ingest.postgres.capture import Capture
from scale_assets.ingest.postgres.changes import PostgresChanges
from scale_assets.lake import Lake
from tests.ingest.postgres.conftest import PLANS, changes

Database = psycopg.Connection[Any]
SUBJECT = "primaryKey: true, customProperties: [{property: scale.subject, value: user}]"


def scope_of(lake: Lake, feed: PostgresChanges) -> Scope:
    said = Feed(
        name=feed.name,
        contract=load_contract(feed.contract_path),
        table=feed.table,
        quarantine_table=feed.quarantine_table,
    )
    nowhere = feed.contract_path.parent / "none"
    return Scope(
        lake=lake,
        feeds=[said],
        views=[],
        folders=[],
        online_path=nowhere,
        warehouse_path=nowhere,
        vectors_dir=nowhere,
        out_of_reach=[],
        refuse_if_busy=lambda: None,
    )


def test_snapshot_and_stream_leave_out_who_was_forgotten(
    capture: Callable[[], Capture], database: Database, lake: Lake, feeds: list[PostgresChanges]
) -> None:
    plans = feeds[0]
    plans.contract_path.write_text(PLANS.replace("primaryKey: true", SUBJECT))
    database.execute("insert into plans values (41, 10, null), (42, 20, null)")
    capture().run()
    scope = scope_of(lake, plans)

    statement = forget(scope, subject="user", ids=["42"], working=lambda _: nullcontext())
    database.execute("update plans set price = 21 where id = 42")
    database.execute("update plans set price = 11 where id = 41")
    database.execute("delete from plans where id = 42")
    capture().run()

    assert statement.checked.residues == ()
    assert [(row["op"], row["id"]) for row in changes(lake, "plans")] == [("r", 41), ("u", 41)]
    total = account(lake, plans)
    assert (total.received, total.erased) == (5, 3)
    assert total.is_exact
    assert check(scope, subject="user", ids=["42"]).residues == ()
