"""`scale ingest NAME`: one run of one feed's ingest asset, in this process."""

import dagster as dg

from scale_assets.console import Console
from scale_assets.errors import ScaleError
from scale_assets.instance import open_instance, sole_driver
from scale_assets.pipeline import QUIET, RUN_TAG, PipelineFailed, failures
from scale_assets.settings import Settings


class UnknownFeed(ScaleError):
    """No event stream or change feed has this name."""


def run_ingest(
    settings: Settings, name: str, console: Console, *, replay_quarantine: bool = False
) -> None:
    """Read a feed on; with ``replay_quarantine``, move first what its contract accepts by now.

    Raises:
        UnknownFeed: No event stream or change feed is called that.
        PipelineFailed: The run, or a check of it, failed.
    """
    from scale_assets.definitions import defs

    definitions = defs()
    asset = _ingest_asset(definitions, name)
    config = {"ops": {asset.op.name: {"config": {"replay_quarantine": replay_quarantine}}}}
    with (
        sole_driver(settings),
        open_instance(settings) as instance,
        console.working(f"ingest {name}"),
    ):
        result = definitions.resolve_implicit_global_asset_job_def().execute_in_process(
            run_config={**QUIET, **config},
            instance=instance,
            asset_selection=[asset.key],
            tags={RUN_TAG: "1"},
            raise_on_error=False,
        )
        if not result.success:
            raise PipelineFailed("\n".join(failures(result)))
    for line in _said(result, asset):
        console.line(f"  {line}")


def _ingest_asset(definitions: dg.Definitions, name: str) -> dg.AssetsDefinition:
    graph = definitions.resolve_asset_graph()
    for key in (dg.AssetKey(["ingest", name]), dg.AssetKey(["raw", f"{name}_changes"])):
        if graph.has(key) and graph.get(key).is_executable:
            return graph.get(key).assets_def
    feeds = sorted(
        key.path[-1].removesuffix("_changes")
        for key in graph.materializable_asset_keys
        if key.path[0] == "ingest" or key.path[-1].endswith("_changes")
    )
    raise UnknownFeed(
        f"no event stream or change feed is named {name!r}; there are {feeds} "
        "(a snapshot is materialized as raw/<name>; it reads a whole file anew by itself)"
    )


def _said(result: dg.ExecuteInProcessResult, asset: dg.AssetsDefinition) -> list[str]:
    """What the run's own materialization came to."""
    made = result.asset_materializations_for_node(asset.op.name)
    [metadata] = [each.metadata for each in made if each.asset_key == asset.key]
    found = {name: entry.value for name, entry in metadata.items()}
    counts = ", ".join(
        f"{found[each]} {each}" for each in ("accepted", "quarantined", "duplicates")
    )
    lines = [f"{found['received']} received: {counts}"]
    if "replay_examined" in found:
        lines.append(
            f"{found['replay_examined']} quarantined lines read again: "
            f"{found['replay_accepted']} accepted, {found['replay_duplicates']} were duplicates"
        )
    return [*lines, f"{found['in_quarantine']} in quarantine"]
