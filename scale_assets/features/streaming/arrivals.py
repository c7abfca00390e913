"""Rows of a stream's table as events of entities, whose keys are texts as the online store has them."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scale_assets.features.streaming.aggregates import Aggregates
from scale_assets.features.streaming.declared import EventColumns
from scale_assets.features.streaming.keys import entity_texts
from scale_assets.features.streaming.states import Events, StateLayout


@dataclass(frozen=True)
class Arrivals:
    """Events, and the keys of the entities that they count them by; ``keys`` has no repeats."""

    keys: list[str]
    events: Events


def columns_read(columns: EventColumns, aggregates: Aggregates) -> list[str]:
    """What must be read of the stream's table."""
    return list(dict.fromkeys([*_needed(columns), *aggregates.columns]))


def _needed(columns: EventColumns) -> list[str]:
    """Columns without which an event belongs to nobody."""
    keys = [column for key in columns.keys for column in key.columns]
    return [*keys, columns.event_time, columns.received_at]


def arrivals(rows: pa.Table, columns: EventColumns, aggregates: Aggregates) -> Arrivals:
    """The events of ``rows``; those without a key or a time belong to nobody."""
    needed = _needed(columns)
    if any(rows[name].null_count for name in needed):
        rows = _whole(rows, needed)
    encoded = entity_texts(columns.keys, rows).combine_chunks().dictionary_encode()
    values = {name: rows[name].cast(pa.int64()) for name in aggregates.columns}
    return Arrivals(
        keys=encoded.dictionary.to_pylist(),
        events=Events(
            entity_M=encoded.indices.to_numpy().astype(np.int64),
            event_time_M=_micros(rows[columns.event_time]),
            received_at_M=_micros(rows[columns.received_at]),
            columns={name: pc.fill_null(column, 0).to_numpy() for name, column in values.items()},
            nulls={
                name: pc.is_null(column).to_numpy()
                for name, column in values.items()
                if column.null_count
            },
        ),
    )


def _whole(rows: pa.Table, needed: Sequence[str]) -> pa.Table:
    """Rows that have a value in each of these columns."""
    mask = pc.is_valid(rows[needed[0]])
    for name in needed[1:]:
        mask = pc.and_(mask, pc.is_valid(rows[name]))
    return rows.filter(mask)


def _micros(times: pa.ChunkedArray) -> np.ndarray:
    micros: np.ndarray = times.cast(pa.timestamp("us", tz="UTC")).cast(pa.int64()).to_numpy()
    return micros


@dataclass
class Gathered:
    """States of all entities that have been seen so far, in memory."""

    layout: StateLayout
    numbers: dict[str, int] = field(default_factory=dict)  # key to index of the state

    def __post_init__(self) -> None:
        self._states = self.layout.empty(1024)

    @property
    def states(self) -> np.ndarray:
        """One per key, in the order of ``numbers``."""
        return self._states[: len(self.numbers)]

    def add(self, arrived: Arrivals) -> None:
        """Count events in, of old entities and of new ones."""
        numbers = self.numbers
        number_K = np.array(
            [numbers.setdefault(key, len(numbers)) for key in arrived.keys], dtype=np.int64
        )
        if len(numbers) > len(self._states):
            more = self.layout.empty(len(numbers))  # twice what is needed, or more
            self._states = np.concatenate((self._states, more))
        events = arrived.events
        moved = replace(events, entity_M=number_K[events.entity_M])
        self.layout.add(self._states, moved)
