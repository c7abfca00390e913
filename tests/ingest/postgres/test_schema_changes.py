"""Columns added, dropped, renamed and retyped midstream: values stay with their names."""

from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from scale_assets.ingest.account import account
from scale_assets.ingest.postgres.capture import Capture
from scale_assets.ingest.postgres.changes import PostgresChanges
from scale_assets.lake import Lake
from tests.ingest.postgres.conftest import PLANS, changes

Database = psycopg.Connection[Any]
Run = Callable[[], object]

OPEN = PLANS.replace(
    "  - name: plans\n",
    "  - name: plans\n    customProperties: [{property: scale.openSchema, value: true}]\n",
)
WITH_SEATS = PLANS + "      - {name: seats, logicalType: integer}\n"
# Each case: contract, what the schema becomes, the row written after it, what arrives of that row
# (None: it is set aside), and by which rule.
CASES = {
    "an unknown column": (PLANS, "add color text", "(id, price) values (9, 90)", None, "unknown_column"),
    "an unknown column, open contract": (
        OPEN, "add color text default 'red'", "(id, price, terms) values (9, 90, 't')", (90, "t"), "",
    ),
    "a known column": (
        WITH_SEATS, "add seats int", "(id, price, seats) values (9, 90, 4)", (90, None, 4), "",
    ),
    "a known column with a default": (
        WITH_SEATS, "add seats int default 7", "(id, price) values (9, 90)", (90, None, 7), "",
    ),
    "an optional column dropped": (
        PLANS, "drop terms", "(id, price) values (9, 90)", (90, None), "",
    ),
    "a required column dropped": (
        PLANS, "drop price", "(id, terms) values (9, 't')", None, "missing_field",
    ),
    "a column renamed": (
        PLANS, "rename terms to notes", "(id, price, notes) values (9, 90, 't')", None, "unknown_column",
    ),
    "a column renamed, open contract": (
        OPEN, "rename terms to notes", "(id, price, notes) values (9, 90, 't')", (90, None), "",
    ),
    "a required column renamed, open contract": (
        OPEN, "rename price to cost", "(id, cost) values (9, 90)", None, "missing_field",
    ),
    "dropped and added again, now last": (
        PLANS, "drop price, add price int", "(id, terms, price) values (9, 't', 90)", (90, "t"), "",
    ),
    "a type that the contract's holds": (
        PLANS, "alter price type bigint", "(id, price) values (9, 90)", (90, None), "",
    ),
    "a type whose values fit": (
        PLANS, "alter price type numeric", "(id, price) values (9, 90)", (90, None), "",
    ),
    "a type of another kind": (
        PLANS, "alter price type text", "(id, price) values (9, '90')", None, "wrong_type",
    ),
}  # fmt: skip


@pytest.mark.parametrize("where", ["in a transaction", "between runs"])
@pytest.mark.parametrize("case", CASES)
def test_a_changed_table(
    capture: Callable[[], Capture],
    database: Database,
    lake: Lake,
    feeds: list[PostgresChanges],
    case: str,
    where: str,
) -> None:
    contract, alteration, insert, expected, rule = CASES[case]
    feeds[0].contract_path.write_text(contract)
    database.execute("insert into plans values (1, 10, 'one')")
    capture().run()
    with database.transaction():
        database.execute("insert into plans values (2, 20, 'two'), (3, 30, 'three')")
        if where == "between runs":
            database.execute("commit")
            capture().run()
            database.execute("begin")
        database.execute(f"alter table plans {alteration}")
        database.execute(f"insert into plans {insert}")
        database.execute("delete from plans where id = 3")
    capture().run()

    arrived = {row["id"]: row for row in changes(lake, "plans") if row["op"] in "cr"}
    columns = ["price", "terms", *(["seats"] if "seats" in contract else [])]
    assert [[arrived[id_][name] for name in columns[:2]] for id_ in (1, 2, 3)] == [
        [10, "one"],
        [20, "two"],
        [30, "three"],
    ]
    assert changes(lake, "plans")[-1]["op"] == "d"
    if expected is None:
        assert 9 not in arrived
    else:
        assert tuple(arrived[9][name] for name in columns) == expected
    assert lake.read("raw/plans_quarantine")["rule"].to_pylist() == ([rule] if rule else [])
    assert account(lake, feeds[0]).is_exact


def test_names_that_change_places_take_their_values_with_them(
    capture: Callable[[], Capture], database: Database, lake: Lake, feeds: list[PostgresChanges]
) -> None:
    feeds[0].contract_path.write_text(WITH_SEATS)
    database.execute("alter table plans add seats int")
    database.execute("insert into plans values (1, 10, null, 1)")
    capture().run()
    with database.transaction():
        database.execute("insert into plans values (2, 20, null, 2)")
        database.execute("alter table plans rename price to old")
        database.execute("alter table plans rename seats to price")
        database.execute("alter table plans rename old to seats")
        database.execute("insert into plans values (3, 3, null, 30)")
        database.execute("update plans set price = price where id = 1")
    capture().run()

    found = [(row["id"], row["price"], row["seats"]) for row in changes(lake, "plans")]
    assert found == [(1, 10, 1), (2, 20, 2), (3, 30, 3), (1, 1, 10)]


def test_a_renamed_key_stops_the_capture(
    capture: Callable[[], Capture], database: Database, lake: Lake
) -> None:
    database.execute("insert into plans values (1, 10, null)")
    capture().run()
    database.execute("alter table plans rename id to number")
    database.execute("update plans set price = 11")

    with pytest.raises(ValueError, match=r"replica identity \['number'\] lacks the contract's key"):
        capture().run()


def test_a_table_that_comes_later_gets_its_own_snapshot(
    lake: Lake, capture: Callable[[], Capture], database: Database, feeds: list[PostgresChanges]
) -> None:
    """The slot is older than the table's snapshot; what both hold is taken once."""
    one = capture()
    first = Capture(lake, one.spec, feeds[:1])
    database.execute("create publication shop for table plans, orders")
    first.run()
    database.execute("insert into orders values ('a', 1, 1, now())")
    database.execute("insert into plans values (1, 10, null)")
    database.execute("update orders set amount = 2")

    second = capture().run()

    assert second.snapshots == ["public.orders"]
    assert [row["op"] for row in changes(lake, "orders")] == ["r"]
    assert [row["op"] for row in changes(lake, "plans")] == ["c"]
    database.execute("update orders set amount = 3")
    capture().run()
    assert [row["amount"] for row in changes(lake, "orders")] == [2.0, 3.0]
