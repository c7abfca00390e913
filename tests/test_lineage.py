"""`scale lineage` on the reference pipeline: the whole way of a column, and nothing left out."""

import io
import json
import os
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from rich.console import Console as RichConsole

from scale_assets.components.column_graph import (
    Column,
    ColumnGraph,
    UnknownColumn,
    column_graph,
)
from scale_assets.components.columns import (
    UNKNOWN_LINEAGE,
    all_specs,
    deps_by_column,
    schema_columns,
)
from scale_assets.console import Console
from scale_assets.instance import open_instance
from scale_assets.lineage import ROWS, reached_by, show
from scale_assets.settings import Settings, load_settings

ROOT = Path(__file__).resolve().parent.parent
CHAIN = [
    "release/withdrawal.clicks_7d",
    "models/withdrawal.clicks_7d",
    "training/withdrawal/dataset.clicks_7d",
    "withdrawal_v1.registration_activity:clicks_7d",
    "registration_activity.clicks_7d",
    "int_activity_changes.clicks_7d",
    "int_activity_days.clicks",
    "int_site_visits.num_clicks",
    "stg_interactions.num_clicks",
    "interaction_counts.num_clicks",
    "raw/clicks.num_clicks",
    "ingest/clicks.num_clicks",
]
pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore"),  # Dagster's own, while it loads YAML
]


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Of a data folder in which nothing ever ran, seen from the repository's root."""
    before = dict(os.environ)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        for name in before:
            if name.startswith("SCALE_"):
                patch.delenv(name)
        patch.setenv("SCALE_DATA_DIR", str(tmp_path_factory.mktemp("data")))
        yield load_settings()
    os.environ.clear()  # loading exports the settings to libraries
    os.environ.update(before)


@pytest.fixture(scope="module")
def specs(settings: Settings) -> list[dg.AssetSpec]:
    from scale_assets.definitions import defs

    return list(all_specs(defs()))


@pytest.fixture(scope="module")
def graph(specs: list[dg.AssetSpec]) -> ColumnGraph:
    return column_graph(specs, root=ROOT)


def named(text: str) -> Column:
    return Column(*text.rsplit(".", 1))


def test_the_whole_way_from_the_event_to_the_served_input(graph: ColumnGraph) -> None:
    for made, dep in pairwise(CHAIN):
        assert named(dep) in graph.made_from[named(made)], made
    assert graph.routes["release/withdrawal"] == "POST /v1/predict/withdrawal"


def test_a_served_input_comes_from_the_online_value_too(graph: ColumnGraph) -> None:
    service = named("withdrawal_v1.registration_activity:clicks_7d")

    assert service in graph.made_from[named("release/withdrawal.clicks_7d")]
    assert named("online/registration_activity.clicks_7d") in graph.made_from[service]


def test_no_asset_with_columns_lacks_lineage_in_silence(specs: list[dg.AssetSpec]) -> None:
    """Each column of every schema is in the lineage, and no model's SQL was too much to read."""
    silent = {}
    for spec in specs:
        lineage = deps_by_column(spec.metadata) or {}
        missing = set(schema_columns(spec.metadata) or ()) - lineage.keys()
        is_table = {"dbt", "deltalake"} & spec.kinds
        if missing or UNKNOWN_LINEAGE in spec.metadata or (is_table and not lineage):
            silent[spec.key.to_user_string()] = missing

    assert silent.keys() <= {"ingest/clicks", "ingest/submissions"}  # they write raw/*
    assert sum(deps_by_column(spec.metadata) is not None for spec in specs) > 50


def test_only_the_first_tables_have_columns_made_from_nothing(graph: ColumnGraph) -> None:
    """Elsewhere each says what it is made from, or counts rows, as dbt's SQL may too."""
    beginnings = {
        str(column)
        for column, deps in graph.made_from.items()
        if not deps
        and not column.asset.startswith(("raw/", "ingest/"))
        and "dbt" not in graph.kinds[column.asset]
    }

    assert beginnings == {
        "interaction_counts.num_events",
        "registrations_history._segment",
        "sessions.num_events",
        "students_history._segment",
    }


def test_a_change_reaches_what_is_made_from_it_in_order(graph: ColumnGraph) -> None:
    reached = reached_by(graph, named("raw/clicks.student_id"))

    assert "registration_id" in reached["stg_interactions"]
    assert reached["training/next_site/dataset"] == [ROWS]  # joins events to entities by it
    assert {"release/withdrawal", "release/next_site"} <= reached.keys()
    order = list(reached)
    for earlier, later in [
        ("interaction_counts", "stg_interactions"),
        ("registration_activity", "online/registration_activity"),
        ("withdrawal_v1", "release/withdrawal"),
    ]:
        assert order.index(earlier) < order.index(later)


def test_a_change_reaches_nothing_beside_it(graph: ColumnGraph) -> None:
    assert reached_by(graph, named("registration_facts.gender")) == {}
    assert "online/registration_activity" not in reached_by(graph, named("raw/submissions.score"))


def shown(
    graph: ColumnGraph,
    settings: Settings,
    name: str,
    *,
    impact: bool = False,
    as_json: bool = False,
) -> str:
    text = io.StringIO()
    console = Console(RichConsole(file=text, soft_wrap=True, width=80))
    show(console, graph, graph.find(name), settings, impact=impact, as_json=as_json)
    return text.getvalue()


def test_it_prints_every_step_with_its_file_on_one_line(
    graph: ColumnGraph, settings: Settings
) -> None:
    text = shown(graph, settings, "withdrawal.clicks_7d")

    lines = [line.strip("│├└─ \u00a0") for line in text.splitlines()]
    assert lines[0] == "POST /v1/predict/withdrawal"
    for step in CHAIN:
        assert any(line.startswith(f"{step} ") for line in lines), step
    assert "dbt_project/models/intermediate/int_activity_days.sql" in text
    assert "contracts/clicks.odcs.yaml" in text
    assert "not made yet" in text  # no model has been trained in this data folder


def test_it_prints_json(graph: ColumnGraph, settings: Settings) -> None:
    found = json.loads(shown(graph, settings, "withdrawal.clicks_7d", as_json=True))

    def steps(node: dict[str, Any]) -> Iterator[str]:
        yield f"{node['asset']}.{node['column']}"
        for below in node.get("made_from", ()):
            yield from steps(below)

    assert found["route"] == "POST /v1/predict/withdrawal"
    assert set(CHAIN) <= set(steps(found))


def test_it_prints_what_a_change_reaches(graph: ColumnGraph, settings: Settings) -> None:
    name = "raw/clicks.student_id"
    text = shown(graph, settings, name, impact=True)
    found = json.loads(shown(graph, settings, name, impact=True, as_json=True))

    assert "dbt_project/models/staging/stg_interactions.sql" in text
    assert "served at POST /v1/recommend" in text
    assert sorted(found["routes"]) == ["POST /v1/predict/withdrawal", "POST /v1/recommend"]
    first = next(each for each in found["reaches"] if each["asset"] == "stg_interactions")
    assert (first["columns"], first["rows"]) == (["registration_id", "student_id"], False)


def test_the_versions_are_those_that_a_run_recorded(
    graph: ColumnGraph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCALE_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("DAGSTER_HOME", "")  # put back after the test
    settings = load_settings()
    with open_instance(settings) as instance:
        metadata = {"version": "3", "candidate": "boosting"}
        instance.report_runless_asset_event(
            dg.AssetMaterialization(["models", "withdrawal"], metadata=metadata)
        )

    text = shown(graph, settings, "withdrawal.clicks_7d")

    assert "models/withdrawal.clicks_7d  model, version 3, boosting" in text
    assert "release/withdrawal.clicks_7d  release, not made yet" in text


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("raw/clicks.studnt_id", "raw/clicks has no column 'studnt_id'; did you mean student_id"),
        ("withdrawl.clicks_7d", "no asset 'withdrawl' has columns; did you mean withdrawal"),
        ("raw/clicks", "raw/clicks is an asset; name a column of it: raw/clicks"),
        ("xyzzy", "no asset 'xyzzy' has columns"),
    ],
)
def test_a_name_that_nothing_has_is_told_with_those_like_it(
    graph: ColumnGraph, name: str, message: str
) -> None:
    with pytest.raises(UnknownColumn, match=message):
        graph.find(name)


def test_the_routes_are_those_of_the_server(graph: ColumnGraph) -> None:
    text = (ROOT / "serving" / "app.py").read_text()

    for route in graph.routes.values():
        path = route.removeprefix("POST ").replace("withdrawal", "{model}")
        assert f'Route("{path}"' in text
