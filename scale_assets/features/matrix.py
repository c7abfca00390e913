"""Numeric columns of many packed values as one array: bytes are viewed, never unpacked."""

from collections.abc import Sequence
from functools import lru_cache
from itertools import groupby
from typing import Any

import numpy as np

from scale_assets.features.codec import FIXED, Layout
from scale_assets.features.layouts import AnyLayout
from scale_assets.features.stores.base import OnlineStoreError
from scale_assets.features.streaming.states import StateLayout


class MatrixPlan:
    """Where the columns lie in a layout: runs of neighbours of one type are copied at once."""

    def __init__(self, layout: Layout, columns: tuple[str, ...]) -> None:
        self.layout = layout
        self.runs = _runs(layout, columns)
        self.places = np.array(
            [(target, column) for target, column in _present(layout, columns)], dtype=np.int64
        ).reshape(-1, 2)
        self.dtype = _dtype(layout, self.runs)

    def fill(
        self,
        packed: Sequence[bytes],
        values_NC: np.ndarray,
        times_N2: np.ndarray,
        rows: Any,
        now: int,  # noqa: ARG002 # packed values do not depend on it
    ) -> None:
        """Put the values into ``rows`` of the arrays; nulls stay as the arrays have them."""
        size = self.layout.tail_start
        heads = packed if self.layout.is_fixed else [data[:size] for data in packed]
        records = np.frombuffer(b"".join(heads), dtype=self.dtype)
        times_N2[rows] = records["times"]
        null_NC = self._nulls(records)
        for number, (target, _, length) in enumerate(self.runs):
            cells = (rows, slice(target, target + length))
            found = records[f"run{number}"].reshape(len(records), length)
            if null_NC is None:
                values_NC[cells] = found
            else:
                is_null = null_NC[:, target : target + length]
                values_NC[cells] = np.where(is_null, np.nan, found)

    def _nulls(self, records: np.ndarray) -> np.ndarray | None:
        """Which of the wanted columns are null, or None if no column is anywhere."""
        bitmap = records["null_bitmap"]
        if not bitmap.any():
            return None
        bits = np.unpackbits(bitmap, axis=1, bitorder="little")
        width = int(self.places[:, 0].max(initial=-1)) + 1
        null_NC = np.zeros((len(records), width), dtype=bool)
        null_NC[:, self.places[:, 0]] = bits[:, self.places[:, 1]]
        return null_NC


class StatePlan:
    """The same of states over a stream's events, whose windows end at ``now``."""

    def __init__(self, layout: StateLayout, columns: tuple[str, ...]) -> None:
        self.layout = layout
        numbers = {name for name, kind in layout.columns if kind in FIXED}
        self.columns = [(at, name) for at, name in enumerate(columns) if name in numbers]

    def fill(
        self,
        packed: Sequence[bytes],
        values_NC: np.ndarray,
        times_N2: np.ndarray,
        rows: Any,
        now: int,
    ) -> None:
        """Put the values into ``rows`` of the arrays; nulls are NaN."""
        states_E = self.layout.unpack(packed)
        times_N2[rows] = np.column_stack((states_E["feature_time"], states_E["known_at"]))
        found = self.layout.values(states_E, np.full(len(states_E), now))
        for at, name in self.columns:
            values_NC[rows, at] = np.array(found[name], dtype=values_NC.dtype)  # None is NaN


@lru_cache(maxsize=256)
def matrix_plan(layout: AnyLayout, columns: tuple[str, ...]) -> MatrixPlan | StatePlan:
    if isinstance(layout, StateLayout):
        return StatePlan(layout, columns)
    return MatrixPlan(layout, columns)


@lru_cache(maxsize=256)
def require_numbers(layout: AnyLayout, columns: tuple[str, ...]) -> None:
    """Raises OnlineStoreError for a column that is not there, or not a number."""
    kinds = dict(layout.columns)
    for name in columns:
        kind = kinds.get(name)
        if kind is None:
            raise OnlineStoreError(f"column {name!r} is not in the view; it has {list(kinds)}")
        if kind not in FIXED:
            raise OnlineStoreError(f"column {name!r} is a {kind}, not a number; use read()")


def _present(layout: Layout, columns: tuple[str, ...]) -> list[tuple[int, int]]:
    """(column of the array, column of the layout) of those that the layout has as numbers."""
    places = {name: at for at, (name, kind) in enumerate(layout.columns) if kind in FIXED}
    return [(target, places[name]) for target, name in enumerate(columns) if name in places]


def _runs(layout: Layout, columns: tuple[str, ...]) -> list[tuple[int, int, int]]:
    """(first column of the array, first column of the layout, how many) of neighbours."""
    runs = []
    for _, group in groupby(
        enumerate(_present(layout, columns)),
        key=lambda each: (
            each[1][0] - each[0],
            each[1][1] - each[0],
            layout.columns[each[1][1]][1],
        ),
    ):
        members = [pair for _, pair in group]
        runs.append((*members[0], len(members)))
    return runs


def _dtype(layout: Layout, runs: list[tuple[int, int, int]]) -> np.dtype:
    offsets = [layout.dtype.fields[f"c{at}"][1] for _, at, _ in runs]  # type: ignore[index]
    codes = [FIXED[layout.columns[at][1]] for _, at, _ in runs]
    return np.dtype(
        {
            "names": ["times", "null_bitmap", *(f"run{number}" for number in range(len(runs)))],
            "formats": [
                ("<i8", (2,)),
                ("u1", (layout.bitmap_bytes,)),
                *(("<" + code, (run[2],)) for code, run in zip(codes, runs, strict=True)),
            ],
            "offsets": [9, 25, *offsets],
            "itemsize": layout.tail_start,
        }
    )
