"""Which dates of a daily table to log, and how dates become ranges: one answer for all who ask.

The ingest assets, the sensors, the demo and the UI's backfills go through the functions here. Dates
are partition keys of a daily calendar in UTC, such as "2013-01-14".
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta

import dagster as dg

ONE_DAY = timedelta(days=1)


@dataclass(frozen=True)
class Days:
    """A daily calendar: ``start`` to before ``end``; without an end it never closes."""

    start: date
    end: date | None = None

    def __contains__(self, day: date) -> bool:
        return self.start <= day and (self.end is None or day < self.end)


@dataclass(frozen=True)
class DatePlan:
    """The dates to log now, the same as ranges, and those held back until their check passes."""

    dates: list[str]
    ranges: list[tuple[str, str]]
    held_back: list[str]


def plan_dates(
    *,
    touched: Iterable[date],
    logged: Iterable[date],
    watermark: date | None,
    calendar: Days,
    failed: Iterable[date] = (),
) -> DatePlan:
    """The dates of a table to log as materialized.

    Args:
        touched: Dates that received rows since the last log, late ones included; logged anew.
        logged: Dates logged at any time before.
        watermark: Date up to which the input is complete; it need not be complete itself. Every
            date before it that was never logged is logged now, rows or none: a gap would block
            every window over it.
        calendar: Dates outside it are never logged.
        failed: Dates whose check failed; held back, and logged by the run that finds them sound.
    """
    due = {day for day in touched if day in calendar}
    if watermark is not None:
        due |= _days_before(watermark, calendar) - set(logged)
    refused = due & set(failed)
    dates = [day.isoformat() for day in sorted(due - refused)]
    return DatePlan(
        dates=dates,
        ranges=contiguous_ranges(dates),
        held_back=[day.isoformat() for day in sorted(refused)],
    )


def contiguous_ranges(dates: Iterable[str]) -> list[tuple[str, str]]:
    """Dates as the fewest ranges (first, last), both ends included, oldest first."""
    ranges: list[tuple[str, str]] = []
    for day in sorted({date.fromisoformat(text) for text in dates}):
        if ranges and date.fromisoformat(ranges[-1][1]) + ONE_DAY == day:
            ranges[-1] = (ranges[-1][0], day.isoformat())
        else:
            ranges.append((day.isoformat(), day.isoformat()))
    return ranges


def pending_dates(
    instance: dg.DagsterInstance,
    *,
    upstream: Iterable[dg.AssetKey],
    downstream: dg.AssetKey,
    calendar: dg.PartitionsDefinition,
) -> list[str]:
    """Dates that some upstream logged after the downstream last saw them, oldest first."""
    seen = latest_log_ids(instance, downstream)
    due = {
        day
        for key in upstream
        for day, log_id in latest_log_ids(instance, key).items()
        if log_id > seen.get(day, -1)
    }
    return sorted(day for day in due if calendar.has_partition_key(day))


def pending_ranges(
    instance: dg.DagsterInstance,
    *,
    upstream: Iterable[dg.AssetKey],
    downstream: dg.AssetKey,
    calendar: dg.PartitionsDefinition,
) -> list[tuple[str, str]]:
    """The pending dates as ranges: one run each brings the downstream up to date."""
    return contiguous_ranges(
        pending_dates(instance, upstream=upstream, downstream=downstream, calendar=calendar)
    )


def latest_log_ids(instance: dg.DagsterInstance, key: dg.AssetKey) -> dict[str, int]:
    """For each logged date of an asset, where in the instance's log its newest entry stands."""
    found = instance.get_latest_storage_id_by_partition(
        key, dg.DagsterEventType.ASSET_MATERIALIZATION
    )
    return dict(found)


def _days_before(watermark: date, calendar: Days) -> set[date]:
    days = set()
    day = calendar.start
    while day < watermark and day in calendar:
        days.add(day)
        day += ONE_DAY
    return days
