"""Writes one view's values as they come: what streams use, and everything that is not a load."""

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any, NamedTuple

from scale_assets.features.codec import CodecError, Layout
from scale_assets.features.stores import Backend, PackedRow, Put


class Value(NamedTuple):
    """One entity's values by column; times in microseconds since 1970, UTC."""

    key: str  # as ``codec.entity_key`` makes it
    values: Mapping[str, Any]
    feature_time: int
    known_at: int


class ViewWriter:
    """A view of a store to write to; a late, older value never overwrites a newer one.

    Any number of processes may write at once, also while the lake is loaded.
    """

    def __init__(
        self, backend: Backend, view: str, layout: Layout, *, ttl: timedelta | None
    ) -> None:
        self.backend = backend
        self.view = view
        self.layout = layout
        backend.declare(view, layout, ttl=ttl)

    def write(self, values: Iterable[Value]) -> int:
        """Write values and move the store's clock; returns how many were not late.

        Raises:
            CodecError: A column is missing, or a value does not fit its type; nothing is written.
        """
        packed = [(value, self._packed(value)) for value in values]
        if not packed:
            return 0
        rows = [PackedRow(value.key, data) for value, data in packed]
        with self.backend.atomically():
            outcome = self.backend.put(self.view, rows, Put.PUSH)
            self.backend.advance(
                self.view,
                feature_time=max(value.feature_time for value, _ in packed),
                known_at=max(value.known_at for value, _ in packed),
            )
        return outcome.num_written

    def _packed(self, value: Value) -> bytes:
        try:
            ordered = [value.values[name] for name, _ in self.layout.columns]
        except KeyError as error:
            raise CodecError(
                f"{self.view} of {value.key!r} lacks column {error}; it has {sorted(value.values)}"
            ) from error
        return self.layout.encode(ordered, feature_time=value.feature_time, known_at=value.known_at)
