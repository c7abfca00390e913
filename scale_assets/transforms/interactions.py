"""Interaction counts: events added up to one row per key and day."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from scale_assets.transforms.measures import Measures
from scale_assets.transforms.tables import (
    DateRange,
    Lineage,
    Snapshot,
    TransformError,
    declares_lineage,
)

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


def _lineage(*, keys: Sequence[str], **measures: Any) -> Lineage:
    return {key: [("events", key)] for key in keys} | Measures(**measures).lineage("events")


@declares_lineage(_lineage)
def interaction_counts(
    *,
    events: Snapshot,
    dates: DateRange,
    keys: Sequence[str],
    count: str | None = None,
    sums: Mapping[str, str] | None = None,
    distinct: Mapping[str, str] | None = None,
    minima: Mapping[str, str] | None = None,
    maxima: Mapping[str, str] | None = None,
) -> "DataFrame":
    """One row per distinct ``keys`` among the events of ``dates``.

    Args:
        events: Partitioned by date; that column must be among the keys. With ``received_at``
            among them too, a late event makes a row of its own and earlier rows never change.
        dates: The partitions to make.
        keys: Columns that identify a row, in output order.
        count: Name of the column that counts events.
        sums: Output column to the input column that it adds up.
        distinct: Output column to the input column whose different values it counts.
        minima: Output column to the input column whose smallest value it holds.
        maxima: Output column to the input column whose largest value it holds.
    """
    measures = Measures(
        count=count,
        sums=sums or {},
        distinct=distinct or {},
        minima=minima or {},
        maxima=maxima or {},
    )
    events.require({"keys": list(keys)})
    measures.check(events, taken=list(keys))
    if events.date_column not in keys:
        raise TransformError(f"keys {list(keys)} must include {events.date_column}, the partition")
    return events.read(dates).groupBy(*keys).agg(*measures.columns())
