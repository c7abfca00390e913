"""Our short way to the specs of a dbt project gives what dagster-dbt's own way gives."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from dagster_dbt import DbtProject
from dagster_dbt.asset_utils import build_dbt_specs

from scale_assets.components.dbt_runs import prepare_manifest
from scale_assets.components.dbt_specs import ALL, asset_specs, selected_ids, with_tests
from scale_assets.components.dbt_translator import WarehouseTranslator
from scale_assets.settings import load_settings
from tests.dbt_project.conftest import shared_home

PROJECT_DIR = Path(__file__).resolve().parents[2]
TRANSLATOR = WarehouseTranslator(groups={"marts": "warehouse_marts"}, owners=["team:data"])


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> DbtProject:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCALE_DATA_DIR", str(shared_home(tmp_path_factory)))
        return prepare_manifest(load_settings(), PROJECT_DIR / "dbt_project")


@pytest.fixture(scope="module")
def manifest(project: DbtProject) -> Mapping[str, Any]:
    read: Mapping[str, Any] = json.loads(project.manifest_path.read_bytes())
    return read


def daily_ids(manifest: Mapping[str, Any]) -> set[str]:
    daily = {name for name, node in manifest["nodes"].items() if "daily" in node["tags"]}
    return with_tests(daily, manifest=manifest)


@pytest.mark.parametrize("is_daily", [True, False])
def test_specs_and_checks_are_those_of_dagster_dbt(
    project: DbtProject, manifest: Mapping[str, Any], is_daily: bool
) -> None:
    everything = selected_ids(ALL, manifest=manifest, project=project)
    daily = everything & daily_ids(manifest)
    ids = daily if is_daily else everything - daily

    specs, checks = asset_specs(
        ids, manifest=manifest, project=project, translator=TRANSLATOR, columns={}
    )

    theirs, their_checks = build_dbt_specs(
        translator=TRANSLATOR,
        manifest=manifest,
        select="tag:daily" if is_daily else ALL,
        exclude="" if is_daily else "tag:daily",
        selector="",
        io_manager_key=None,
        project=project,
    )
    assert specs
    assert checks
    assert sorted(specs, key=lambda spec: spec.key) == sorted(theirs, key=lambda spec: spec.key)
    assert {check.key: check for check in checks} == {check.key: check for check in their_checks}


def test_a_selection_is_dbts_own(project: DbtProject, manifest: Mapping[str, Any]) -> None:
    chosen = selected_ids("withdrawal_labels", manifest=manifest, project=project)

    models = {name for name in chosen if name.startswith("model.")}
    assert models == {"model.scale_warehouse.withdrawal_labels"}
    assert any(name.startswith("test.") for name in chosen)
