"""A small shop with everything in which a person can be: two feeds, derived tables, files, stores."""

import json
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scale_assets.contracts import load_contract
from scale_assets.erasure.forget import forget
from scale_assets.erasure.person import Feed
from scale_assets.erasure.scope import OutOfReach, Scope
from scale_assets.erasure.statement import Statement
from scale_assets.features.codec import Layout
from scale_assets.features.repo import SourceDeclaration, ViewDeclaration
from scale_assets.features.stores import open_backend
from scale_assets.features.writer import Value, ViewWriter
from scale_assets.ingest.changes import ChangeFeed
from scale_assets.ingest.derive import derive_current, derive_history
from scale_assets.ingest.events import EventFeed
from scale_assets.ingest.file_source import FilesSource
from scale_assets.ingest.ingestion import ingest
from scale_assets.lake import Lake
from tests.lake.conftest import s3_options, s3_root

__all__ = ["s3_options", "s3_root"]

GONE, STAYS = 4711, 4712  # two customers; the first one is forgotten
VISITS = """\
apiVersion: v3.1.0
kind: DataContract
id: visits
name: visits
version: 1.0.0
status: active
schema:
  - name: visits
    customProperties:
      - property: scale.derivedIds
        value: {account_id: "{shop}-{user_id}"}
    properties:
      - {name: event_id, logicalType: string, primaryKey: true}
      - {name: event_time, logicalType: timestamp, required: true}
      - {name: shop, logicalType: string, required: true}
      - name: user_id
        logicalType: integer
        required: true
        customProperties: [{property: scale.subject, value: user}]
      - {name: item_id, logicalType: integer, required: true}
"""
MEMBERS = """\
apiVersion: v3.1.0
kind: DataContract
id: members
name: members
version: 1.0.0
status: active
schema:
  - name: members
    properties:
      - name: user_id
        logicalType: integer
        primaryKey: true
        customProperties: [{property: scale.subject, value: user}]
      - {name: city, logicalType: string}
"""
VIEW = ViewDeclaration(
    name="account_activity",
    join_keys=("account_id",),
    columns=(("visits", "int64"),),
    ttl=timedelta(days=1),
    source=SourceDeclaration("accounts", "feature_time", None),
)


def visit(number: int, user: Any, *, shop: str = "north", day: int = 1) -> dict[str, Any]:
    return {
        "event_id": f"{shop}-{number}",
        "event_time": f"2013-01-{day:02}T00:00:00Z",
        "shop": shop,
        "user_id": user,
        "item_id": GONE,  # an item that happens to have the same number
    }


def change(op: str, user: int, city: str, *, lsn: int) -> dict[str, Any]:
    stamp = int(datetime(2013, 1, 1, tzinfo=UTC).timestamp() * 1000) + lsn
    row = {"user_id": user, "city": city}
    return {
        "before": row if op == "d" else None,
        "after": None if op == "d" else row,
        "source": {"lsn": lsn, "txId": lsn, "ts_ms": stamp},
        "op": op,
        "ts_ms": stamp,
    }


def json_lines(rows: list[Any]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


@dataclass(frozen=True, kw_only=True)
class Shop:
    """The feeds, and where everything is."""

    root: Path
    lake: Lake
    visits: EventFeed
    members: ChangeFeed
    redis_url: str | None = None

    @property
    def scope(self) -> Scope:
        return Scope(
            lake=self.lake,
            feeds=[
                Feed(
                    name=feed.name,
                    contract=load_contract(feed.contract_path),
                    table=feed.table,
                    quarantine_table=feed.quarantine_table,
                )
                for feed in (self.visits, self.members)
            ],
            views=[VIEW],
            folders=[self.root / "training"],
            online_path=self.root / "online.db",
            warehouse_path=self.root / "warehouse.duckdb",
            vectors_dir=self.root / "vectors",
            out_of_reach=[OutOfReach(what="source", where="topic", todo="wait")],
            refuse_if_busy=lambda: None,
            redis_url=self.redis_url,
        )

    def deliver(self, feed: EventFeed | ChangeFeed, name: str, data: bytes) -> None:
        assert isinstance(feed.source, FilesSource)
        (feed.source.folder / name).write_bytes(data)

    def ingest(self) -> None:
        ingest(self.lake, self.visits)
        ingest(self.lake, self.members)

    def forget(self, user: int = GONE) -> Statement:
        return forget(self.scope, subject="user", ids=[str(user)], working=lambda _: nullcontext())

    def users(self, table: str) -> set[int]:
        return set(self.lake.read(table)["user_id"].to_pylist())


def shop_in(root: Path, lake: Lake | None = None) -> Shop:
    for name, contract in (("visits", VISITS), ("members", MEMBERS)):
        (root / "feeds" / name).mkdir(parents=True)
        (root / f"{name}.odcs.yaml").write_text(contract)
    return Shop(
        root=root,
        lake=lake or Lake(root / "lake"),
        visits=EventFeed(
            name="visits",
            source=FilesSource(root / "feeds" / "visits"),
            contract_path=root / "visits.odcs.yaml",
            table="raw/visits",
            quarantine_table="raw/visits_quarantine",
            key=("event_id",),
            event_time="event_time",
            start=date(2013, 1, 1),
            end=date(2013, 2, 1),
            dedup_horizon_days=7,
        ),
        members=ChangeFeed(
            name="members",
            source=FilesSource(root / "feeds" / "members"),
            contract_path=root / "members.odcs.yaml",
            table="raw/members_changes",
            quarantine_table="raw/members_quarantine",
        ),
    )


def fill(shop: Shop) -> None:
    """Three customers, one of them everywhere; and lines that no contract lets through."""
    visits = [
        visit(number, user, shop=name, day=day)
        for number, (user, name, day) in enumerate(
            [(GONE, "north", 1), (STAYS, "north", 1), (GONE, "south", 2), (9, "north", 3)]
        )
    ]
    refused = [
        {**visit(10, GONE), "item_id": "many"},
        {**visit(11, STAYS), "item_id": "many"},
        {"userId": GONE},
        {**visit(0, GONE)},  # a duplicate
    ]
    broken = b'{"user_id": 4711, "shop\n' + b'{"user_id": 4712, "shop\n' + b"no line\n"
    shop.deliver(shop.visits, "1.jsonl", json_lines([*visits, *refused]) + broken)
    changes = [
        change("c", GONE, "Bath", lsn=1),
        change("c", STAYS, "York", lsn=2),
        change("u", GONE, "Hull", lsn=3),
    ]
    shop.deliver(shop.members, "1.jsonl", json_lines([*changes, change("c", GONE, 5, lsn=4)]))
    shop.ingest()
    derive_all(shop)
    accounts = pa.table({"account_id": ["north-4711", "south-4711", "north-4712", "north-9"]})
    labelled = accounts.append_column(
        "day_id", pa.array([f"{a}-d1" for a in accounts[0].to_pylist()])
    )
    shop.lake.overwrite("accounts", labelled)
    for name in ("train", "predictions"):
        (shop.root / "training" / name).mkdir(parents=True)
        pq.write_table(labelled, shop.root / "training" / name / "part-0.parquet")
    with duckdb.connect(str(shop.root / "warehouse.duckdb")) as warehouse:
        warehouse.register("rows", labelled)
        warehouse.execute("create table accounts (account_id varchar not null, day_id varchar)")
        warehouse.execute("insert into accounts from rows")
        warehouse.execute("create view seen as from accounts")
    push(shop, accounts["account_id"].to_pylist())


def derive_all(shop: Shop) -> None:
    contract = load_contract(shop.members.contract_path)
    changes = shop.members.table
    derive_current(shop.lake, contract, changes=changes, table="members")
    derive_history(shop.lake, contract, changes=changes, table="members_history")


def push(shop: Shop, keys: list[str], store: str | None = None) -> None:
    with open_backend(store or shop.root / "online.db") as backend:
        writer = ViewWriter(backend, VIEW.name, Layout(VIEW.columns), ttl=VIEW.ttl)
        (name, _), *_ = VIEW.columns
        writer.write([Value(key, {name: 1}, 1, 1) for key in keys])


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    shop = shop_in(tmp_path)
    fill(shop)
    return shop


def in_small_batches(shop: Shop) -> Shop:
    return replace(shop, visits=replace(shop.visits, max_batch_bytes=200))


def moved(shop: Shop, root: Path) -> Shop:
    """The shop of a copied folder."""
    return Shop(
        root=root,
        lake=Lake(root / "lake"),
        visits=replace(
            shop.visits,
            source=FilesSource(root / "feeds" / "visits"),
            contract_path=root / "visits.odcs.yaml",
        ),
        members=replace(
            shop.members,
            source=FilesSource(root / "feeds" / "members"),
            contract_path=root / "members.odcs.yaml",
        ),
    )
