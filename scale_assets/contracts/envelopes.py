"""Debezium envelopes to flat wire tables, in whole blocks; envelope_members.py reads single lines."""

from functools import lru_cache
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from scale_assets.contracts.decode import Decoder, Refused, is_sound
from scale_assets.contracts.encodings import check_schema
from scale_assets.contracts.envelope_members import (
    AFTER,
    BEFORE,
    SOURCE,
    TRANSACTION,
    strict_envelope,
)
from scale_assets.contracts.faults import LineFault
from scale_assets.contracts.kinds import SCALARS, change_kind
from scale_assets.contracts.model import Contract
from scale_assets.contracts.records import read_json
from scale_assets.contracts.strict_json import Members, read_object

BLOCKS = {"source": SOURCE, "transaction": TRANSACTION}
BLOCK_TYPES = {
    block: pa.struct([(name, SCALARS[kind].type) for name, (_, kind) in members.items()])
    for block, members in BLOCKS.items()
}


@lru_cache(maxsize=128)
def envelope_decoder(contract: Contract) -> Decoder:
    """How change events about rows of this contract are read."""
    kinds = {field.name: change_kind(field) for field in contract.fields}
    row_type = pa.struct([(name, kind.type) for name, kind in kinds.items()])
    nested = pa.schema(
        [
            ("before", row_type),
            ("after", row_type),
            *BLOCK_TYPES.items(),
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
        if is_wrapped or table["op"].null_count or not _fits(table, row_type, contract):
            return Refused()
        if not is_sound(_old_rows(table, row_type)):
            return Refused()
        return _flatten(table, flat)

    def strict(line: bytes) -> dict[str, Any] | None:
        return strict_envelope(line, kinds, contract)

    def unwrap(data: bytes) -> tuple[bytes, int]:
        return unwrapped(data, contract)

    return Decoder(
        wire_schema=flat,
        fast=fast,
        strict=strict,
        skips_values=True,
        unwrap=unwrap,
        tombstone=b"null",
    )


def _flat_schema(contract: Contract, row_type: pa.StructType) -> pa.Schema:
    row = [row_type.field(at) for at in range(row_type.num_fields)]
    blocks = [column for members in BLOCKS.values() for column in members.values()]
    return pa.schema(
        [
            ("op", pa.string()),
            ("received_ms", pa.int64()),
            *((column, SCALARS[kind].type) for column, kind in blocks),
            ("has_before", pa.bool_()),
            ("has_after", pa.bool_()),
            *((AFTER + field.name, field.type) for field in row),
            *((BEFORE + f.name, f.type) for f in row if f.name in contract.primary_key),
        ]
    )


def _fits(table: pa.Table, row_type: pa.StructType, contract: Contract) -> bool:
    """Whether the rows hold what the contract names; nothing else, unless it is open."""
    sides = [table.schema.field(side).type for side in ("before", "after")]
    if not contract.open:
        return all(side == row_type for side in sides)
    return all(side.field(field.name).type == field.type for side in sides for field in row_type)


def _old_rows(table: pa.Table, row_type: pa.StructType) -> pa.Table:
    """What ``before`` holds, of which the flat table keeps the key alone."""
    before = table.column("before")
    return pa.table({field.name: pc.struct_field(before, field.name) for field in row_type})


def _flatten(table: pa.Table, flat: pa.Schema) -> pa.Table:
    columns = {
        "op": table.column("op"),
        "received_ms": table.column("ts_ms"),
        "has_before": pc.is_valid(table.column("before")),
        "has_after": pc.is_valid(table.column("after")),
    }
    for block, members in BLOCKS.items():
        for name, (column, _) in members.items():
            columns[column] = pc.struct_field(table.column(block), name)
    for prefix, side in ((AFTER, "after"), (BEFORE, "before")):
        for name in flat.names:
            if name.startswith(prefix):
                columns[name] = pc.struct_field(table.column(side), name.removeprefix(prefix))
    return pa.table([columns[name] for name in flat.names], schema=flat)


def unwrapped(data: bytes, contract: Contract) -> tuple[bytes, int]:
    """The payloads of a block whose lines all carry the same schema, else the block as it is.

    Debezium repeats the schema, often ten times the payload, on each line. Where it is the same
    bytes throughout, the payload is what remains between it and the closing brace.
    """
    at = data.find(b'"payload":', 0, data.find(b"\n") + 1 or len(data))
    if at < 0:
        return data, 0
    prefix = data[: at + len(b'"payload":')]
    body = data.removesuffix(b"\n")
    if not _wraps(prefix, contract) or not body.endswith(b"}") or len(body) <= len(prefix):
        return data, 0
    between = b"}\n" + prefix
    if body.count(between) != body.count(b"\n"):
        return data, 0
    return body[len(prefix) : -1].replace(between, b"\n") + b"\n", len(prefix) + 1


def _wraps(prefix: bytes, contract: Contract) -> bool:
    """Whether this opens a line with a schema that agrees with the contract."""
    try:
        wrapper = read_object(prefix + b"null}")
        check_schema(dict(wrapper).get("schema"), contract)
    except LineFault:
        return False
    return isinstance(wrapper, Members) and [name for name, _ in wrapper] == ["schema", "payload"]
