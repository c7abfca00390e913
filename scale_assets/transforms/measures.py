"""Aggregates that a table declares by column name: counts, sums, extremes, distinct values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from scale_assets.transforms.tables import Lineage, Snapshot, TransformError

if TYPE_CHECKING:
    from pyspark.sql import Column


@dataclass(frozen=True, kw_only=True)
class Measures:
    """Each mapping is output column to input column; ``count`` names the number of rows."""

    count: str | None = None
    sums: Mapping[str, str] = field(default_factory=dict)
    distinct: Mapping[str, str] = field(default_factory=dict)
    minima: Mapping[str, str] = field(default_factory=dict)
    maxima: Mapping[str, str] = field(default_factory=dict)

    def sources(self) -> dict[str, str]:
        """Output column to the input column that it aggregates."""
        return {**self.sums, **self.distinct, **self.minima, **self.maxima}

    def names(self) -> list[str]:
        return ([self.count] if self.count else []) + list(self.sources())

    def columns(self) -> list["Column"]:
        from pyspark.sql import functions as sf

        kinds = [
            (self.sums, sf.sum),
            (self.distinct, sf.count_distinct),
            (self.minima, sf.min),
            (self.maxima, sf.max),
        ]
        made = [make(source).alias(name) for group, make in kinds for name, source in group.items()]
        return made + ([sf.count("*").alias(self.count)] if self.count else [])

    def check(self, events: Snapshot, *, taken: list[str]) -> None:
        """Refuse unknown input columns, and output columns named twice or like a key."""
        for kind in ("sums", "distinct", "minima", "maxima"):
            events.require({kind: list(getattr(self, kind).values())})
        names = [*self.names(), *taken]
        if self.count is not None and self.count in self.sources():
            names.append(self.count)
        groups = (self.sums, self.distinct, self.minima, self.maxima)
        twice = len(self.sources()) != sum(map(len, groups)) or len(set(names)) != len(names)
        if twice:
            raise TransformError(f"two output columns share a name: {sorted(names)}")

    def lineage(self, input_name: str) -> Lineage:
        made_from = {name: [(input_name, source)] for name, source in self.sources().items()}
        return made_from | ({self.count: []} if self.count else {})  # rows are no column
