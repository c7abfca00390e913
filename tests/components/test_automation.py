"""What a change requests: exactly its dates, and whatever has no dates once its inputs are there."""

import dagster as dg

from scale_assets.components.automation import (
    DAILY,
    when_dates_passed_their_checks,
    when_inputs_passed_their_checks,
)

DAYS = dg.DailyPartitionsDefinition("2013-01-01", end_date="2013-01-11")


@dg.asset(
    deps=["raw"],
    partitions_def=DAYS,
    tags=DAILY,
    automation_condition=when_dates_passed_their_checks(),
)
def counts() -> None: ...


@dg.asset(deps=["counts", "sites"], automation_condition=when_inputs_passed_their_checks())
def mart() -> None: ...


@dg.asset(deps=["mart"], automation_condition=when_inputs_passed_their_checks())
def online() -> None: ...


DEFS = dg.Definitions(
    [
        dg.AssetSpec("raw", partitions_def=DAYS, tags=DAILY),
        dg.AssetSpec("sites"),
        counts,
        mart,
        online,
    ]
)


class Daemon:
    """Evaluates the conditions after each event, as Dagster's daemon does."""

    def __init__(self) -> None:
        self.instance = dg.DagsterInstance.ephemeral()
        self.cursor = dg.evaluate_automation_conditions(DEFS, self.instance).cursor

    def after(self, key: str, *dates: str) -> dict[str, int]:
        """What is requested once ``key`` was materialized, for these dates if it has any."""
        for day in dates or (None,):
            event = dg.AssetMaterialization(key, partition=day)
            self.instance.report_runless_asset_event(event)
        result = dg.evaluate_automation_conditions(DEFS, self.instance, cursor=self.cursor)
        self.cursor = result.cursor
        requested = {
            name: result.get_num_requested(dg.AssetKey(name))
            for name in ("counts", "mart", "online")
        }
        return {name: number for name, number in requested.items() if number}


def test_dates_go_on_by_themselves_to_what_has_no_dates() -> None:
    """Most of the calendar's dates are missing all the while."""
    daemon = Daemon()
    assert daemon.after("raw", "2013-01-01", "2013-01-02") == {"counts": 2}
    assert daemon.after("counts", "2013-01-01", "2013-01-02") == {}  # sites are missing
    assert daemon.after("sites") == {"mart": 1, "online": 1}
    assert daemon.after("mart") == {}
    assert daemon.after("online") == {}
    assert daemon.after("raw", "2013-01-05") == {"counts": 1}
    assert daemon.after("counts", "2013-01-05") == {"mart": 1, "online": 1}
