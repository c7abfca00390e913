"""`scale load`: brings the online store to what the lake holds now, outside of a Dagster run."""

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from scale_assets.console import Console
from scale_assets.errors import ScaleError
from scale_assets.settings import Settings, load_settings

if TYPE_CHECKING:
    from scale_assets.components.feature_views import FeatureViews
    from scale_assets.features.repo import ViewDeclaration
    from scale_assets.features.stores import Backend
    from scale_assets.features.streaming.declared import StreamingView
    from scale_assets.lake import Lake


def load(
    names: Annotated[list[str] | None, typer.Argument(help="Feature views; all if none.")] = None,
    *,
    rebuild: Annotated[
        bool,
        typer.Option(
            "--rebuild",
            help="Compare every entity, as after a store was lost or keys were evicted.",
        ),
    ] = False,
) -> None:
    """Load feature views from the lake into the online store: what changed, or everything."""
    settings = load_settings()
    console = Console()
    started = time.perf_counter()
    with _backend(settings) as backend:
        for component, view in _chosen(names or []):
            console.line(_loaded(settings, console, backend, component, view, rebuild=rebuild))
        console.line(f"{backend.where} in {time.perf_counter() - started:.1f} s")


def _loaded(
    settings: Settings,
    console: Console,
    backend: "Backend",
    component: "FeatureViews",
    view: "ViewDeclaration",
    *,
    rebuild: bool,
) -> str:
    from scale_assets.features.codec import to_micros
    from scale_assets.features.loading import load_view, newest
    from scale_assets.lake import Lake

    lake = Lake(settings.lake_dir, s3=settings.s3 if settings.is_lake_remote else None)
    if view.stream is not None:
        return _counted(lake, console, backend, view.stream, rebuild=rebuild)
    now = newest(lake, component.clock.table, component.clock.column)
    with console.working(view.name):
        report = load_view(lake, view, backend, clock=to_micros(now), full=rebuild)
    how = "all" if report.is_full else f"since version {report.previous_version}"
    goes_on = report.num_parts_done_before
    parts = f", {goes_on} of {report.num_parts} parts were there" if goes_on else ""
    unknown = report.num_unknown
    left_out = f", {unknown:,} rows without {view.source.known_at} left out" if unknown else ""
    return (
        f"{view.name}  version {report.delta_version} ({how})  {report.num_considered:,} considered, "
        f"{report.num_written:,} written, {report.num_removed:,} removed{left_out}{parts}  "
        f"{_timed(report.num_considered, report.seconds)}"
    )


def _counted(
    lake: "Lake", console: Console, backend: "Backend", view: "StreamingView", *, rebuild: bool
) -> str:
    """A view over a stream: its states brought forward, or made anew."""
    from scale_assets.features.streaming.updater import Updater

    updater = Updater(lake.open(view.table), view, backend)
    started = time.perf_counter()
    with console.working(view.name):
        report = updater.rebuild("asked for") if rebuild else updater.catch_up()
    how = f"all, {report.rebuilt}" if report.rebuilt else f"{report.num_commits} commits"
    return (
        f"{view.name}  version {report.version} ({how})  {report.num_events:,} events counted, "
        f"{report.num_states:,} states written  "
        f"{_timed(report.num_events, time.perf_counter() - started)}"
    )


def _timed(number: int, seconds: float) -> str:
    """How long it took, and how many of what was looked at came to a second."""
    return f"{seconds:.1f} s" + (f" ({number / seconds:,.0f}/s)" if number else "")


def _backend(settings: Settings) -> "Backend":
    from scale_assets.features.stores import open_backend

    return open_backend(settings.online_store, clock=settings.online_store_clock)


def _chosen(names: list[str]) -> Iterator[tuple["FeatureViews", "ViewDeclaration"]]:
    """The declared views of these names, each with the component that declares it.

    Raises:
        ScaleError: A name is none of a view.
    """
    from scale_assets.components.feature_views import FeatureViews
    from scale_assets.definitions import defs

    tree = defs().component_tree
    assert tree is not None
    declared = {
        view.name: (component, view)
        for component in tree.get_all_components(of_type=FeatureViews)
        for view in component.declared_views()
    }
    unknown = [name for name in names if name not in declared]
    if unknown:
        raise ScaleError(f"no feature view {unknown[0]!r}; there are {sorted(declared)}")
    for name in names or declared:
        yield declared[name]
