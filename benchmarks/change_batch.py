"""A table of orders, and a batch of changes to it: as Debezium writes them, and as rows to merge."""

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

CONTRACT = """\
apiVersion: v3.1.0
kind: DataContract
id: orders
name: orders
version: 1.0.0
status: active
schema:
  - name: orders
    properties:
      - {name: order_id, logicalType: integer, primaryKey: true}
      - {name: customer, logicalType: string, required: true}
      - {name: state, logicalType: string, enum: [{value: open}, {value: paid}, {value: sent}]}
      - {name: amount, logicalType: number, physicalType: "decimal(12,2)"}
      - {name: quantity, logicalType: integer, logicalTypeOptions: {minimum: 0}}
      - {name: ordered_on, logicalType: date}
      - {name: updated_at, logicalType: timestamp}
"""
UTC_TIME = pa.timestamp("us", tz="UTC")
ROW = pa.schema(
    [
        ("order_id", pa.int64()),
        ("customer", pa.string()),
        ("state", pa.string()),
        ("amount", pa.decimal128(12, 2)),
        ("quantity", pa.int64()),
        ("ordered_on", pa.date32()),
        ("updated_at", UTC_TIME),
        ("event_time", UTC_TIME),
        ("received_at", UTC_TIME),
    ]
)
STATES = ("open", "paid", "sent")
START_MS = 1_700_000_000_000
SHARE_INSERTED, SHARE_DELETED = 0.15, 0.05
SEED = 7


@dataclass(frozen=True)
class Table:
    """Orders 0 to before num_rows."""

    num_rows: int

    def rows(self) -> pa.Table:
        return orders(np.arange(self.num_rows), np.random.default_rng(SEED), START_MS)

    def snapshot(self, schema: pa.Schema) -> pa.Table:
        """The same rows as the changes that a snapshot is made of."""
        rows = self.rows()
        fixed = {
            "op": pa.repeat("r", self.num_rows),
            "lsn": pa.repeat(pa.scalar(1, pa.int64()), self.num_rows),
            "tx_ordinal": pa.array(np.arange(self.num_rows)),
            "_source_file": pa.repeat("snapshot", self.num_rows),
            "_position": pa.array(np.arange(self.num_rows)),
        }
        columns = [
            fixed.get(field.name)
            or (rows[field.name] if field.name in ROW.names else pa.nulls(len(rows), field.type))
            for field in schema
        ]
        return pa.table(columns, schema=schema)


def orders(ids: np.ndarray, rng: np.random.Generator, at_ms: int) -> pa.Table:
    size = len(ids)
    times = pa.repeat(pa.scalar(at_ms, pa.int64()), size).cast(pa.timestamp("ms", tz="UTC"))
    return pa.table(
        [
            pa.array(ids),
            pc.binary_join_element_wise("customer", pa.array(ids % 50_000).cast(pa.string()), "-"),
            pa.array(STATES).take(pa.array(rng.integers(0, len(STATES), size))),
            pa.array(rng.integers(100, 10**7, size) / 100).cast(ROW.field("amount").type),
            pa.array(rng.integers(1, 100, size)),
            pa.array(rng.integers(18_000, 19_500, size).astype(np.int32)).cast(pa.date32()),
            *[times.cast(UTC_TIME)] * 3,
        ],
        schema=ROW,
    )


@dataclass(frozen=True)
class ChangeBatch:
    """Changes in log order: their row, op and transaction."""

    rows: pa.Table
    ops: list[str]
    transactions: np.ndarray

    @classmethod
    def drawn(cls, table: Table, *, num_changes: int, num_transactions: int) -> "ChangeBatch":
        """Keys at random; a key that was deleted is not touched again."""
        rng = np.random.default_rng(SEED + 1)
        ids = rng.integers(0, table.num_rows, num_changes)
        kinds = rng.random(num_changes)
        is_insert = kinds < SHARE_INSERTED
        ids[is_insert] = table.num_rows + np.arange(is_insert.sum())
        _, last_from_end = np.unique(ids[::-1], return_index=True)
        is_last = np.zeros(num_changes, dtype=bool)
        is_last[num_changes - 1 - last_from_end] = True
        is_delete = is_last & (kinds > 1 - SHARE_DELETED)
        ops = np.where(is_insert, "c", np.where(is_delete, "d", "u")).tolist()
        transactions = np.arange(num_changes) * num_transactions // num_changes
        return cls(orders(ids, rng, START_MS + 60_000), ops, transactions)

    def lines(self) -> bytes:
        """The batch as a file of Debezium events."""
        return b"".join(self._lines())

    def _lines(self) -> Iterator[bytes]:
        source = {"version": "3.0.0.Final", "connector": "postgresql", "db": "shop"}
        for number, (row, op) in enumerate(zip(self.rows.to_pylist(), self.ops, strict=True)):
            event_ms = _ms(row["event_time"])
            sent = _as_debezium(row)
            event = {
                "before": {"order_id": row["order_id"]} if op == "d" else None,
                "after": None if op == "d" else sent,
                "source": source
                | {"ts_ms": event_ms, "schema": "public", "table": "orders"}
                | {"txId": int(self.transactions[number]), "lsn": 100 + number},
                "op": op,
                "ts_ms": event_ms,
                "transaction": None,
            }
            yield json.dumps(event, separators=(",", ":")).encode() + b"\n"

    @cached_property
    def deduplicated(self) -> pa.Table:
        """The last change of each key, with its op."""
        ids = self.rows["order_id"].to_numpy()
        _, last_from_end = np.unique(ids[::-1], return_index=True)
        return self._with_op().take(pa.array(np.sort(len(ids) - 1 - last_from_end)))

    def merge_deduplicated(self, plain: DeltaTable) -> None:
        merge(plain, self.deduplicated)

    def merge_each_transaction(self, plain: DeltaTable) -> None:
        changes = self._with_op()
        for number in np.unique(self.transactions):
            part = changes.filter(pa.array(self.transactions == number))
            ids = part["order_id"].to_numpy()
            _, last_from_end = np.unique(ids[::-1], return_index=True)
            merge(plain, part.take(pa.array(np.sort(len(ids) - 1 - last_from_end))))

    def _with_op(self) -> pa.Table:
        return self.rows.append_column("op", pa.array(self.ops))

    def check_same(self, ours: pa.Table, plain: pa.Table) -> None:
        """Both ways came to the same rows."""
        one, other = (table.select(ROW.names).sort_by("order_id") for table in (ours, plain))
        if not one.cast(ROW).equals(other.cast(ROW)):
            raise AssertionError("the feed and the plain merge differ; no figure of them counts")


def merge(plain: DeltaTable, changes: pa.Table) -> None:
    """What one writes with delta-rs at hand: insert, update and delete in one merge."""
    values = {name: f"source.{name}" for name in ROW.names}
    (
        plain.merge(
            source=changes,
            predicate="target.order_id = source.order_id",
            source_alias="source",
            target_alias="target",
        )
        .when_matched_delete(predicate="source.op = 'd'")
        .when_matched_update(updates=values)
        .when_not_matched_insert(updates=values, predicate="source.op <> 'd'")
        .execute()
    )


def _as_debezium(row: dict[str, Any]) -> dict[str, Any]:
    cents = int(row["amount"].scaleb(2))
    unscaled = cents.to_bytes(cents.bit_length() // 8 + 1, "big", signed=True)
    columns = [name for name in ROW.names if name not in ("event_time", "received_at")]
    return {name: row[name] for name in columns} | {
        "amount": base64.b64encode(unscaled).decode(),
        "ordered_on": (row["ordered_on"] - date(1970, 1, 1)).days,
        "updated_at": _ms(row["updated_at"]) * 1000,
    }


def _ms(moment: datetime) -> int:
    return round(moment.astimezone(UTC).timestamp() * 1000)
