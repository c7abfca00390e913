"""The warehouse under Dagster: partitions, checks, lineage, and what reaches the lake."""

import os
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from datetime import date, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from scale_assets.components.dbt_runs import (
    DbtParseFailed,
    dbt_executable,
    open_project,
    prepare_manifest,
)
from scale_assets.components.warehouse_models import CalendarMissing, WarehouseModels
from scale_assets.lake import Lake
from scale_assets.lake.source_views import connect
from scale_assets.resources import resources
from scale_assets.settings import Settings, load_settings
from tests.dbt_project.conftest import shared_home
from tests.dbt_project.tiny_lake import write_lake

PROJECT_DIR = Path(__file__).resolve().parents[2]
MARTS = {
    "next_site_labels",
    "presentation_sites",
    "registration_activity",
    "registration_assessments",
    "registration_facts",
    "registration_history",
    "registration_profile",
    "site_popularity",
    "withdrawal_labels",
}


def dates(first: str, last: str) -> dict[str, str]:
    return {
        "dagster/asset_partition_range_start": first,
        "dagster/asset_partition_range_end": last,
    }


RANGE = dates("2013-01-01", "2013-03-31")


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Settings of the data folder in which tests run dbt, with PATH bare of any dbt."""
    patch = pytest.MonkeyPatch()
    for name in [name for name in os.environ if name.startswith("SCALE_")]:
        patch.delenv(name)
    patch.setenv("SCALE_DATA_DIR", str(shared_home(tmp_path_factory)))
    patch.setenv("PATH", "/usr/bin:/bin")
    loaded = load_settings()
    loaded.warehouse_path.unlink(missing_ok=True)
    write_lake(loaded.lake_dir)
    yield loaded
    patch.undo()


def component(**attributes: Any) -> WarehouseModels:
    declared = {"project": "dbt_project", "calendar": {"start": "2013-01-01"}} | attributes
    return WarehouseModels.model_validate(declared)


def build(warehouse: WarehouseModels) -> dg.Definitions:
    context: Any = SimpleNamespace(project_root=PROJECT_DIR)
    return warehouse.build_defs(context)


@pytest.fixture(scope="module")
def assets(settings: Settings) -> dict[bool, dg.AssetsDefinition]:
    """The daily op (True) and the other one."""
    defs = build(component(owners=["team:data"], groups={"marts": "warehouse_marts"}))
    found = [asset for asset in defs.assets or [] if isinstance(asset, dg.AssetsDefinition)]
    return {asset.partitions_def is not None: asset for asset in found}


def run(
    assets: dict[bool, dg.AssetsDefinition],
    settings: Settings,
    *,
    is_daily: bool,
    tags: dict[str, str] = RANGE,
    **options: Any,
) -> dg.ExecuteInProcessResult:
    with dg.DagsterInstance.ephemeral() as instance:
        return dg.materialize(
            [assets[is_daily]],
            resources={name: resources(settings)[name] for name in ("lake", "settings")},
            instance=instance,
            tags=tags if is_daily else {},
            **options,
        )


@pytest.fixture(scope="module")
def first(
    assets: dict[bool, dg.AssetsDefinition], settings: Settings
) -> dict[bool, dg.ExecuteInProcessResult]:
    return {is_daily: run(assets, settings, is_daily=is_daily) for is_daily in (True, False)}


def materializations(result: dg.ExecuteInProcessResult) -> dict[str, dict[str, Any]]:
    return {
        event.asset_key.to_user_string(): dict(event.materialization.metadata)
        for event in result.get_asset_materialization_events()
        if event.asset_key is not None
    }


def test_only_daily_models_are_partitioned(assets: dict[bool, dg.AssetsDefinition]) -> None:
    assert assets[True].keys == {dg.AssetKey("daily_activity")}
    assert {key.to_user_string() for key in assets[False].keys} > MARTS


def test_sources_are_the_lake_tables(assets: dict[bool, dg.AssetsDefinition]) -> None:
    deps = {spec.key.to_user_string(): spec for spec in assets[False].specs}
    assert [dep.asset_key for dep in deps["stg_submissions"].deps] == [
        dg.AssetKey(["raw", "submissions"])
    ]
    assert deps["withdrawal_labels"].group_name == "warehouse_marts"
    assert deps["withdrawal_labels"].owners == ["team:data"]


def test_dbt_tests_are_blocking_checks(
    first: dict[bool, dg.ExecuteInProcessResult], assets: dict[bool, dg.AssetsDefinition]
) -> None:
    evaluations = first[False].get_asset_check_evaluations()
    assert len(evaluations) > 15
    assert all(evaluation.passed for evaluation in evaluations)
    grain = [
        spec
        for spec in assets[False].check_specs
        if spec.asset_key == dg.AssetKey("withdrawal_labels") and "one_row_per" in spec.name
    ]
    assert [spec.blocking for spec in grain] == [True]


def test_column_lineage_is_really_there(first: dict[bool, dg.ExecuteInProcessResult]) -> None:
    """In what a run says of each model, as in its definition."""
    found = materializations(first[False])
    for name, metadata in found.items():
        assert "dagster/column_schema" in metadata, name
        assert "dagster/column_lineage" in metadata, name
    lineage = found["registration_activity"]["dagster/column_lineage"].value.deps_by_column
    clicks_7d = {(dep.asset_key.to_user_string(), dep.column_name) for dep in lineage["clicks_7d"]}
    assert ("int_activity_changes", "clicks_7d") in clicks_7d


def test_marts_are_in_the_lake(
    first: dict[bool, dg.ExecuteInProcessResult], settings: Settings
) -> None:
    lake = Lake(settings.lake_dir)
    found = materializations(first[False]) | materializations(first[True])
    for mart in [*MARTS, "daily_activity"]:
        assert found[mart]["dagster/row_count"].value == lake.num_rows(mart) > 0, mart
    assert lake.open("daily_activity").metadata().partition_columns == ["event_date"]


def test_a_daily_run_touches_its_dates_only(
    first: dict[bool, dg.ExecuteInProcessResult], settings: Settings
) -> None:
    days = Lake(settings.lake_dir).read("daily_activity", columns=["event_date"])["event_date"]
    assert str(max(days.to_pylist())) == "2013-03-31"


def test_only_the_last_date_of_a_run_carries_the_heavy_metadata(
    first: dict[bool, dg.ExecuteInProcessResult], settings: Settings
) -> None:
    """A run can span hundreds of dates, and each of them logs an event."""
    events = [each.materialization for each in first[True].get_asset_materialization_events()]
    assert len(events) == 90
    by_date = {each.partition: dict(each.metadata) for each in events}
    lineage = by_date["2013-03-31"].pop("dagster/column_lineage").value.deps_by_column
    assert by_date.pop("2013-03-31").keys() > {"dagster/column_schema", "delta_version"}
    clicks = {(dep.asset_key.to_user_string(), dep.column_name) for dep in lineage["num_clicks"]}
    assert ("interaction_counts", "num_clicks") in clicks

    assert {name for metadata in by_date.values() for name in metadata} == {
        "dagster/partition_row_count"
    }
    days = Lake(settings.lake_dir).read("daily_activity", columns=["event_date"])["event_date"]
    found = Counter(str(day) for day in days.to_pylist())
    for day, metadata in by_date.items():
        assert metadata["dagster/partition_row_count"].value == found[day or ""], day


def test_a_date_that_became_empty_is_emptied(
    first: dict[bool, dg.ExecuteInProcessResult],
    assets: dict[bool, dg.AssetsDefinition],
    settings: Settings,
) -> None:
    lake = Lake(settings.lake_dir)
    before = lake.read("daily_activity").to_pylist()
    emptied = max(row["event_date"] for row in before if row["event_date"] < date(2013, 3, 31))
    for table, column in [("interaction_counts", "event_date"), ("sessions", "session_date")]:
        rows = lake.read(table)
        kept = rows.filter(pc.not_equal(rows[column], pa.scalar(emptied)))
        lake.overwrite(table, kept, partition_by=[column])

    result = run(
        assets,
        settings,
        is_daily=True,
        tags=dates(str(emptied - timedelta(days=1)), str(emptied)),
    )

    assert len(result.get_asset_materialization_events()) == 2
    expected = [row for row in before if row["event_date"] != emptied]
    assert (
        in_order(lake.read("daily_activity").to_pylist()) == in_order(expected) != in_order(before)
    )
    with closing(connect(settings.warehouse_path, read_only=True)) as warehouse:
        found = warehouse.sql("select count(*), max(event_date) from daily_activity").fetchall()
    assert found == [(len(expected), max(row["event_date"] for row in expected))]
    write_lake(settings.lake_dir)


def in_order(rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return sorted(tuple(row.values()) for row in rows)


@pytest.fixture(scope="module")
def second(
    first: dict[bool, dg.ExecuteInProcessResult],
    assets: dict[bool, dg.AssetsDefinition],
    settings: Settings,
) -> tuple[dict[str, int], dg.ExecuteInProcessResult]:
    """Versions before, and the result of, a run whose one news is that registrations repeat."""
    lake = Lake(settings.lake_dir)
    before = {mart: lake.version(mart) for mart in MARTS}
    registrations = lake.read("registrations")
    lake.overwrite("registrations", pa.concat_tables([registrations, registrations]))
    result = run(assets, settings, is_daily=False, raise_on_error=False)
    lake.overwrite("registrations", registrations)
    return before, result


def test_running_again_makes_no_new_version(
    second: tuple[dict[str, int], dg.ExecuteInProcessResult], settings: Settings
) -> None:
    before, result = second
    lake = Lake(settings.lake_dir)
    assert {mart: lake.version(mart) for mart in MARTS} == before
    events = {
        each.asset_key.to_user_string(): each.materialization
        for each in result.get_asset_materialization_events()
        if each.asset_key is not None
    }
    for mart in MARTS - {"registration_facts"}:
        assert events[mart].metadata["is_new_version"].value is False, mart
        assert (events[mart].tags or {})["dagster/data_version"] == str(before[mart]), mart


def test_a_failed_test_keeps_the_mart_out_of_the_lake(
    second: tuple[dict[str, int], dg.ExecuteInProcessResult], settings: Settings
) -> None:
    before, result = second
    assert not result.success
    failed = [each for each in result.get_asset_check_evaluations() if not each.passed]
    assert [each.check_name for each in failed] == [
        "one_row_per_registration_facts_registration_id"
    ]
    assert "registration_facts" not in materializations(result)
    assert Lake(settings.lake_dir).version("registration_facts") == before["registration_facts"]


def test_a_run_says_the_lineage_that_the_definitions_say(
    first: dict[bool, dg.ExecuteInProcessResult], assets: dict[bool, dg.AssetsDefinition]
) -> None:
    declared = {spec.key.to_user_string(): spec.metadata for spec in assets[False].specs}
    for name, metadata in materializations(first[False]).items():
        lineage = metadata["dagster/column_lineage"].value
        columns = [column.name for column in metadata["dagster/column_schema"].value.columns]
        assert lineage == declared[name]["dagster/column_lineage"], name
        assert set(lineage.deps_by_column) == set(columns), name  # SQL and warehouse agree


def test_daily_models_need_a_calendar(settings: Settings) -> None:
    with pytest.raises(CalendarMissing, match="calendar"):
        build(component(calendar=None))


def test_only_a_changed_project_is_parsed_again(
    assets: dict[bool, dg.AssetsDefinition], settings: Settings
) -> None:
    project = PROJECT_DIR / "dbt_project"
    manifest = open_project(project, target_dir=settings.dbt_target_dir).manifest_path
    prepared = manifest.stat().st_mtime_ns
    assert prepare_manifest(settings, project).manifest_path == manifest
    assert manifest.stat().st_mtime_ns == prepared

    os.utime(manifest, (0, 0))
    prepare_manifest(settings, project)
    assert manifest.stat().st_mtime_ns > prepared


def test_a_project_that_does_not_parse_says_which_file(settings: Settings, tmp_path: Path) -> None:
    project = tmp_path / "dbt_project"
    shutil.copytree(PROJECT_DIR / "dbt_project", project)
    (project / "models" / "broken.sql").write_text("select * from {{ ref('nowhere') }}")
    changed = settings.model_copy(update={"data_dir": tmp_path / "data"})

    with pytest.raises(DbtParseFailed, match="broken"):
        prepare_manifest(changed, project)


def test_dbt_is_found_beside_python(settings: Settings) -> None:
    assert Path(dbt_executable()).is_file()
