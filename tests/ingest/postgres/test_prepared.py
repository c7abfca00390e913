"""What a database must be like: what is missing is named before anything is taken, with its cure."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from scale_assets.ingest.postgres.capture import Capture
from scale_assets.ingest.postgres.changes import PostgresChanges
from scale_assets.ingest.postgres.connection import Database
from scale_assets.ingest.postgres.errors import CannotConnect, NotPrepared
from scale_assets.ingest.postgres.spec import CaptureSpec
from scale_assets.lake import Lake
from tests.ingest.postgres.conftest import ORDERS, agree, changes, feed_of
from tests.ingest.postgres.server import Server

Connection = psycopg.Connection[Any]


@pytest.mark.parametrize(
    ("statement", "cure"),
    [
        ("alter table plans replica identity nothing", r"NOTHING.*ALTER TABLE plans REPLICA IDENT"),
        ("alter table plans drop constraint plans_pkey", "DEFAULT, and there is no primary key"),
        (
            "create unique index i on plans (price); alter table plans replica identity using index i",
            r"\['price'\] lacks the contract's key \['id'\].*REPLICA IDENTITY FULL",
        ),
        ("alter table plans set unlogged", "ALTER TABLE public.plans SET LOGGED"),
        ("drop table plans", "public.plans is not in the database"),
        ("drop table plans; create view plans as select 1 as id", "is no table"),
        (
            "create publication shop for table orders",
            "no public.plans; run ALTER PUBLICATION shop ADD TABLE public.plans",
        ),
        (
            "create publication shop for table plans, orders with (publish = 'insert, update')",
            "leaves out delete, truncate; run ALTER PUBLICATION shop SET",
        ),
    ],
)
def test_what_is_not_prepared_is_refused_with_the_cure(
    capture: Callable[[], Capture], database: Connection, lake: Lake, statement: str, cure: str
) -> None:
    database.execute(statement)
    with pytest.raises(NotPrepared, match=f"(?s){cure}"):
        capture().run()
    assert lake.tables() == []


def test_the_cure_helps(capture: Callable[[], Capture], database: Connection, lake: Lake) -> None:
    database.execute("alter table plans drop constraint plans_pkey")
    database.execute("alter table plans replica identity full")
    database.execute("insert into plans values (1, 10, 'x')")
    capture().run()
    database.execute("update plans set price = 11")
    database.execute("update plans set id = 2")
    capture().run()
    agree(lake, database)


def test_an_identity_that_is_narrowed_midstream_stops_the_capture(
    capture: Callable[[], Capture], database: Connection, lake: Lake
) -> None:
    capture().run()
    database.execute("create unique index by_price on plans (price)")
    database.execute("alter table plans replica identity using index by_price")
    database.execute("insert into plans values (1, 10, null)")
    database.execute("update plans set id = 2")
    database.execute("alter table plans replica identity default")

    with pytest.raises(NotPrepared, match=r"carry \['price'\], not the contract's key \['id'\]"):
        capture().run()


def test_a_role_without_rights_is_told_which(
    postgres: Server,
    spec: CaptureSpec,
    lake: Lake,
    feeds: list[PostgresChanges],
    database: Connection,
) -> None:
    def run_as(role: str) -> None:
        dsn = spec.database.dsn.replace("scale@", f"{role}@")
        Capture(lake, replace(spec, database=Database("shop", dsn)), feeds).run()

    database.execute("drop role if exists guest")
    database.execute("create role guest login")
    with pytest.raises(NotPrepared, match=r"GRANT SELECT ON public\.plans TO"):
        run_as("guest")
    database.execute("grant select on plans, orders to guest")
    with pytest.raises(NotPrepared, match="owner runs: CREATE PUBLICATION"):
        run_as("guest")
    database.execute("create publication shop for table plans, orders")
    with pytest.raises(CannotConnect, match="ALTER ROLE <role> REPLICATION"):
        run_as("guest")
    database.execute("alter role guest replication")
    run_as("guest")
    database.execute("drop owned by guest")
    database.execute("drop role guest")


def test_a_server_that_does_not_answer_is_named(
    lake: Lake, spec: CaptureSpec, feeds: list[PostgresChanges]
) -> None:
    nowhere = Database("shop", "postgresql://me:secret@127.0.0.1:1/x")
    with pytest.raises(
        CannotConnect, match=r"(?s)database shop: .*start it, or correct its DSN"
    ) as refused:
        Capture(lake, replace(spec, database=nowhere), feeds).run()
    assert "secret" not in str(refused.value) + repr(nowhere)


def test_rows_that_a_policy_hides_are_not_missed_in_silence(
    spec: CaptureSpec, lake: Lake, feeds: list[PostgresChanges], database: Connection
) -> None:
    database.execute("create publication shop for table plans, orders")
    database.execute("drop role if exists reader")
    database.execute("create role reader login replication")
    database.execute("grant select on plans, orders to reader")
    database.execute("alter table plans enable row level security")
    dsn = spec.database.dsn.replace("scale@", "reader@")
    with pytest.raises(NotPrepared, match=r"row-level security.*BYPASSRLS"):
        Capture(lake, replace(spec, database=Database("shop", dsn)), feeds).run()
    database.execute("drop owned by reader")
    database.execute("drop role reader")


def test_a_publications_filter_and_columns_hold_for_the_snapshot_too(
    capture: Callable[[], Capture], database: Connection, lake: Lake
) -> None:
    if database.info.server_version < 150000:
        pytest.skip("column lists and row filters came with PostgreSQL 15")
    database.execute(
        "create publication shop for table plans (id, price) where (id < 10), table orders"
    )
    for first in (1, 2):
        database.execute("insert into plans values (%s, 1, 'x'), (%s, 2, 'y')", [first, first + 10])
        capture().run()

    found = [(row["op"], row["id"], row["terms"]) for row in changes(lake, "plans")]
    assert found == [("r", 1, None), ("c", 2, None)]


def test_partitions_arrive_as_their_table(
    spec: CaptureSpec, lake: Lake, tmp_path: Path, database: Connection
) -> None:
    database.execute(
        "drop table orders; create table orders (shop text, number int, amount numeric, "
        "placed_at timestamptz, primary key (shop, number)) partition by list (shop);"
        "create table orders_a partition of orders for values in ('a');"
        "create table orders_b partition of orders for values in ('b', 'c')"
    )
    feed = feed_of(spec, tmp_path, "orders", ORDERS)
    for number in (1, 2):
        database.execute(
            "insert into orders select s, %s, 1, null from unnest('{a,b}'::text[]) s", [number]
        )
        Capture(lake, spec, [feed]).run()
    database.execute("update orders set shop = 'c' where shop = 'a'")
    Capture(lake, spec, [feed]).run()

    found = [(row["op"], row["shop"], row["number"]) for row in changes(lake, "orders")]
    assert found[:4] == [("r", "a", 1), ("r", "b", 1), ("c", "a", 2), ("c", "b", 2)]
    assert sorted(found[4:]) == [("c", "c", 1), ("c", "c", 2), ("d", "a", 1), ("d", "a", 2)]
