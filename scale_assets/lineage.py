"""`scale lineage`: where a column comes from, and what a change of one reaches."""

import json
from collections import defaultdict, deque
from collections.abc import Iterator
from typing import Any

import dagster as dg
from rich.markup import escape
from rich.tree import Tree

from scale_assets.components.column_graph import Column, ColumnGraph, column_graph
from scale_assets.components.columns import all_specs
from scale_assets.console import Console
from scale_assets.instance import open_instance
from scale_assets.settings import Settings, project_dir

ROWS = "*"  # not one column but which rows there are


def print_lineage(
    settings: Settings, console: Console, name: str, *, impact: bool, as_json: bool
) -> None:
    """Print what a column is made from or, with ``impact``, everything made from it.

    Raises:
        UnknownColumn: No declared column has the name.
    """
    from scale_assets.definitions import defs

    graph = column_graph(all_specs(defs()), root=project_dir())
    show(console, graph, graph.find(name), settings, impact=impact, as_json=as_json)


def show(
    console: Console,
    graph: ColumnGraph,
    column: Column,
    settings: Settings,
    *,
    impact: bool,
    as_json: bool,
) -> None:
    """Print a column of the graph; versions are those that the runs of these settings recorded."""
    versions = _versions(settings, graph)
    if impact:
        reached = reached_by(graph, column)
        if as_json:
            console.rich.print_json(json.dumps(_impact_json(graph, column, reached)))
        else:
            _print_impact(console, graph, column, reached)
    elif as_json:
        console.rich.print_json(json.dumps(_json(graph, column, versions, set())))
    else:
        route = graph.routes.get(column.asset)
        tree = Tree(escape(route)) if route else None
        branch = _tree(graph, column, versions, set(), tree)
        if not console.rich.is_terminal:
            console.rich.width = 1000  # a line stays one line, for whatever reads it
        console.rich.print(tree or branch)


def _versions(settings: Settings, graph: ColumnGraph) -> dict[str, str]:
    """The version of each model and release, as the latest run recorded it."""
    models = [asset for asset, kind in graph.kinds.items() if kind in {"model", "release"}]
    found = dict.fromkeys(models, "not made yet")
    if not settings.dagster_home.is_dir():
        return found
    with open_instance(settings) as instance:
        for asset in models:
            event = instance.get_latest_materialization_event(dg.AssetKey.from_user_string(asset))
            made = event.asset_materialization if event else None
            if made is not None and "version" in made.metadata:
                said = [made.metadata[key].value for key in ("version", "candidate")]
                found[asset] = "version {}, {}".format(*said)
    return found


def _label(graph: ColumnGraph, column: Column, versions: dict[str, str]) -> str:
    kind = ", ".join(
        part for part in (graph.kinds.get(column.asset, ""), versions.get(column.asset)) if part
    )
    file = graph.files.get(column.asset, "")
    said = [f"[bold]{escape(str(column))}[/bold]", escape(kind), f"[dim]{escape(file)}[/dim]"]
    return "  ".join(said if file else said[:2])  # a service is declared in no asset's file


def _tree(
    graph: ColumnGraph,
    column: Column,
    versions: dict[str, str],
    seen: set[Column],
    parent: Tree | None = None,
) -> Tree:
    """The column with all that it is made from below it; a column's own part is printed once."""
    made_from = graph.made_from[column]
    again = column in seen and made_from
    label = _label(graph, column, versions) + ("  (above)" if again else "")
    branch = Tree(label) if parent is None else parent.add(label)
    if again:
        return branch
    seen.add(column)
    if column.asset in graph.unknown:
        branch.add(f"lineage unknown: {escape(graph.unknown[column.asset])}")
    for dep in made_from:
        _tree(graph, dep, versions, seen, branch)
    return branch


def _json(
    graph: ColumnGraph, column: Column, versions: dict[str, str], seen: set[Column]
) -> dict[str, Any]:
    described = {
        "asset": column.asset,
        "column": column.name,
        "kind": graph.kinds.get(column.asset),
        "file": graph.files.get(column.asset),
        "version": versions.get(column.asset),
        "route": graph.routes.get(column.asset),
        "unknown": graph.unknown.get(column.asset),
    }
    found: dict[str, Any] = {key: value for key, value in described.items() if value is not None}
    if column in seen:
        return {**found, "above": True}
    seen.add(column)
    below = [_json(graph, dep, versions, seen) for dep in graph.made_from[column]]
    return {**found, "made_from": below}


def reached_by(graph: ColumnGraph, column: Column) -> dict[str, list[str]]:
    """Assets that a change reaches, in order, each with its columns: ROWS where it joins or filters.

    What has other rows changes everything that reads them.
    """
    reached: dict[str, list[str]] = defaultdict(list)
    ahead = deque([column])
    while ahead:
        each = ahead.popleft()
        users = [*graph.used_by.get(each, ()), *_with_other_rows(graph, each)]
        for user in users:
            if user.name not in reached[user.asset]:
                reached[user.asset].append(user.name)
                ahead.append(user)
    return {asset: sorted(reached[asset]) for asset in graph.in_order(reached)}


def _with_other_rows(graph: ColumnGraph, column: Column) -> Iterator[Column]:
    for asset in graph.readers.get(column, ()):
        yield Column(asset, ROWS)
    if column.name == ROWS:
        for asset in sorted(graph.assets_below.get(column.asset, ())):
            yield Column(asset, ROWS)


def _print_impact(
    console: Console, graph: ColumnGraph, column: Column, reached: dict[str, list[str]]
) -> None:
    say = console.rich.print
    say(f"A change of [bold]{escape(str(column))}[/bold] reaches {len(reached)} assets:")
    for asset, names in reached.items():
        kind, file = graph.kinds.get(asset, ""), graph.files.get(asset, "")
        say(f"[bold]{escape(asset)}[/bold]  {escape(kind)}  [dim]{escape(file)}[/dim]".rstrip())
        columns = [name for name in names if name != ROWS]
        say(f"    {escape(', '.join(columns)) or 'which rows it has'}")
    for asset in reached:
        if asset in graph.routes:
            say(f"served at [bold]{escape(graph.routes[asset])}[/bold]")


def _impact_json(
    graph: ColumnGraph, column: Column, reached: dict[str, list[str]]
) -> dict[str, Any]:
    return {
        "column": str(column),
        "reaches": [
            {
                "asset": asset,
                "kind": graph.kinds.get(asset),
                "file": graph.files.get(asset),
                "columns": [name for name in names if name != ROWS],
                "rows": ROWS in names,
            }
            for asset, names in reached.items()
        ],
        "routes": [graph.routes[asset] for asset in reached if asset in graph.routes],
    }
