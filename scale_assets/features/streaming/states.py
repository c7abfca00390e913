"""One state per entity, of fixed width: many are brought forward, and read, in one numpy pass.

Shape suffixes: E = entities, M = events, T = tiles of a ring, L = last values kept.
A tile has the number of its start in tiles since 1970 and sits at that number modulo the ring's
length; a ring's newest tile is its head. What no window can reach any more is overwritten.
"""

import hashlib
import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import cached_property
from typing import Any

import numpy as np

from scale_assets.features.codec import HEADER, LOADED, schema_of
from scale_assets.features.streaming.aggregates import (
    COUNT,
    Aggregate,
    Aggregates,
    Last,
    Windowed,
)

VERSION = 2 | LOADED  # in the place of the codec's, whose values are of version 1
COUNTED = struct.Struct("<q")  # behind the codec's header: the last commit that was counted
NEVER = np.iinfo(np.int64).min
SECOND_US = 1_000_000


class OtherLayout(Exception):
    """A stored state whose bytes mean something else."""


@dataclass(frozen=True)
class Events:
    """Events of some entities, in any order; times are microseconds since 1970, UTC."""

    entity_M: np.ndarray  # index of the event's state
    event_time_M: np.ndarray
    received_at_M: np.ndarray
    columns: Mapping[str, np.ndarray]  # int64 each, 0 where null
    nulls: Mapping[str, np.ndarray] = field(default_factory=dict)  # masks, of columns with any

    @cached_property
    def happened(self) -> np.ndarray:
        """When each event counts as having happened: never after it was received; shape (M,)."""
        happened_M: np.ndarray = np.minimum(self.event_time_M, self.received_at_M)
        return happened_M

    def amount(self, measure: str) -> np.ndarray | int:
        return 1 if measure == COUNT else self.columns[measure]

    def where(self, is_kept_M: np.ndarray) -> "Events":
        """Some of the events, of the same entities."""
        if is_kept_M.all():
            return self
        return Events(
            entity_M=self.entity_M[is_kept_M],
            event_time_M=self.event_time_M[is_kept_M],
            received_at_M=self.received_at_M[is_kept_M],
            columns={name: values[is_kept_M] for name, values in self.columns.items()},
            nulls={name: mask[is_kept_M] for name, mask in self.nulls.items()},
        )


class StateLayout:
    """The bytes of a view's states, and how events change them and values are read from them."""

    def __init__(self, aggregates: Aggregates) -> None:
        self.aggregates = aggregates
        self.text = json.dumps(aggregates.as_json(), separators=(",", ":"))
        digest = hashlib.sha256(self.text.encode()).digest()
        self.schema = int.from_bytes(digest[:8], "little")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StateLayout) and other.text == self.text

    def __hash__(self) -> int:
        return self.schema

    @classmethod
    def parse(cls, text: str) -> "StateLayout":
        """The inverse of ``text``."""
        return cls(Aggregates.from_json(json.loads(text)))

    @property
    def columns(self) -> tuple[tuple[str, str], ...]:
        """Names and codec types of the values that are read from a state."""
        return tuple(self.aggregates.types.items())

    @cached_property
    def dtype(self) -> np.dtype:
        """One state. It begins as the codec's values do."""
        fields: list[Any] = [
            ("version", "u1"),
            ("schema", "<u8"),
            ("feature_time", "<i8"),  # of the last event
            ("known_at", "<i8"),  # the latest that any of them was received
            ("counted", "<i8"),  # the commit of the stream's table that was counted last
        ]
        for tile, (length, measures) in self.aggregates.rings.items():
            fields.append((head_of(tile), "<i8"))
            fields += [
                (ring_of(tile, measure), "<u4" if measure == COUNT else "<i8", (length,))
                for measure in measures
            ]
        for column, limit in self.aggregates.lasts.items():
            fields.append((f"num_last {column}", "<u4"))
            fields += [(f"{kind} {column}", "<i8", (limit,)) for kind in ("last_time", "last")]
        return np.dtype(fields)

    def empty(self, num_entities: int) -> np.ndarray:
        """States of entities without an event."""
        states_E = np.zeros(num_entities, dtype=self.dtype)
        states_E["version"], states_E["schema"] = VERSION, self.schema
        for name in ("feature_time", "known_at", "counted", *map(head_of, self.aggregates.rings)):
            states_E[name] = NEVER
        return states_E

    def unpack(self, stored: Sequence[bytes | None]) -> np.ndarray:
        """States as they were stored; empty ones where there is none.

        Raises:
            OtherLayout: One of them has another layout.
        """
        states_E = self.empty(len(stored))
        known = [at for at, data in enumerate(stored) if data is not None]
        packed = [data for data in stored if data is not None]
        if any(len(data) != self.dtype.itemsize for data in packed):
            raise OtherLayout
        found = np.frombuffer(b"".join(packed), dtype=self.dtype)
        if not (found["schema"] == self.schema).all():
            raise OtherLayout
        states_E[known] = found
        return states_E

    def lacks(self, data: bytes, commit: int) -> bool:
        """Whether a stored state has another layout, or has not counted a commit."""
        return schema_of(data) != self.schema or counted_of(data) < commit

    def pack(self, states_E: np.ndarray) -> list[bytes]:
        """The inverse of ``unpack``."""
        data, width = states_E.tobytes(), self.dtype.itemsize
        return [data[at : at + width] for at in range(0, len(data), width)]

    def add(self, states_E: np.ndarray, events: Events) -> None:
        """Count events in; the order among them, or in which batches they come, is no matter."""
        touched, entity_M = np.unique(events.entity_M, return_inverse=True)
        states_K = states_E[touched]
        self._add(states_K, replace(events, entity_M=entity_M))
        states_E[touched] = states_K

    def _add(self, states_E: np.ndarray, events: Events) -> None:
        np.maximum.at(states_E["feature_time"], events.entity_M, events.happened)
        np.maximum.at(states_E["known_at"], events.entity_M, events.received_at_M)
        for tile, (length, measures) in self.aggregates.rings.items():
            tile_M = events.happened // micros(tile)
            _advance(states_E, tile, measures, events.entity_M, tile_M)
            is_reached_M = tile_M > states_E[head_of(tile)][events.entity_M] - length
            at = (events.entity_M[is_reached_M], tile_M[is_reached_M] % length)
            for measure in measures:
                amount_M = events.amount(measure)
                if isinstance(amount_M, np.ndarray):
                    amount_M = amount_M[is_reached_M]
                np.add.at(states_E[ring_of(tile, measure)], at, amount_M)
        for column, limit in self.aggregates.lasts.items():
            _keep_last(states_E, column, limit, events)

    def values_at(self, data: bytes, now: int) -> dict[str, Any]:
        """The values of one stored state at an instant in microseconds."""
        found = self.values(self.unpack([data]), np.array([now]))
        return {name: value for name, (value,) in found.items()}

    def values(self, states_E: np.ndarray, now_E: np.ndarray) -> dict[str, list[Any]]:
        """Each feature at each state's own instant, by which all its events had been received.

        None is null: recency of an entity without an event.
        """
        return {
            feature.name: self._value(feature, states_E, now_E)
            for feature in self.aggregates.features
        }

    def _value(self, feature: Aggregate, states_E: np.ndarray, now_E: np.ndarray) -> list[Any]:
        match feature:
            case Windowed():
                return list(self.windowed(feature, states_E, now_E).tolist())
            case Last():
                return _last_of(feature, states_E)
        seconds_E = (now_E - states_E["feature_time"]) // SECOND_US
        is_known_E = states_E["feature_time"] != NEVER
        return [
            seconds if is_known else None
            for seconds, is_known in zip(seconds_E.tolist(), is_known_E.tolist(), strict=True)
        ]

    def windowed(self, feature: Windowed, states_E: np.ndarray, now_E: np.ndarray) -> np.ndarray:
        """The window's int64 sum, shape (E,)."""
        tile_us = micros(feature.tile)
        oldest_E = (now_E - micros(feature.window)) // tile_us
        ring_ET = states_E[ring_of(feature.tile, feature.measure)]
        tile_ET = _tiles(states_E[head_of(feature.tile)], ring_ET.shape[1])
        is_inside_ET = tile_ET >= oldest_E[:, None]
        sum_E: np.ndarray = np.where(is_inside_ET, ring_ET, 0).sum(axis=1, dtype=np.int64)
        return sum_E


def _advance(
    states_E: np.ndarray,
    tile: timedelta,
    measures: tuple[str, ...],
    entity_M: np.ndarray,
    tile_M: np.ndarray,
) -> None:
    """Move heads to the newest tiles, and empty the places that they now stand for."""
    before_E = states_E[head_of(tile)].copy()
    np.maximum.at(states_E[head_of(tile)], entity_M, tile_M)
    moved = np.flatnonzero(states_E[head_of(tile)] > before_E)
    for measure in measures:
        ring_ET = states_E[ring_of(tile, measure)]
        tile_ET = _tiles(states_E[head_of(tile)][moved], ring_ET.shape[1])
        ring_ET[moved] = np.where(tile_ET <= before_E[moved, None], ring_ET[moved], 0)


def _tiles(head_E: np.ndarray, length: int) -> np.ndarray:
    """The tile that each place of a ring stands for, shape (E, T)."""
    age_ET = (head_E[:, None] - np.arange(length)) % length
    return head_E[:, None] - np.where(head_E[:, None] == NEVER, 0, age_ET)


def _keep_last(states_E: np.ndarray, column: str, limit: int, events: Events) -> None:
    """Merge events into the last values: the largest (time, value) pairs, repeats included."""
    is_value_M = ~events.nulls.get(column, np.zeros(len(events.entity_M), dtype=bool))
    touched, at_M = np.unique(events.entity_M[is_value_M], return_inverse=True)
    kept_KL = np.arange(limit) < states_E[f"num_last {column}"][touched, None]
    entity = np.concatenate((np.nonzero(kept_KL)[0], at_M))
    times, values = (
        np.concatenate((states_E[f"{kind} {column}"][touched][kept_KL], new_M[is_value_M]))
        for kind, new_M in (
            ("last_time", events.happened),
            ("last", events.columns[column]),
        )
    )
    order = np.lexsort((values, times, entity))
    entity, times, values = entity[order], times[order], values[order]
    count_K = np.bincount(entity, minlength=len(touched))
    place = np.arange(len(entity)) - np.cumsum(count_K)[entity] + np.minimum(count_K, limit)[entity]
    is_kept = place >= 0
    at = (touched[entity[is_kept]], place[is_kept])
    states_E[f"last_time {column}"][at] = times[is_kept]
    states_E[f"last {column}"][at] = values[is_kept]
    states_E[f"num_last {column}"][touched] = np.minimum(count_K, limit)


def _last_of(feature: Last, states_E: np.ndarray) -> list[Any]:
    num_E = states_E[f"num_last {feature.column}"].astype(np.int64)
    values_EL = states_E[f"last {feature.column}"]
    return [
        values[max(0, num - feature.limit) : num].copy()
        for num, values in zip(num_E.tolist(), values_EL, strict=True)
    ]


def counted_of(data: bytes) -> int:
    """The last commit that a stored state has counted."""
    return int(COUNTED.unpack_from(data, HEADER.size)[0])


def head_of(tile: timedelta) -> str:
    """The field that holds the number of a ring's newest tile."""
    return f"head {_seconds(tile)}"


def ring_of(tile: timedelta, measure: str) -> str:
    """The field that holds a measure's tiles."""
    return f"ring {_seconds(tile)} {measure}"


def micros(duration: timedelta) -> int:
    return duration // timedelta(microseconds=1)


def _seconds(tile: timedelta) -> int:
    return tile // timedelta(seconds=1)
