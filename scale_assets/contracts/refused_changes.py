"""What a refused change still tells: where in its source's log it stands."""

from collections.abc import Iterable
from typing import Any

import pyarrow as pa

from scale_assets.contracts.envelope_members import SOURCE
from scale_assets.contracts.faults import LineFault
from scale_assets.contracts.kinds import SCALARS
from scale_assets.contracts.log_positions import Positions, log_positions
from scale_assets.contracts.strict_json import Members, read_object, read_scalar

MEMBERS = pa.schema([(column, SCALARS[kind].type) for column, kind in SOURCE.values()])


def refused_positions(raws: Iterable[bytes]) -> Positions:
    """The lsn and the ordinal of each refused line, as ``log_positions`` gives them to accepted ones.

    Null where the line cannot be read, or says none.
    """
    return log_positions(pa.Table.from_pylist([_source(raw) for raw in raws], schema=MEMBERS))


def _source(raw: bytes) -> dict[str, Any]:
    try:
        envelope: Any = read_object(raw)
        payload = dict(envelope).get("payload")
        source = dict(payload if isinstance(payload, Members) else envelope).get("source")
    except LineFault:
        return {}
    found: dict[str, Any] = {}
    for name, value in source if isinstance(source, Members) else ():
        if name in SOURCE:
            column, kind = SOURCE[name]
            found[column] = _scalar(kind, name, value)
    return found


def _scalar(kind: str, name: str, value: Any) -> Any:
    try:
        return read_scalar(kind, name, value)
    except LineFault:
        return None
