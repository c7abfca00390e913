"""What is counted over which windows, and the tiles that the windows are made of.

A window of length W at instant t reaches back to the start of the tile that holds t - W, so that
partial aggregates per tile are enough: tiles of 5 minutes up to 12 hours, of an hour up to 12 days,
of a day beyond (the "sawtooth" windows of Airbnb's Chronon, docs "Windowing"). An event counts from
when it was received; one that claims to have happened later than that, happened then.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import Any

from scale_assets.errors import ScaleError

MINUTE, HOUR, DAY = (timedelta(minutes=1), timedelta(hours=1), timedelta(days=1))
TILE_SIZES = ((12 * HOUR, 5 * MINUTE), (12 * DAY, HOUR), (366 * DAY, DAY))  # up to, tile
MAX_LAST = 1000
COUNT = "count"  # the measure that needs no column


class AggregateError(ScaleError):
    """An aggregate that cannot be kept in tiles."""


@dataclass(frozen=True, kw_only=True)
class Windowed:
    """Events in the window, or with ``column`` the sum of that integer column over them."""

    name: str
    window: timedelta
    column: str | None = None

    def __post_init__(self) -> None:
        tile = self.tile
        if self.window % tile:
            raise AggregateError(
                f"feature {self.name!r}: a window of {self.window} is no multiple of its tile, "
                f"{tile}; round it"
            )

    @property
    def tile(self) -> timedelta:
        """Length of the tiles that the window is summed from."""
        if self.window > timedelta(0):
            for longest, tile in TILE_SIZES:
                if self.window <= longest:
                    return tile
        raise AggregateError(
            f"feature {self.name!r}: window is {self.window}; it must be longer than 0 and at "
            f"most {TILE_SIZES[-1][0].days} days"
        )

    @property
    def measure(self) -> str:
        return COUNT if self.column is None else self.column


@dataclass(frozen=True, kw_only=True)
class Last:
    """The last ``limit`` values of an integer column, oldest first; equal times in value order."""

    name: str
    column: str
    limit: int

    def __post_init__(self) -> None:
        if not 0 < self.limit <= MAX_LAST:
            raise AggregateError(
                f"feature {self.name!r}: last {self.limit} values; keep 1 to {MAX_LAST}"
            )


@dataclass(frozen=True, kw_only=True)
class Recency:
    """Whole seconds since the last event; null before the first."""

    name: str


Aggregate = Windowed | Last | Recency


@dataclass(frozen=True)
class Aggregates:
    """All aggregates of one view, and what a state must hold to answer each of them."""

    features: tuple[Aggregate, ...]

    def __post_init__(self) -> None:
        names = [feature.name for feature in self.features]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise AggregateError(f"feature {repeated[0]!r} is declared twice")
        if not names:
            raise AggregateError("a view needs at least one feature")

    @cached_property
    def rings(self) -> dict[timedelta, tuple[int, tuple[str, ...]]]:
        """Per tile length: how many tiles are kept, and the measures that are kept in each."""
        found: dict[timedelta, tuple[int, tuple[str, ...]]] = {}
        for feature in self.windowed:
            length, measures = found.get(feature.tile, (0, ()))
            needed = feature.window // feature.tile + 1  # the oldest is seen in part, now's too
            if feature.measure not in measures:
                measures = (*measures, feature.measure)
            found[feature.tile] = (max(length, needed), measures)
        return dict(sorted(found.items()))

    @cached_property
    def lasts(self) -> dict[str, int]:
        """Per column of which last values are kept: how many."""
        found: dict[str, int] = {}
        for feature in self.features:
            if isinstance(feature, Last):
                found[feature.column] = max(found.get(feature.column, 0), feature.limit)
        return found

    @property
    def windowed(self) -> list[Windowed]:
        return [feature for feature in self.features if isinstance(feature, Windowed)]

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The events' columns that are read, besides the entity's and the times."""
        measures = (measure for _, names in self.rings.values() for measure in names)
        return tuple(dict.fromkeys(name for name in (*measures, *self.lasts) if name != COUNT))

    @property
    def types(self) -> dict[str, str]:
        """Codec type of each feature."""
        return {
            feature.name: "list<int64>" if isinstance(feature, Last) else "int64"
            for feature in self.features
        }

    def as_json(self) -> list[dict[str, Any]]:
        """What ``from_json`` reads; equal lists are equal states."""
        return [_as_json(feature) for feature in self.features]

    @classmethod
    def from_json(cls, features: Iterable[Mapping[str, Any]]) -> "Aggregates":
        return cls(tuple(_from_json(dict(feature)) for feature in features))


def _as_json(feature: Aggregate) -> dict[str, Any]:
    match feature:
        case Windowed():
            seconds = feature.window // timedelta(seconds=1)
            column = {} if feature.column is None else {"column": feature.column}
            return {"name": feature.name, "window_seconds": seconds, **column}
        case Last():
            return {"name": feature.name, "last": feature.limit, "column": feature.column}
        case Recency():
            return {"name": feature.name}


def _from_json(feature: dict[str, Any]) -> Aggregate:
    name = feature["name"]
    if "window_seconds" in feature:
        window = timedelta(seconds=feature["window_seconds"])
        return Windowed(name=name, window=window, column=feature.get("column"))
    if "last" in feature:
        return Last(name=name, column=feature["column"], limit=feature["last"])
    return Recency(name=name)
