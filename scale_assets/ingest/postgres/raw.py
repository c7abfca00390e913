"""A refused change as one line of JSON, shaped as Debezium would; it can be read back exactly."""

import json
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any

import pyarrow as pa

from scale_assets.ingest.postgres.blocks import ABOUT, Block
from scale_assets.ingest.postgres.messages import Column, Relation
from scale_assets.ingest.postgres.types import json_value

Texts = dict[str, str | None]


def raw_lines(block: Block, rows: list[int]) -> list[bytes]:
    """These rows of the block, a line each."""
    chosen = pa.array(rows, pa.int64())
    values = block.rows.take(chosen).to_pylist()
    about = block.about.take(chosen).to_pylist()
    moved: list[Any] = [None] * len(rows)
    if block.moved_from is not None:
        moved = block.moved_from.take(chosen).to_pylist()
    return [_line(block, *each) for each in zip(values, about, moved, strict=True)]


def is_raw(line: bytes) -> bool:
    """Whether this is a line of ``raw_lines``."""
    try:
        said = json.loads(line)
    except ValueError:
        return False
    return isinstance(said, dict) and "types" in said


def blocks_of_raws(lines: Iterable[bytes]) -> Iterator[Block]:
    """The blocks that lines of ``raw_lines`` came from; neighbours of one definition together."""
    said = (json.loads(line, parse_int=str, parse_float=str) for line in lines)
    for _, run in groupby(said, key=lambda each: [each["source"]["schema"], each["types"]]):
        yield _block(list(run))


def _line(
    block: Block, values: dict[str, bytes | None], about: dict[str, Any], moved: Any
) -> bytes:
    types = dict(zip(block.relation.column_names, block.types, strict=True))
    row = {name: json_value(_text(value), types[name]) for name, value in values.items()}
    is_gone = about["op"] in "dt"
    moved_from = {name: _text(value) for name, value in (moved or {}).items()}
    event_us, received_us = (_microseconds(about[name]) for name in ("event_time", "received_at"))
    envelope = {
        "before": row if is_gone else None,
        "after": None if is_gone else row,
        "source": {
            "connector": "postgresql",
            "schema": block.relation.schema,
            "table": block.relation.table,
            "lsn": about["lsn"],
            "txId": about["tx_id"],
            "ts_us": event_us,
            "ts_ms": event_us // 1000,
        },
        "op": about["op"],
        "ts_us": received_us,
        "ts_ms": received_us // 1000,
        "tx_ordinal": about["tx_ordinal"],
        "types": types,
        "unchanged": about["unchanged"],
        "moved_from": moved_from if any(moved_from.values()) else None,
    }
    return json.dumps(envelope, ensure_ascii=False).encode()


def _block(envelopes: list[dict[str, Any]]) -> Block:
    first = envelopes[0]
    types: dict[str, str] = first["types"]
    columns = tuple(Column(name, 0, is_key=False) for name in types)
    source = first["source"]
    rows = [each["before"] if each["op"] in "dt" else each["after"] for each in envelopes]
    texts = {name: [_as_sent(row[name]) for row in rows] for name in types}
    moved = [each["moved_from"] for each in envelopes]
    keys = next((list(each) for each in moved if each), None)
    return Block(
        relation=Relation(0, source["schema"], source["table"], "d", columns),
        types=tuple(types.values()),
        rows=pa.table({name: pa.array(each, pa.binary()) for name, each in texts.items()}),
        about=pa.Table.from_pylist([_about(each) for each in envelopes], schema=ABOUT),
        moved_from=None
        if keys is None
        else pa.table(
            {
                name: pa.array([_as_sent((each or {}).get(name)) for each in moved], pa.binary())
                for name in keys
            }
        ),
    )


def _about(envelope: dict[str, Any]) -> dict[str, Any]:
    source = envelope["source"]
    numbers = {
        "event_time": source["ts_us"],
        "received_at": envelope["ts_us"],
        "lsn": source["lsn"],
        "tx_id": source["txId"],
        "tx_ordinal": envelope["tx_ordinal"],
    }
    about = {name: None if text is None else int(text) for name, text in numbers.items()}
    return about | {"op": envelope["op"], "unchanged": envelope["unchanged"]}


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode(errors="backslashreplace")


def _as_sent(value: str | bool | None) -> bytes | None:
    """A JSON value as PostgreSQL wrote it; numbers were read as their digits."""
    if isinstance(value, bool):
        return b"t" if value else b"f"
    return None if value is None else value.encode()


def _microseconds(time: Any) -> int:
    return int(pa.scalar(time, pa.timestamp("us", tz="UTC")).value)
