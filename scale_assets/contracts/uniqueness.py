"""Keys that may occur once: in a snapshot the first row keeps its key, later ones are refused.

Streams are not checked here: a repeated event is a duplicate, counted by ingest, not a broken rule.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scale_assets.contracts.faults import Fault, Rule, shown
from scale_assets.contracts.model import Contract


def repeated_keys(contract: Contract, table: pa.Table) -> dict[int, Fault]:
    """Rows whose primary key, or unique field, was seen in an earlier row."""
    faults: dict[int, Fault] = {}
    for key in contract.unique_keys:
        for row in _repeats(table, key):
            if row not in faults:
                values = {name: table.column(name)[row].as_py() for name in key}
                reason = f"{shown(values)} was given by an earlier row"
                faults[row] = Fault(Rule.NOT_UNIQUE, reason, ", ".join(key))
    return faults


def _repeats(table: pa.Table, key: tuple[str, ...]) -> list[int]:
    keyed = table.select(list(key)).append_column("row", pa.array(np.arange(table.num_rows)))
    for name in key:  # a null is no value, so it repeats none
        keyed = keyed.filter(pc.is_valid(keyed.column(name)))
    first = keyed.group_by(list(key)).aggregate([("row", "min")]).column("row_min")
    return sorted(set(keyed.column("row").to_pylist()) - set(first.to_pylist()))
