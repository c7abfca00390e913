"""When assets run by themselves."""

from functools import cache

import dagster as dg


@cache  # one object for all assets: building it for each takes longer than anything else they do
def when_inputs_passed_their_checks() -> dg.AutomationCondition:
    """As soon as an input changed, for exactly the dates that changed, unless a check failed."""
    in_any_window = dg.AutomationCondition.eager().without(
        dg.AutomationCondition.in_latest_time_window()
    )
    return in_any_window & dg.AutomationCondition.all_deps_blocking_checks_passed()
