"""The reference pipeline as a graph: what exists is frozen, described, owned and automated."""

import os
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.assets.graph.asset_graph import AssetGraph

from scale_assets.components.automation import DAILY

ROOT = Path(__file__).resolve().parent.parent
STREAMS = ("clicks", "submissions")
CHANGE_FEEDS = ("registrations", "students")
SNAPSHOTS = ("assessments", "presentations", "sites")
VIEWS = (
    *("presentation_sites", "registration_activity", "registration_assessments"),
    *("registration_history", "registration_profile"),
)
CANDIDATES = {
    "next_site": ("als", "network", "own_decayed", "own_history", "popular_7d", "popular_all"),
    "withdrawal": (
        *("boosting", "logistic", "network"),
        *("mllib_boosting", "mllib_forest", "mllib_logistic"),
    ),
}
GROUPS = {
    "ingest": {
        *(f"ingest/{name}" for name in STREAMS),
        *(f"raw/{name}" for name in (*STREAMS, *SNAPSHOTS)),
        *(f"raw/{name}_quarantine" for name in STREAMS),
        *(f"raw/{name}_changes" for name in CHANGE_FEEDS),
        *CHANGE_FEEDS,
        *(f"{name}_history" for name in CHANGE_FEEDS),
    },
    "transforms": {"interaction_counts", "sessions"},
    "warehouse_marts": {
        *("daily_activity", "registration_facts", "site_popularity"),
        *("withdrawal_labels", "next_site_labels"),
        *VIEWS,
    },
    "features": {
        "feature_registry",
        "online/registration_clicks",
        *(f"online/{view}" for view in VIEWS),
    },
    "monitoring": {
        "monitoring/registrations/registration_clicks",
        *(
            f"monitoring/{view.partition('_')[0]}s/{view}"  # by what a view describes
            for view in VIEWS
        ),
    },
    "training": {"training/next_site/dataset", "training/withdrawal/dataset"},
    "models": {
        *(f"models/{model}" for model in CANDIDATES),
        *(f"models/{model}/evaluation" for model in CANDIDATES),
        *(f"models/{model}/{name}" for model, names in CANDIDATES.items() for name in names),
    },
    "releases": {"release/next_site", "release/withdrawal"},
}
CHECKS = {
    **{f"ingest/{name}": {"every_row_is_accounted_for"} for name in STREAMS},
    **{f"raw/{name}_changes": {"every_change_is_accounted_for"} for name in CHANGE_FEEDS},
    **{f"raw/{name}": {"columns_are_unchanged", "row_count_is_plausible"} for name in SNAPSHOTS},
    "interaction_counts": {"grain_is_unique"},
    "sessions": {"grain_is_unique"},
    "withdrawal_labels": {"one_row_per_withdrawal_labels_registration_id__label_time"},
    **{f"online/{view}": {"is_fresh"} for view in (*VIEWS, "registration_clicks")},
    "monitoring/registrations/registration_activity": {"has_not_drifted"},
    "monitoring/presentations/presentation_sites": {"has_not_drifted"},
    "training/withdrawal/dataset": {"every_label_once", "nothing_from_the_future"},
    "training/next_site/dataset": {"every_event_once", "no_forbidden_columns"},
    "models/withdrawal/evaluation": {"gate", "no_leak", "network_won"},
    "models/next_site/evaluation": {"gate", "no_leak", "network_won"},
    "release/withdrawal": {"answers_a_request"},
    "release/next_site": {"answers_a_request"},
}
AUTOMATED = (
    "transforms",
    "warehouse_staging",
    "warehouse_intermediate",
    "warehouse_marts",
    "features",
    "monitoring",
)


@pytest.fixture(scope="module")
def definitions(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dg.Definitions]:
    """Loaded in the repository's root, with a data folder that nothing ever ran in."""
    from scale_assets.definitions import defs

    before = dict(os.environ)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        for name in before:
            if name.startswith("SCALE_"):
                patch.delenv(name)
        patch.setenv("SCALE_DATA_DIR", str(tmp_path_factory.mktemp("data")))
        yield defs()
    os.environ.clear()  # loading exports the settings to libraries
    os.environ.update(before)


@pytest.fixture(scope="module")
def graph(definitions: dg.Definitions) -> AssetGraph:
    return definitions.resolve_asset_graph()


def test_every_daily_asset_is_tagged_as_one(graph: AssetGraph) -> None:
    """Else what has no dates would wait for the last date of the calendar."""
    nodes = [graph.get(key) for key in graph.get_all_asset_keys()]
    daily = {node.key for node in nodes if node.partitions_def is not None}
    assert daily == {node.key for node in nodes if DAILY.items() <= node.tags.items()}
    assert dg.AssetKey(["raw", "clicks"]) in daily


def keys_of(graph: AssetGraph, group: str) -> set[str]:
    keys = graph.get_all_asset_keys()
    return {key.to_user_string() for key in keys if graph.get(key).group_name == group}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("group", sorted(GROUPS))
def test_a_stage_has_its_assets(graph: AssetGraph, group: str) -> None:
    assert keys_of(graph, group) == GROUPS[group]


def test_nothing_lies_outside_the_stages(graph: AssetGraph) -> None:
    groups = {graph.get(key).group_name for key in graph.get_all_asset_keys()}

    assert groups == {*GROUPS, "warehouse_staging", "warehouse_intermediate"}


def test_what_can_be_run_says_what_it_is_and_whose(graph: AssetGraph) -> None:
    wanting = [
        key.to_user_string()
        for key in graph.materializable_asset_keys
        if not (graph.get(key).description and graph.get(key).owners and graph.get(key).kinds)
    ]

    assert wanting == []


@pytest.mark.parametrize("asset", sorted(CHECKS))
def test_an_asset_has_its_checks(graph: AssetGraph, asset: str) -> None:
    key = dg.AssetKey(asset.split("/"))
    names = {check.name for check in graph.asset_check_keys if check.asset_key == key}

    assert names >= CHECKS[asset]


@pytest.mark.parametrize("group", AUTOMATED)
def test_tables_downstream_run_by_themselves(graph: AssetGraph, group: str) -> None:
    assert keys_of(graph, group)
    idle = [
        key
        for key in keys_of(graph, group)
        if graph.get(dg.AssetKey(key.split("/"))).automation_condition is None
    ]

    assert idle == []


def test_every_feed_has_a_sensor_and_every_model_a_schedule(definitions: dg.Definitions) -> None:
    repository = definitions.get_repository_def()

    feeds = (*STREAMS, *CHANGE_FEEDS, *SNAPSHOTS)
    arrivals = {sensor.name for sensor in repository.sensor_defs if "arrival" in sensor.name}
    assert arrivals == {f"{feed}_arrival" for feed in feeds}
    assert {schedule.name for schedule in repository.schedule_defs} >= {
        f"{stage}_{model}" for stage in ("train", "release") for model in CANDIDATES
    }


def test_the_ui_gets_the_same_assets_with_the_vocabulary_beside_them(
    definitions: dg.Definitions, monkeypatch: pytest.MonkeyPatch
) -> None:
    from scale_assets.definitions import _declared

    monkeypatch.chdir(ROOT)
    described = _declared(is_described=True)

    types = str(described.metadata["plugin_component_types_json"].value)
    assert "EventStream" in types
    keys = {key for asset in described.assets or [] for key in asset_keys(asset)}
    assert keys == definitions.resolve_asset_graph().get_all_asset_keys()


def asset_keys(asset: object) -> set[dg.AssetKey]:
    if isinstance(asset, dg.AssetsDefinition):
        return set(asset.keys)
    return {asset.key} if isinstance(asset, dg.AssetSpec) else set()
