"""The columns of a change: its row's, what happened when, and where in the source's log."""

import pyarrow as pa

from scale_assets.contracts.model import TIMESTAMP, Contract, ContractError
from scale_assets.contracts.validate import POSITION

OPS = ("c", "u", "d", "r")
CHANGE_FIELDS = (
    pa.field("op", pa.string()),
    pa.field("event_time", TIMESTAMP),
    pa.field("received_at", TIMESTAMP),
    pa.field("lsn", pa.int64()),
    pa.field("tx_id", pa.int64()),
)
UNCHANGED = pa.field(
    "_unchanged", pa.list_(pa.field("element", pa.string()))
)  # not sent: as before
MOVED_FROM = "_moved_from"  # the key that this row had until now


def change_schema(contract: Contract) -> pa.Schema:
    """Columns of an accepted change; raises ContractError where the contract cannot have one."""
    if not contract.primary_key:
        raise ContractError(
            f"contract {contract.name}: changes need a primary key; set primaryKey: true"
        )
    taken = contract.names & {field.name for field in CHANGE_FIELDS}
    if taken:
        raise ContractError(f"contract {contract.name}: {sorted(taken)} name the change itself")
    return pa.schema([*contract.arrow_schema, *CHANGE_FIELDS, POSITION])


def moved_from(contract: Contract) -> pa.Field:
    """The struct of the key's columns under which the row was known before its key changed."""
    key = [pa.field(name, contract.field(name).arrow_type) for name in contract.primary_key]
    return pa.field(MOVED_FROM, pa.struct(key))
