"""`run_due` does what is due, in order, and nothing else."""

from collections.abc import Iterator

import dagster as dg
import pytest

from scale_assets.pipeline import PipelineFailed, run_due, waves

DAILY = dg.DailyPartitionsDefinition(start_date="2026-01-01", end_date="2026-02-01")


class World:
    """A tiny graph: ingest -> daily table -> summary -> model, with knobs for what changes."""

    def __init__(self) -> None:
        self.new_dates: list[str] = []
        self.ran: list[tuple[str, str]] = []
        self.summary_version = "1"
        self.check_passes = True
        self.second_works = True

    def definitions(self) -> dg.Definitions:
        world = self

        @dg.asset(key=["ingest", "events"])
        def ingest(context: dg.AssetExecutionContext) -> None:
            for date in world.new_dates:
                context.log_event(dg.AssetMaterialization(["raw", "events"], partition=date))

        raw = dg.AssetSpec(["raw", "events"], deps=[["ingest", "events"]], partitions_def=DAILY)

        @dg.asset(deps=[raw], partitions_def=DAILY, backfill_policy=dg.BackfillPolicy.single_run())
        def daily_table(context: dg.AssetExecutionContext) -> None:
            dates = context.partition_key_range
            world.ran.append(("daily_table", f"{dates.start}..{dates.end}"))

        @dg.asset(
            deps=[daily_table],
            partitions_def=DAILY,
            backfill_policy=dg.BackfillPolicy.single_run(),
        )
        def second_table(context: dg.AssetExecutionContext) -> None:
            if not world.second_works:
                raise RuntimeError("no luck")
            dates = context.partition_key_range
            world.ran.append(("second_table", f"{dates.start}..{dates.end}"))

        @dg.asset(deps=[second_table])
        def summary() -> dg.MaterializeResult:
            world.ran.append(("summary", ""))
            return dg.MaterializeResult(data_version=dg.DataVersion(world.summary_version))

        @dg.asset_check(asset=summary, blocking=True)
        def summary_is_sound() -> dg.AssetCheckResult:
            return dg.AssetCheckResult(passed=world.check_passes)

        @dg.asset(deps=[summary])
        def model() -> None:
            world.ran.append(("model", ""))

        return dg.Definitions(
            assets=[ingest, raw, daily_table, second_table, summary, model],
            asset_checks=[summary_is_sound],
        )

    def run(self, instance: dg.DagsterInstance, *new_dates: str) -> list[tuple[str, str]]:
        self.new_dates, self.ran = list(new_dates), []
        roots = dg.AssetSelection.assets(["ingest", "events"])
        run_due(self.definitions(), instance, roots=roots, listener=lambda *_: None)
        return self.ran


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


def test_waves_respect_the_order_and_never_mix_partitionings() -> None:
    graph = World().definitions().resolve_asset_graph()

    order = [sorted(key.to_user_string() for key in wave.keys) for wave in waves(graph)]

    assert order == [["ingest/events"], ["daily_table", "second_table"], ["model", "summary"]]


def test_dates_run_as_contiguous_ranges_and_only_once(instance: dg.DagsterInstance) -> None:
    world = World()

    first = world.run(instance, "2026-01-01", "2026-01-02", "2026-01-05")

    assert first == [
        ("daily_table", "2026-01-01..2026-01-02"),
        ("second_table", "2026-01-01..2026-01-02"),
        ("daily_table", "2026-01-05..2026-01-05"),
        ("second_table", "2026-01-05..2026-01-05"),
        ("summary", ""),
        ("model", ""),
    ]
    assert world.run(instance) == []


def test_a_late_date_reruns_only_that_date_and_what_it_feeds(
    instance: dg.DagsterInstance,
) -> None:
    world = World()
    world.run(instance, "2026-01-01", "2026-01-02")
    world.summary_version = "2"

    assert world.run(instance, "2026-01-01") == [
        ("daily_table", "2026-01-01..2026-01-01"),
        ("second_table", "2026-01-01..2026-01-01"),
        ("summary", ""),
        ("model", ""),
    ]


def test_after_a_failure_only_what_is_missing_runs(instance: dg.DagsterInstance) -> None:
    world = World()
    world.second_works = False
    with pytest.raises(PipelineFailed, match="no luck"):
        world.run(instance, "2026-01-01")
    world.second_works = True

    assert world.run(instance) == [
        ("second_table", "2026-01-01..2026-01-01"),
        ("summary", ""),
        ("model", ""),
    ]


def test_dates_outside_the_calendar_are_never_requested(instance: dg.DagsterInstance) -> None:
    assert World().run(instance, "2031-01-01") == [("summary", ""), ("model", "")]


def test_a_failed_blocking_check_stops_what_is_downstream_and_is_named(
    instance: dg.DagsterInstance,
) -> None:
    world = World()
    world.check_passes = False

    with pytest.raises(PipelineFailed, match="summary_is_sound"):
        world.run(instance, "2026-01-01")

    assert ("model", "") not in world.ran
