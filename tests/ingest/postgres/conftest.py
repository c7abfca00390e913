"""A database with two tables, and a capture of them."""

from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from scale_assets.ingest.postgres.capture import Capture
from scale_assets.ingest.postgres.changes import PostgresChanges
from scale_assets.ingest.postgres.connection import Database
from scale_assets.ingest.postgres.source import PostgresSource
from scale_assets.ingest.postgres.spec import CaptureSpec
from scale_assets.lake import Lake
from tests.ingest.postgres.server import Server, drop_slots, fresh_database, running_server

PLANS = """\
apiVersion: v3.1.0
kind: DataContract
id: plans
name: plans
version: 1.0.0
status: active
schema:
  - name: plans
    properties:
      - {name: id, logicalType: integer, primaryKey: true}
      - {name: price, logicalType: integer, required: true}
      - {name: terms, logicalType: string}
"""
ORDERS = """\
apiVersion: v3.1.0
kind: DataContract
id: orders
name: orders
version: 1.0.0
status: active
schema:
  - name: orders
    properties:
      - {name: shop, logicalType: string, primaryKey: true, primaryKeyPosition: 1}
      - {name: number, logicalType: integer, primaryKey: true, primaryKeyPosition: 2}
      - {name: amount, logicalType: number}
      - {name: placed_at, logicalType: timestamp}
"""
TABLES = """
create table plans (id bigint primary key, price int not null, terms text);
alter table plans alter terms set storage external;
create table orders (
    shop text, number int, amount numeric(12, 2), placed_at timestamptz, primary key (shop, number)
)
"""
KEYS = {"plans": ("id",), "orders": ("shop", "number")}
COLUMNS = {"plans": ("id", "price", "terms"), "orders": ("shop", "number", "amount", "placed_at")}

Row = dict[str, Any]


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    with running_server() as server:
        yield server


@pytest.fixture
def dsn(postgres: Server, request: pytest.FixtureRequest) -> Iterator[str]:
    """A database of the test's own, with both tables."""
    name = f"test_{abs(hash(request.node.nodeid)) % 10**12}"
    dsn = fresh_database(postgres, name)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(TABLES)
    yield dsn
    drop_slots(postgres)


@pytest.fixture
def database(dsn: str) -> Iterator[psycopg.Connection[Any]]:
    """A connection of the application whose changes are captured."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        yield connection


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


@pytest.fixture
def spec(dsn: str) -> CaptureSpec:
    return CaptureSpec(
        name="shop", database=Database("shop", dsn), slot=slot_of(dsn), publication="shop"
    )


def slot_of(dsn: str) -> str:
    return dsn.rsplit("/", 1)[-1] + "_slot"


@pytest.fixture
def feeds(spec: CaptureSpec, tmp_path: Path) -> list[PostgresChanges]:
    return [
        feed_of(spec, tmp_path, name, text) for name, text in (("plans", PLANS), ("orders", ORDERS))
    ]


def feed_of(spec: CaptureSpec, folder: Path, name: str, contract: str) -> PostgresChanges:
    path = folder / f"{name}.odcs.yaml"
    path.write_text(contract)
    return PostgresChanges(
        name=name,
        source=PostgresSource(spec.database, spec.slot, (f"public.{name}",)),
        contract_path=path,
        table=f"raw/{name}_changes",
        quarantine_table=f"raw/{name}_quarantine",
        relation=f"public.{name}",
    )


@pytest.fixture
def capture(lake: Lake, spec: CaptureSpec, feeds: list[PostgresChanges]) -> Callable[..., Capture]:
    """A new run's capture."""

    def make() -> Capture:
        return Capture(lake, spec, feeds)

    return make


def changes(lake: Lake, name: str) -> list[Row]:
    """All changes in their order."""
    rows = lake.read(f"raw/{name}_changes").to_pylist()
    return sorted(rows, key=lambda row: (row["lsn"], row["tx_ordinal"]))


def target(lake: Lake, name: str) -> dict[tuple[Any, ...], Row]:
    """What the changes make of the table: applied one by one, by the book."""
    state: dict[tuple[Any, ...], Row] = {}
    gone: dict[tuple[Any, ...], Row] = {}
    for change in changes(lake, name):
        key = tuple(change[column] for column in KEYS[name])
        if change["op"] == "t":
            state.clear()
        elif change["op"] == "d":
            gone[key] = state.pop(key)  # a delete of a row that is not there fails
        else:
            moved = change["_moved_from"]
            before = gone[tuple(moved.values())] if moved else state.get(key, {})
            row = {column: change[column] for column in COLUMNS[name]}
            state[key] = row | {column: before[column] for column in change["_unchanged"] or ()}
    return state


def source(connection: psycopg.Connection[Any], name: str) -> dict[tuple[Any, ...], Row]:
    """The table as the database has it, numerics as doubles."""
    columns = ", ".join(COLUMNS[name])
    with connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(f"select {columns} from {name}").fetchall()
    plain = [{c: float(v) if isinstance(v, Decimal) else v for c, v in row.items()} for row in rows]
    return {tuple(row[column] for column in KEYS[name]): row for row in plain}


def agree(lake: Lake, connection: psycopg.Connection[Any]) -> None:
    """Both tables of the lake are the database's, row for row, and every change is accounted for."""
    for name in KEYS:
        assert target(lake, name) == source(connection, name)
