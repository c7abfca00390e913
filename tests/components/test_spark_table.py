"""A declared table runs over any range of dates, checks its grain and says what it made."""

from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from scale_assets.components.spark_table import SparkTable
from scale_assets.lake import Lake
from scale_assets.resources import LakeResource, SparkResource
from scale_assets.transforms.tables import TransformError
from tests.transforms.clickstream import event, put_events

KEY = dg.AssetKey("visits")
DECLARED: dict[str, Any] = {
    "table": "visits",
    "function": "scale_assets.transforms.sessions.sessions",
    "inputs": {"events": "raw/clicks"},
    "params": {"keys": ["user"], "count": "num_events", "sums": {"num_clicks": "num_clicks"}},
    "grain": "One row per session.",
    "key": ["session_id"],
    "partition_by": "session_date",
    "calendar": {"start": "2015-09-01", "end": "2015-09-30"},
    "owners": ["team:data"],
}


def declared(**changed: Any) -> dg.Definitions:
    table = SparkTable.resolve_from_dict({**DECLARED, **changed})
    return table.build_defs(dg.ComponentTree.for_test().load_context)


def run(
    folder: Path, definitions: dg.Definitions, first: str, last: str, *, raise_on_error: bool = True
) -> dg.ExecuteInProcessResult:
    spark = SparkResource(master="local[2]", driver_memory="1g", scratch_dir=str(folder / "spark"))
    bound = dg.Definitions.merge(
        definitions,
        dg.Definitions(resources={"lake": LakeResource(root=str(folder)), "spark": spark}),
    )
    with dg.DagsterInstance.ephemeral() as instance:
        return bound.resolve_implicit_global_asset_job_def().execute_in_process(
            instance=instance,
            raise_on_error=raise_on_error,
            tags={
                "dagster/asset_partition_range_start": first,
                "dagster/asset_partition_range_end": last,
            },
        )


def test_a_run_over_a_range_publishes_once_and_describes_each_date(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    put_events(lake, [event("ada", -10), event("ada", 5), event("bob", 24 * 60)])

    result = run(tmp_path, declared(), "2015-09-10", "2015-09-11")

    assert lake.version("visits") == 1  # created, then one commit
    counts = {
        event.partition: event.metadata["dagster/partition_row_count"].value
        for event in result.asset_materializations_for_node("visits")
    }
    assert counts == {"2015-09-10": 0, "2015-09-11": 1, "2015-09-09": 1}  # the 9th reaches the 10th
    described = result.asset_materializations_for_node("visits")[-1].metadata
    assert described["num_rows"].value == 2
    assert described["delta_version"].value == 1
    columns = [column.name for column in described["dagster/column_schema"].value.columns]
    assert columns == lake.schema("visits").names
    (check,) = result.get_asset_check_evaluations()
    assert (check.check_name, check.passed) == ("grain_is_unique", True)


def test_a_repeated_key_fails_the_check_and_the_run(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    put_events(lake, [event("ada", 5), event("ada", 300)])

    result = run(tmp_path, declared(key=["user"]), "2015-09-10", "2015-09-10", raise_on_error=False)

    assert not result.success
    (check,) = result.get_asset_check_evaluations()
    assert not check.passed
    assert not lake.exists("visits")


def test_the_declaration_becomes_a_described_daily_asset() -> None:
    (assets,) = declared(group="transforms").assets or []
    (spec,) = assets.specs

    assert spec.key == KEY
    assert spec.kinds == {"spark", "deltalake"}
    assert spec.owners == ["team:data"]
    assert [dep.asset_key for dep in spec.deps] == [dg.AssetKey(["raw", "clicks"])]
    calendar = spec.partitions_def
    assert isinstance(calendar, dg.DailyPartitionsDefinition)
    assert calendar.get_last_partition_key() == date(2015, 9, 30).isoformat()
    lineage = spec.metadata["dagster/column_lineage"].deps_by_column
    assert {dep.column_name for dep in lineage["session_id"]} == {"user", "event_time"}
    assert spec.automation_condition is not None


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        pytest.param({"function": "nowhere.at.all"}, "'nowhere.at.all' cannot be", id="function"),
        pytest.param({"params": {"keyz": ["user"]}}, "does not take", id="parameter"),
        pytest.param({"inputs": {"clicks": "raw/clicks"}}, "does not take", id="input"),
    ],
)
def test_a_wrong_declaration_fails_when_it_loads(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(TransformError, match=message):
        declared(**changed)
