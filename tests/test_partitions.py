"""Which dates are logged: touched ones, and no gaps behind the watermark."""

from datetime import date

import dagster as dg
import pytest

from scale_assets.partitions import Days, contiguous_ranges, pending_ranges, plan_dates

JANUARY = Days(date(2013, 1, 1), date(2013, 2, 1))


def day(number: int) -> date:
    return date(2013, 1, number)


def test_a_gap_behind_the_watermark_is_logged_with_the_touched_days() -> None:
    plan = plan_dates(
        touched=[day(4), day(6)],
        logged=[day(1), day(2), day(3)],
        watermark=day(6),
        calendar=JANUARY,
    )
    assert plan.ranges == [("2013-01-04", "2013-01-06")]


def test_a_late_day_is_logged_anew_and_alone() -> None:
    logged = [day(number) for number in range(1, 10)]
    plan = plan_dates(touched=[day(2)], logged=logged, watermark=day(9), calendar=JANUARY)
    assert plan.dates == ["2013-01-02"]


def test_days_outside_the_calendar_are_never_logged() -> None:
    plan = plan_dates(
        touched=[date(2012, 12, 31), day(1), date(2013, 2, 1)],
        logged=[],
        watermark=date(2013, 3, 1),
        calendar=Days(day(1), day(3)),
    )
    assert plan.dates == ["2013-01-01", "2013-01-02"]


def test_a_day_whose_check_failed_is_held_back_until_it_passes() -> None:
    failing = plan_dates(
        touched=[day(1), day(2), day(3)],
        logged=[],
        watermark=day(3),
        calendar=JANUARY,
        failed=[day(2)],
    )
    assert failing.ranges == [("2013-01-01", "2013-01-01"), ("2013-01-03", "2013-01-03")]
    assert failing.held_back == ["2013-01-02"]

    passing = plan_dates(touched=[], logged=[day(1), day(3)], watermark=day(3), calendar=JANUARY)
    assert passing.dates == ["2013-01-02"]


def test_nothing_new_is_nothing_to_log() -> None:
    plan = plan_dates(touched=[], logged=[day(1)], watermark=day(2), calendar=JANUARY)
    assert (plan.dates, plan.ranges, plan.held_back) == ([], [], [])
    assert plan_dates(touched=[], logged=[], watermark=None, calendar=JANUARY).dates == []


def test_ranges_are_the_fewest() -> None:
    days = ["2013-01-03", "2012-12-31", "2013-01-01", "2013-01-03"]
    assert contiguous_ranges(days) == [("2012-12-31", "2013-01-01"), ("2013-01-03", "2013-01-03")]


@pytest.fixture
def instance():
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def test_pending_is_what_was_logged_after_the_downstream_saw_it(
    instance: dg.DagsterInstance,
) -> None:
    raw, table = dg.AssetKey("raw"), dg.AssetKey("table")
    calendar = dg.DailyPartitionsDefinition("2013-01-01", end_date="2013-02-01")

    def log(key: dg.AssetKey, *days: str) -> None:
        for each in days:
            instance.report_runless_asset_event(dg.AssetMaterialization(key, partition=each))

    def pending() -> list[tuple[str, str]]:
        return pending_ranges(instance, upstream=[raw], downstream=table, calendar=calendar)

    log(raw, "2013-01-01", "2013-01-02", "2013-01-04", "2014-01-01")
    assert pending() == [("2013-01-01", "2013-01-02"), ("2013-01-04", "2013-01-04")]
    log(table, "2013-01-01", "2013-01-02", "2013-01-04")
    assert pending() == []
    log(raw, "2013-01-02")
    assert pending() == [("2013-01-02", "2013-01-02")]
