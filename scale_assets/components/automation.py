"""When assets run by themselves."""

from functools import cache

import dagster as dg

DAILY = {"scale/calendar": "daily"}  # tags every asset that has a partition per day


@cache  # one object for all assets: building it for each takes longer than anything else they do
def when_dates_passed_their_checks() -> dg.AutomationCondition:
    """Of a daily asset: for exactly the dates whose inputs changed, unless a check failed."""
    in_any_window = dg.AutomationCondition.eager().without(
        dg.AutomationCondition.in_latest_time_window()
    )
    return in_any_window & dg.AutomationCondition.all_deps_blocking_checks_passed()


@cache
def when_inputs_passed_their_checks() -> dg.AutomationCondition:
    """Of an asset without partitions: as soon as an input changed, unless a check failed.

    It waits until every input without partitions is there. Of a daily one some date is always
    missing, tomorrow's at least, so it takes those that there are.
    """
    ((key, value),) = DAILY.items()
    unpartitioned_missing = dg.AutomationCondition.any_deps_missing().ignore(
        dg.AssetSelection.tag(key, value)
    )
    return when_dates_passed_their_checks().replace("any_deps_missing", unpartitioned_missing)
