"""Rows that leave the quarantine for the accepted table: two commits, one operation.

The accepted rows come first, and their commit names the quarantined lines that they were; then
these leave the quarantine. Whoever opens the tables in between finishes the move, before it commits
anything: only the newest commit that says anything says which lines they are.
"""

import base64
import hashlib
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from scale_assets.ingest import positions
from scale_assets.lake import fault_point
from scale_assets.lake.commits import append
from scale_assets.lake.history import last_metadata
from scale_assets.lake.rewrite import rewrite
from scale_assets.lake.snapshots import snapshot_dataset

MOVE = "move"  # the counter, in both tables
IDENTITY = ["_source_file", "_position", "raw"]
DIGEST_BYTES = 16


def begin_move(
    stream: str,
    accepted: DeltaTable,
    *,
    rows: pa.Table,
    leaving: pa.Table,
    totals: Mapping[str, int],
    metadata: Mapping[str, Any],
) -> None:
    """Append ``rows`` and name the quarantined lines ``leaving`` that they were.

    Args:
        stream: The feed's name.
        accepted: Its table, as it was when duplicates were looked for.
        rows: What became of the lines; fewer where some are duplicates.
        leaving: The lines, with the columns of ``IDENTITY``.
        totals: Counters of the stream, as they are with these rows.
        metadata: What the accepted commit says besides.

    Raises:
        ConcurrentCommit: Another run's commit came between; nothing has moved.
    """
    number = positions.counter(accepted, stream, MOVE) + 1
    counted = {positions.counter_app(stream, name): n for name, n in totals.items()}
    append(
        accepted,
        rows,
        positions={positions.counter_app(stream, MOVE): number, **counted},
        metadata={**metadata, "left_quarantine": _packed(_digests(leaving))},
    )
    fault_point("after_move")


def finish_move(stream: str, accepted: DeltaTable, quarantine: DeltaTable) -> None:
    """Take out of the quarantine what the accepted table's last move brought in.

    Raises:
        ConcurrentCommit: Somebody committed to the quarantine since the handle read.
    """
    number = positions.counter(accepted, stream, MOVE)
    # Ahead is the quarantine where the accepted table's handle is older: that move is over.
    if positions.counter(quarantine, stream, MOVE) >= number:
        return
    leaving = _unpacked(last_metadata(accepted)["left_quarantine"])
    rewrite(
        quarantine,
        lambda lines: lines.filter(pc.invert(_among(lines, leaving))),
        partitions=_partitions_of(quarantine, leaving),
        positions={positions.counter_app(stream, MOVE): number},
    )


def _partitions_of(quarantine: DeltaTable, leaving: set[bytes]) -> list[str | None] | None:
    partition_by = quarantine.metadata().partition_columns
    if not partition_by:
        return None
    [column] = partition_by
    found: set[str | None] = set()
    for batch in snapshot_dataset(quarantine).to_batches(columns=[*IDENTITY, column]):
        lines = pa.Table.from_batches([batch])
        affected = lines[column].filter(_among(lines, leaving)).unique().cast(pa.string())
        found.update(affected.to_pylist())
    return sorted(found, key=str)


def _among(lines: pa.Table, leaving: set[bytes]) -> pa.Array:
    return pa.array([digest in leaving for digest in _digests(lines)], pa.bool_())


def _digests(lines: pa.Table) -> list[bytes]:
    """What identifies each line, whichever file of the table holds it."""
    columns = (lines[name].to_pylist() for name in IDENTITY)
    return [
        hashlib.blake2b(f"{place}\0{at}\0".encode() + raw, digest_size=DIGEST_BYTES).digest()
        for place, at, raw in zip(*columns, strict=True)
    ]


def _packed(digests: list[bytes]) -> str:
    return base64.b64encode(b"".join(digests)).decode()


def _unpacked(text: str) -> set[bytes]:
    data = base64.b64decode(text)
    return {data[at : at + DIGEST_BYTES] for at in range(0, len(data), DIGEST_BYTES)}
