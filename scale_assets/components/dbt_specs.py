"""Which of a manifest's models become assets, and which of its tests their checks."""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any

import dagster as dg
from dagster_dbt import DagsterDbtTranslator, DbtProject

ALL = "fqn:*"
TABLE_TYPES = ("model", "seed", "snapshot")


def selected_ids(
    select: str, *, manifest: Mapping[str, Any], project: DbtProject
) -> AbstractSet[str]:
    """Unique ids that the dbt selection names.

    dbt's selection engine takes longer to import than all definitions to load, so that only a
    selection which needs it pays for it.
    """
    if select == ALL:
        return set(manifest["nodes"])
    from dagster_dbt.utils import select_unique_ids

    selected: AbstractSet[str] = select_unique_ids(
        select=select, exclude="", selector="", project=project, manifest_json=manifest
    )
    return selected


def asset_specs(
    ids: AbstractSet[str],
    *,
    manifest: Mapping[str, Any],
    project: DbtProject,
    translator: DagsterDbtTranslator,
    columns: Mapping[str, Mapping[str, Any]],
) -> tuple[list[dg.AssetSpec], list[dg.AssetCheckSpec]]:
    """Specs of the models among ``ids``, and of the tests among them, as the translator says.

    ``columns`` is what their metadata says of their columns, by unique id.
    """
    specs: list[dg.AssetSpec] = []
    checks: dict[dg.AssetCheckKey, dg.AssetCheckSpec] = {}
    for unique_id in sorted(ids):
        if not is_table(manifest["nodes"][unique_id]):
            continue
        spec = translator.get_asset_spec(manifest, unique_id, project)
        specs.append(spec.merge_attributes(metadata=columns.get(unique_id, {})))
        for child in manifest["child_map"][unique_id]:
            if child not in ids or manifest["nodes"][child]["resource_type"] != "test":
                continue
            check = translator.get_asset_check_spec(spec, manifest, child, project)
            if check is not None:
                checks[check.key] = check
    return specs, list(checks.values())


def is_table(node: Mapping[str, Any]) -> bool:
    return (
        node["resource_type"] in TABLE_TYPES and node["config"].get("materialized") != "ephemeral"
    )


def with_tests(models: AbstractSet[str], *, manifest: Mapping[str, Any]) -> set[str]:
    """The models and every test that reads any of them, as dbt selects them together."""
    nodes = manifest["nodes"]
    tests = {
        child
        for model in models
        for child in manifest["child_map"][model]
        if child in nodes and nodes[child]["resource_type"] == "test"
    }
    return tests.union(models)
