"""The decoder for plain records: each line is one object with the contract's fields."""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import pyarrow as pa
import pyarrow.json as pj

from scale_assets.contracts.decode import Decoder, Refused
from scale_assets.contracts.faults import LineFault, Rule, shown
from scale_assets.contracts.kinds import Kind, plain_kind
from scale_assets.contracts.model import Contract
from scale_assets.contracts.strict_json import read_object

ERROR_ROW = re.compile(r"in row (\d+)$")


@lru_cache(maxsize=128)
def record_decoder(contract: Contract) -> Decoder:
    """How lines of this contract are read."""
    kinds = {field.name: plain_kind(field) for field in contract.fields}
    schema = pa.schema([(name, kind.type) for name, kind in kinds.items()])
    unexpected = "ignore" if contract.open else "error"

    def fast(data: bytes) -> pa.Table | Refused:
        return read_json(data, schema, unexpected)

    def strict(line: bytes) -> dict[str, Any]:
        return strict_record(read_object(line), kinds, contract)

    return Decoder(wire_schema=schema, fast=fast, strict=strict, skips_values=contract.open)


def read_json(data: bytes, schema: pa.Schema, unexpected: str) -> pa.Table | Refused:
    """Read one block with pyarrow; where it refuses, strict reading decides."""
    try:
        return pj.read_json(
            pa.BufferReader(data),
            # One block: lines are then counted from its start in the error.
            read_options=pj.ReadOptions(use_threads=False, block_size=len(data) + 1),
            parse_options=pj.ParseOptions(
                explicit_schema=schema, unexpected_field_behavior=unexpected
            ),
        )
    except pa.ArrowInvalid as error:
        named = ERROR_ROW.search(str(error))
        return Refused(int(named[1]) if named else None)


def strict_record(
    members: list[tuple[str, Any]], kinds: Mapping[str, Kind], contract: Contract
) -> dict[str, Any]:
    """An object's members as wire values, or the first fault in the order they were written."""
    record: dict[str, Any] = {}
    for name, value in members:
        if name not in kinds:
            if contract.open:
                continue
            reason = f"{shown(name)} is not a field of contract {contract.name} {contract.version}"
            raise LineFault(Rule.UNKNOWN_COLUMN, reason, storable(name))
        if name in record:
            raise LineFault(Rule.DUPLICATE_KEY, f"{name} is given more than once", name)
        record[name] = kinds[name].read(name, value)
    return record


def storable(name: str) -> str:
    """A name from the input that can be stored: short, and without half surrogates."""
    return name.encode(errors="replace").decode()[:200]
