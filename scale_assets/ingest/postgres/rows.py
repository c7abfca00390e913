"""A block of changes judged by a contract: rows as the table of changes has them, and the others."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scale_assets.contracts import QUARANTINE_SCHEMA, Contract
from scale_assets.contracts.change_schema import UNCHANGED, moved_from
from scale_assets.contracts.checks import Exempt, rows_of
from scale_assets.contracts.faults import Fault, Rule
from scale_assets.contracts.model import Field
from scale_assets.contracts.validate import POSITION, quarantine_rows, to_contract
from scale_assets.contracts.wire import to_contract_type
from scale_assets.ingest.postgres.blocks import Block
from scale_assets.ingest.postgres.raw import raw_lines
from scale_assets.ingest.postgres.types import as_text, read_column

Faults = dict[int, Fault]


@dataclass(frozen=True, kw_only=True)
class Judged:
    """Accepted rows have the contract's columns, those of the change, and POSITION."""

    accepted: pa.Table
    quarantined: pa.Table


def judge(contract: Contract, block: Block, *, first_position: int) -> Judged:
    """Columns are taken by their name in the block's own definition, never by their place."""
    faults: Faults = {}
    _refuse_unknown(contract, block, faults)
    wire = {field.name: _wire(block, block.rows, field, faults) for field in contract.fields}
    unsent = _unsent(contract, block)
    table = to_contract(contract, pa.table(wire), faults, exempt=_exempt(contract, block, unsent))
    accepted = (
        pa.table(
            [*table.columns, *block.about.columns],
            names=[*table.column_names, *block.about.column_names],
        )
        .drop_columns("unchanged")
        .append_column(UNCHANGED, _lists(unsent, len(block)))
        .append_column(moved_from(contract), _moves(contract, block))
        .append_column(POSITION, pa.array(np.arange(len(block)) + first_position, POSITION.type))
    )
    rows = sorted(faults)
    if not rows:
        return Judged(accepted=accepted, quarantined=QUARANTINE_SCHEMA.empty_table())
    keep = np.ones(len(block), dtype=bool)
    keep[rows] = False
    return Judged(
        accepted=accepted.filter(pa.array(keep)),
        quarantined=quarantine_rows(rows, raw_lines(block, rows), faults, first_position),
    )


def keys_of(contract: Contract, block: Block) -> pa.Table:
    """Every row's key in the contract's types, refused rows too; null where it cannot be read."""
    return pa.table(
        {name: _key_column(contract, block, block.rows, name) for name in contract.primary_key}
    )


def _refuse_unknown(contract: Contract, block: Block, faults: Faults) -> None:
    """Rows with columns that a closed contract does not name; a delete has nothing in them."""
    unknown = [name for name in block.relation.column_names if name not in contract.names]
    if not unknown or contract.open:
        return
    reason = f"{unknown[0]!r} is not a field of contract {contract.name} {contract.version}"
    fault = Fault(Rule.UNKNOWN_COLUMN, reason, unknown[0])
    faults |= dict.fromkeys(rows_of(pc.invert(_is_gone(block))), fault)


def _is_gone(block: Block) -> pa.ChunkedArray:
    return pc.is_in(block.about["op"], value_set=pa.array(["d", "t"]))


def _wire(block: Block, rows: pa.Table, field: Field, faults: Faults) -> pa.ChunkedArray:
    """The field's column; null in every row if the relation has none of this name."""
    if field.name not in rows.column_names:
        return pa.chunked_array([pa.nulls(rows.num_rows, field.arrow_type)])
    type_ = block.types[block.relation.column_names.index(field.name)]
    return read_column(as_text(rows[field.name], field.name, faults), type_, field, faults)


def _exempt(contract: Contract, block: Block, unsent: dict[str, np.ndarray]) -> Exempt:
    """Rows that need no value: a truncate has none, a delete its key, an update what it sent."""
    is_truncate, is_gone = pc.equal(block.about["op"], "t"), _is_gone(block)
    exempt = dict.fromkeys(contract.names, is_gone)
    exempt |= dict.fromkeys(contract.primary_key, is_truncate)
    for name, mask in unsent.items():
        exempt[name] = pc.or_(exempt[name], pa.chunked_array([mask]))
    return exempt


def _unsent(contract: Contract, block: Block) -> dict[str, np.ndarray]:
    """The contract's fields that some row did not send, and which rows those are."""
    masks: dict[str, np.ndarray] = {}
    lists = block.about["unchanged"]
    for row in rows_of(pc.is_valid(lists)):
        for name in set(lists[row].as_py()) & contract.names:
            masks.setdefault(name, np.zeros(len(block), dtype=bool))[row] = True
    return masks


def _lists(unsent: dict[str, np.ndarray], num_rows: int) -> pa.Array:
    if not unsent:
        return pa.nulls(num_rows, UNCHANGED.type)
    names: list[list[str] | None] = [None] * num_rows
    for name, mask in sorted(unsent.items()):
        for row in np.flatnonzero(mask):
            names[row] = [*(names[row] or ()), name]
    return pa.array(names, UNCHANGED.type)


def _moves(contract: Contract, block: Block) -> pa.Array:
    """The key that a row had until this change; a key that cannot be read is none."""
    type_ = moved_from(contract).type
    if block.moved_from is None:
        return pa.nulls(len(block), type_)
    columns = [
        _key_column(contract, block, block.moved_from, name) for name in contract.primary_key
    ]
    is_moved = pc.is_valid(block.moved_from.column(0)).combine_chunks()
    return pa.StructArray.from_arrays(columns, fields=list(type_), mask=pc.invert(is_moved))


def _key_column(contract: Contract, block: Block, rows: pa.Table, name: str) -> pa.Array:
    field = contract.field(name)
    return to_contract_type(_wire(block, rows, field, {}), field)[0].combine_chunks()
