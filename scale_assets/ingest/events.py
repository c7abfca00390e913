"""An event stream: JSON lines in, one row per event by its UTC date, each event once."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scale_assets.contracts import QUARANTINE_SCHEMA, Contract, validate_lines
from scale_assets.ingest.columns import EVENT_DATE, event_schema
from scale_assets.ingest.dedup import KeyDeduplicator
from scale_assets.ingest.feed import Decoded, Deduplicator, Feed
from scale_assets.ingest.source import Piece

OUT_OF_CALENDAR = "out_of_calendar"


@dataclass(frozen=True, kw_only=True)
class EventFeed(Feed):
    """A feed of events. Dates run from ``start`` to before ``end``; others are quarantined."""

    key: tuple[str, ...]
    event_time: str
    start: date
    end: date
    dedup_horizon_days: int

    def schema(self, contract: Contract) -> pa.Schema:
        return event_schema(contract, self.source.columns)

    @property
    def partition_by(self) -> list[str]:
        return [EVENT_DATE.name]

    def decode(self, contract: Contract, piece: Piece) -> Decoded:
        assert not isinstance(piece.records, pa.Table)
        found = validate_lines(contract, piece.records, first_position=piece.first_position)
        times = found.accepted[self.event_time]
        inside = pc.and_(
            pc.greater_equal(times, _midnight(self.start)), pc.less(times, _midnight(self.end))
        ).fill_null(False)
        rows = found.accepted
        quarantined = piece.explained(found.quarantined)
        if not pc.all(inside).as_py():
            outside = rows.filter(pc.invert(inside))
            rows = rows.filter(inside)
            refused = self._outside(outside, piece.records, piece.first_position)
            quarantined = pa.concat_tables([quarantined, refused]).sort_by("_position")
        rows = piece.located(rows)
        rows = rows.append_column(EVENT_DATE, rows[self.event_time].cast(pa.date32()))
        quarantined = piece.located(quarantined)
        return Decoded(
            accepted=rows,
            quarantined=quarantined.append_column(EVENT_DATE, neighbour_dates(quarantined, rows)),
            num_received=found.num_received,
        )

    def deduplicator(self) -> Deduplicator:
        return KeyDeduplicator(self.key, EVENT_DATE.name, self.dedup_horizon_days)

    def _outside(
        self, outside: pa.Table, records: bytes | memoryview | list[bytes], first_line: int
    ) -> pa.Table:
        """Quarantine rows, with their lines, whose time is missing or out of the calendar."""
        lines = records if isinstance(records, list) else bytes(records).split(b"\n")
        positions = outside["_position"].to_pylist()
        bounds = f"the calendar runs from {self.start} to before {self.end}"
        return pa.table(
            {
                "raw": pa.array([lines[p - first_line] for p in positions], pa.binary()),
                "reason": [
                    f"{self.event_time} is {value}; {bounds}"
                    for value in outside[self.event_time].to_pylist()
                ],
                "rule": [OUT_OF_CALENDAR] * outside.num_rows,
                "field": [self.event_time] * outside.num_rows,
                "_position": positions,
            },
            schema=QUARANTINE_SCHEMA,
        )


def neighbour_dates(quarantined: pa.Table, accepted: pa.Table) -> pa.Array:
    """The event date to count a refused line under, since its own cannot be trusted.

    It is that of the accepted line before it in the file, else of the one after it, else null.
    """
    if not accepted.num_rows:
        return pa.nulls(quarantined.num_rows, pa.date32())
    lines = accepted["_position"].to_numpy()
    at = np.searchsorted(lines, quarantined["_position"].to_numpy()) - 1
    return accepted[EVENT_DATE.name].combine_chunks().take(pa.array(np.maximum(at, 0)))


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), tzinfo=UTC)
