"""Every declared column and what it is made from, as one graph: from event field to served input."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any, NamedTuple

import dagster as dg

from scale_assets.components.columns import (
    FEATURE_SERVICE,
    PASSES_ON,
    READS,
    ROUTE,
    UNKNOWN_LINEAGE,
    column_uses,
    declared_in,
    deps_by_column,
    schema_columns,
)
from scale_assets.components.feed_assets import FEED
from scale_assets.errors import ScaleError
from scale_assets.ingest.declared import DeclaredFeed

ONLINE = "online"
SERVED = ("release", "models", ONLINE)  # where a bare name is looked for, in this order
SERVICE = "feature service"
DBT = "dagster_dbt/unique_id"  # keys of metadata that tell what an asset is
SPARK = "function"


class UnknownColumn(ScaleError):
    """A name that no declared column has."""


class Column(NamedTuple):
    """A column of an asset, or a feature of a service as Feast writes it: view:feature."""

    asset: str
    name: str

    def __str__(self) -> str:
        return f"{self.asset}.{self.name}"


@dataclass
class ColumnGraph:
    """Columns by what they are made from; ``readers`` need one without having it in a column."""

    kinds: dict[str, str] = field(default_factory=dict)  # by asset
    files: dict[str, str] = field(default_factory=dict)
    unknown: dict[str, str] = field(default_factory=dict)  # why an asset's lineage is
    routes: dict[str, str] = field(default_factory=dict)  # of releases
    made_from: dict[Column, list[Column]] = field(default_factory=dict)
    used_by: dict[Column, list[Column]] = field(default_factory=lambda: defaultdict(list))
    readers: dict[Column, list[str]] = field(default_factory=lambda: defaultdict(list))
    assets_below: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))

    def add(self, column: Column, made_from: Iterable[Column]) -> None:
        known = self.made_from.setdefault(column, [])
        for dep in made_from:
            if dep not in known:
                known.append(dep)
                self.used_by[dep].append(column)
                self.assets_below[dep.asset].add(column.asset)
            self.made_from.setdefault(dep, [])

    def add_reader(self, column: Column, asset: str) -> None:
        if asset not in self.readers[column]:
            self.readers[column].append(asset)
            self.assets_below[column.asset].add(asset)

    def columns_of(self, asset: str) -> list[str]:
        return [column.name for column in self.made_from if column.asset == asset]

    def find(self, text: str) -> Column:
        """The column that a person means by asset.column, or by model.column.

        Raises:
            UnknownColumn: There is none; names like it are told.
        """
        asset, _, name = text.rpartition(".")
        named = {column.asset for column in self.made_from}
        candidates = [each for each in (asset, *(f"{s}/{asset}" for s in SERVED)) if each in named]
        for each in candidates:
            if Column(each, name) in self.made_from:
                return Column(each, name)
        if not candidates:
            if text in named:
                raise UnknownColumn(f"{text} is an asset; name a column of it: {self._shown(text)}")
            short = {each.removeprefix("release/") for each in named}
            near = get_close_matches(asset or text, sorted(named | short), n=3)
            meant = f"; did you mean {' or '.join(near)}?" if near else "; `dg list defs` has them"
            raise UnknownColumn(f"no asset {asset or text!r} has columns{meant}")
        near = get_close_matches(name, self.columns_of(candidates[0]), n=3)
        meant = (
            f"did you mean {' or '.join(near)}?" if near else f"it has {self._shown(candidates[0])}"
        )
        raise UnknownColumn(f"{candidates[0]} has no column {name!r}; {meant}")

    def in_order(self, assets: Iterable[str]) -> list[str]:
        """The assets, each after those that it is made from."""
        chosen = set(assets)
        order = TopologicalSorter(dict.fromkeys(sorted(chosen), ()))
        for above, below in self.assets_below.items():
            for asset in below - {above}:
                order.add(asset, above)
        return [asset for asset in order.static_order() if asset in chosen]

    def _shown(self, asset: str) -> str:
        return ", ".join(f"{asset}.{name}" for name in self.columns_of(asset))


def column_graph(specs: Iterable[dg.AssetSpec], *, root: Path) -> ColumnGraph:
    """The graph of all declared columns; files are told from ``root`` on."""
    graph, specs = ColumnGraph(), list(specs)
    by_key = {spec.key: spec for spec in specs}
    views = _views(specs)
    feeds = {spec.key for spec in specs if FEED in spec.metadata}
    for spec in specs:
        asset, said = spec.key.to_user_string(), spec.metadata
        file = _file(said)
        graph.files[asset] = str(file.relative_to(root) if file.is_relative_to(root) else file)
        received = any(dep.asset_key in feeds for dep in spec.deps) and FEED not in said
        kind = "as received" if received and set(spec.kinds) == {"deltalake"} else None
        graph.kinds[asset] = kind or _kind(spec, set(views.values()))
        if UNKNOWN_LINEAGE in said:
            graph.unknown[asset] = str(
                getattr(said[UNKNOWN_LINEAGE], "value", said[UNKNOWN_LINEAGE])
            )
        if ROUTE in said:
            graph.routes[asset] = str(said[ROUTE])
        for name, deps in _columns(spec, by_key).items():
            _add(graph, Column(asset, name), deps, str(said.get(FEATURE_SERVICE, "")), views)
        for use in column_uses(said, READS):
            graph.add_reader(Column(use.asset.to_user_string(), use.column), asset)
    return graph


def _columns(
    spec: dg.AssetSpec, by_key: Mapping[dg.AssetKey, dg.AssetSpec]
) -> dict[str, list[Column]]:
    """What the asset's metadata says of its columns: their lineage, or whose columns they are."""
    lineage = deps_by_column(spec.metadata)
    if lineage is not None:
        return {
            name: [Column(dep.asset_key.to_user_string(), dep.column_name) for dep in deps]
            for name, deps in lineage.items()
        }
    passed_on = by_key.get(dg.AssetKey.from_user_string(str(spec.metadata.get(PASSES_ON, ""))))
    if passed_on is not None:
        asset = passed_on.key.to_user_string()
        return {name: [Column(asset, name)] for name in deps_by_column(passed_on.metadata) or ()}
    return {name: [] for name in schema_columns(spec.metadata) or ()}


def _views(specs: Iterable[dg.AssetSpec]) -> dict[str, str]:
    """The lake table of each feature view, by the view's name."""
    views = {}
    for spec in specs:
        if spec.key.path[0] == ONLINE:
            for deps in (deps_by_column(spec.metadata) or {}).values():
                views[spec.key.path[-1]] = deps[0].asset_key.to_user_string()
    return views


def _add(
    graph: ColumnGraph,
    column: Column,
    deps: Iterable[Column],
    service: str,
    views: Mapping[str, str],
) -> None:
    """A feature reaches a training set and a release through their feature service."""
    tables = {table: view for view, table in views.items()}
    direct = []
    for dep in deps:
        view = tables.get(dep.asset) or (
            dep.asset.rpartition("/")[2] if dep.asset.startswith(f"{ONLINE}/") else None
        )
        if not service or view is None:
            direct.append(dep)
            continue
        picked = Column(service, f"{view}:{dep.name}")
        graph.kinds[service] = SERVICE
        graph.add(picked, [dep])
        direct.append(picked)
    graph.add(column, direct)


def _kind(spec: dg.AssetSpec, view_tables: set[str]) -> str:
    """What an asset is, in the words of whoever asks where a column comes from."""
    said: Mapping[str, Any] = spec.metadata
    name = spec.key.path[-1]
    view = f"feature view {name}, " if spec.key.to_user_string() in view_tables else ""
    kinds = {
        ROUTE: "release",
        PASSES_ON: "model",
        FEATURE_SERVICE: "training set",
        DBT: f"{view}dbt model",
        SPARK: f"Spark, {said.get(SPARK)}",
        FEED: "field of its contract",
    }
    found = next((kind for key, kind in kinds.items() if key in said), None)
    if spec.key.path[0] == ONLINE:
        return f"feature view {name}, online"
    return found or view + (", ".join(sorted(spec.kinds)) or "asset")


def _file(said: Mapping[str, Any]) -> Path:
    """Where a person reads or changes the column: of a feed, its contract."""
    if FEED in said:
        return DeclaredFeed.from_json(said[FEED].value).contract_path
    return Path(declared_in(said))
