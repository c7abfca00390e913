"""Debezium envelopes to flat wire tables: in whole blocks, and strictly line by line."""

import json
from functools import lru_cache
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from scale_assets.contracts.decode import Decoder, Refused
from scale_assets.contracts.faults import LineFault, Rule, shown
from scale_assets.contracts.model import Contract, Field
from scale_assets.contracts.records import KIND_TYPES, read_json, strict_record
from scale_assets.contracts.strict_json import Members, read_object, read_scalar
from scale_assets.contracts.wire import DEBEZIUM_ENCODINGS, encoding_of

AFTER, BEFORE = "after.", "before."  # prefixes of the row's columns in the flat wire table
SOURCE = {"ts_ms": "event_ms", "lsn": "lsn", "txId": "tx_id"}
SOURCE_TYPE = pa.struct([(name, pa.int64()) for name in SOURCE])
READ = ("before", "after", "source", "op", "ts_ms")  # other members are Debezium's own business


@lru_cache(maxsize=128)
def envelope_decoder(contract: Contract) -> Decoder:
    """How change events about rows of this contract are read."""
    kinds = {field.name: change_kind(field) for field in contract.fields}
    row_type = pa.struct([(name, KIND_TYPES[kind]) for name, kind in kinds.items()])
    nested = pa.schema(
        [
            ("before", row_type),
            ("after", row_type),
            ("source", SOURCE_TYPE),
            ("op", pa.string()),
            ("ts_ms", pa.int64()),
        ]
    )
    flat = _flat_schema(contract, row_type)

    def fast(data: bytes) -> pa.Table | Refused:
        # "infer" shows what the schema does not name: anything in a row is unknown to the
        # contract, anything in the envelope is allowed.
        table = read_json(data, nested, "infer")
        if isinstance(table, Refused):
            return table
        is_wrapped = "payload" in table.column_names  # each line in its own way
        if is_wrapped or not (contract.open or _names_only(table, row_type)):
            return Refused()
        return _flatten(table, flat)

    def strict(line: bytes) -> dict[str, Any]:
        return _strict_envelope(line, kinds, contract)

    return Decoder(
        wire_schema=flat,
        fast=fast,
        strict=strict,
        skips_values=True,
        unwrap=unwrap,
        tombstone=b"null",
    )


def change_kind(field: Field) -> str:
    """What JSON writes for this field in a change event."""
    if field.type not in DEBEZIUM_ENCODINGS:
        return field.type
    return "string" if encoding_of(field) == "text" else "integer"


def _flat_schema(contract: Contract, row_type: pa.StructType) -> pa.Schema:
    row = [row_type.field(at) for at in range(row_type.num_fields)]
    return pa.schema(
        [
            ("op", pa.string()),
            ("received_ms", pa.int64()),
            *((name, pa.int64()) for name in SOURCE.values()),
            ("has_before", pa.bool_()),
            ("has_after", pa.bool_()),
            *((AFTER + field.name, field.type) for field in row),
            *((BEFORE + f.name, f.type) for f in row if f.name in contract.primary_key),
        ]
    )


def _names_only(table: pa.Table, row_type: pa.StructType) -> bool:
    sizes = {table.schema.field(side).type.num_fields for side in ("before", "after")}
    return sizes == {row_type.num_fields}


def _flatten(table: pa.Table, flat: pa.Schema) -> pa.Table:
    columns = {
        "op": table.column("op"),
        "received_ms": table.column("ts_ms"),
        "has_before": pc.is_valid(table.column("before")),
        "has_after": pc.is_valid(table.column("after")),
    }
    columns |= {
        flat_name: pc.struct_field(table.column("source"), name)
        for name, flat_name in SOURCE.items()
    }
    for prefix, side in ((AFTER, "after"), (BEFORE, "before")):
        for name in flat.names:
            if name.startswith(prefix):
                columns[name] = pc.struct_field(table.column(side), name.removeprefix(prefix))
    return pa.table([columns[name] for name in flat.names], schema=flat)


def _strict_envelope(line: bytes, kinds: dict[str, str], contract: Contract) -> dict[str, Any]:
    members = read_object(line)
    if {name for name, _ in members} == {"schema", "payload"}:
        members = _object("payload", dict(members)["payload"]) or []
    envelope: dict[str, Any] = {}
    for name, value in members:
        if name in envelope:
            raise LineFault(Rule.DUPLICATE_KEY, f"{name} is given more than once", name)
        if name in READ:
            envelope[name] = value
    before = _row("before", envelope.get("before"), kinds, contract)
    after = _row("after", envelope.get("after"), kinds, contract)
    flat = {AFTER + name: value for name, value in (after or {}).items()}
    flat |= {BEFORE + name: value for name, value in (before or {}).items()}
    flat |= {"has_before": before is not None, "has_after": after is not None}
    flat["op"] = read_scalar("string", "op", envelope.get("op"))
    flat["received_ms"] = read_scalar("integer", "ts_ms", envelope.get("ts_ms"))
    return flat | _source(_object("source", envelope.get("source")) or [])


def _row(side: str, value: Any, kinds: dict[str, str], contract: Contract) -> dict[str, Any] | None:
    members = _object(side, value)
    return None if members is None else strict_record(members, kinds, contract)


def _object(name: str, value: Any) -> list[tuple[str, Any]] | None:
    if value is not None and not isinstance(value, Members):
        raise LineFault(
            Rule.BAD_ENVELOPE, f"{name} must be an object or null, got {shown(value)}", name
        )
    return value


def _source(members: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in members:
        if name in SOURCE:
            if SOURCE[name] in found:
                reason = f"source.{name} is given more than once"
                raise LineFault(Rule.DUPLICATE_KEY, reason, f"source.{name}")
            found[SOURCE[name]] = read_scalar("integer", f"source.{name}", value)
    return found


def unwrap(data: bytes) -> tuple[bytes, int]:
    """The payloads of a block whose lines all carry the same schema, else the block as it is.

    Debezium repeats the schema, often ten times the payload, on each line. Where it is the same
    bytes throughout, the payload is what remains between it and the closing brace.
    """
    at = data.find(b'"payload":', 0, data.find(b"\n") + 1 or len(data))
    if at < 0:
        return data, 0
    prefix = data[: at + len(b'"payload":')]
    body = data.removesuffix(b"\n")
    if not _wraps(prefix) or not body.endswith(b"}") or len(body) <= len(prefix):
        return data, 0
    between = b"}\n" + prefix
    if body.count(between) != body.count(b"\n"):
        return data, 0
    return body[len(prefix) : -1].replace(between, b"\n") + b"\n", len(prefix) + 1


def _wraps(prefix: bytes) -> bool:
    try:
        wrapper = json.loads(prefix + b"null}", object_pairs_hook=list)
    except (ValueError, RecursionError):
        return False
    return [name for name, _ in wrapper] == ["schema", "payload"]
