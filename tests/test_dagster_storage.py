"""The event log keeps what Dagster's own keeps, and a batch of events whole or not at all."""

from pathlib import Path

import dagster as dg
import pytest

from scale_assets.dagster_storage import KeptOpenEventLogStorage
from scale_assets.instance import open_instance
from scale_assets.settings import Settings

DAYS = dg.DailyPartitionsDefinition("2013-01-01", "2013-03-01")


@dg.asset(partitions_def=DAYS, backfill_policy=dg.BackfillPolicy.single_run())
def counts() -> None:
    """One row per day."""


def materialize(instance: dg.DagsterInstance) -> dg.ExecuteInProcessResult:
    return dg.materialize(
        [counts],
        instance=instance,
        tags={
            "dagster/asset_partition_range_start": "2013-01-01",
            "dagster/asset_partition_range_end": "2013-02-28",
        },
    )


def logged(instance: dg.DagsterInstance, run_id: str) -> list[tuple[str | None, str | None]]:
    return [
        (entry.dagster_event.event_type_value, entry.dagster_event.partition)
        for entry in instance.all_logs(run_id)
        if entry.dagster_event and "ENGINE" not in entry.dagster_event.event_type_value
    ]


@pytest.mark.parametrize("batch_size", ["0", "7", "1000"])
def test_batches_of_any_size_log_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch_size: str
) -> None:
    with open_instance(Settings(data_dir=tmp_path / "ours")) as ours:
        monkeypatch.setenv("DAGSTER_EVENT_BATCH_SIZE", batch_size)
        run_id = materialize(ours).run_id
        found = logged(ours, run_id)
        assert len(ours.get_materialized_partitions(counts.key)) == 59
        (record,) = ours.get_asset_records([counts.key])
        assert record.asset_entry.last_run_id == run_id
        newest = record.asset_entry.last_materialization
        assert newest is not None
        assert newest.asset_materialization.partition == "2013-02-28"
    (tmp_path / "theirs").mkdir()
    with dg.DagsterInstance.local_temp(str(tmp_path / "theirs")) as theirs:
        monkeypatch.setenv("DAGSTER_EVENT_BATCH_SIZE", "0")
        run_id = materialize(theirs).run_id
        assert logged(theirs, run_id) == found


def test_a_batch_that_fails_is_stored_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = 0
    store_event = KeptOpenEventLogStorage.store_event

    def failing(self: KeptOpenEventLogStorage, event: dg.EventLogEntry) -> None:
        nonlocal stored
        stored += 1
        if stored == 20:
            raise OSError("disk full")
        store_event(self, event)

    monkeypatch.setenv("DAGSTER_EVENT_BATCH_SIZE", "1000")
    with open_instance(Settings(data_dir=tmp_path)) as instance:
        monkeypatch.setattr(KeptOpenEventLogStorage, "store_event", failing)
        run_id = materialize(instance).run_id
        partitions = [p for kind, p in logged(instance, run_id) if kind == "ASSET_MATERIALIZATION"]

    assert len(partitions) == len(set(partitions)) == 59
