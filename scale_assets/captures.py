"""`scale capture`: one run of a declared capture, on the instance that the UI shows."""

from collections.abc import Sequence

import dagster as dg

from scale_assets.components.quarantine_view import replay_lines
from scale_assets.console import Console
from scale_assets.errors import ScaleError
from scale_assets.instance import open_instance
from scale_assets.pipeline import QUIET, PipelineFailed, failures
from scale_assets.settings import Settings

STEP = "capture_"


def run_capture(
    settings: Settings,
    console: Console,
    name: str,
    *,
    resync: Sequence[str],
    follow: bool,
    replay_quarantine: bool = False,
) -> None:
    """Run the capture of this name; what derives from it is left to `scale run` or the daemon.

    Raises:
        ScaleError: No such capture is declared.
        PipelineFailed: It failed; the message is that of the capture.
    """
    from scale_assets.definitions import defs

    definitions = defs()
    config = {
        "resync": list(resync),
        "follow": follow,
        "replay_quarantine": replay_quarantine,
    }
    with open_instance(settings) as instance:
        result = definitions.resolve_implicit_global_asset_job_def().execute_in_process(
            run_config={"ops": {STEP + name: {"config": config}}, **QUIET},
            instance=instance,
            asset_selection=_keys(definitions, name),
            raise_on_error=False,
        )
    if not result.success:
        raise PipelineFailed("\n".join(failures(result)))
    for event in result.get_asset_materialization_events():
        materialization = event.materialization
        said = {entry: value.value for entry, value in materialization.metadata.items()}
        if "accepted" in said:  # not what was logged along the way
            console.line(
                f"{materialization.asset_key.to_user_string()}: {said['accepted']:,} new "
                f"changes, {said['quarantined']:,} set aside"
            )
            for line in replay_lines(said):
                console.line(f"  {line}")


def _keys(definitions: dg.Definitions, name: str) -> list[dg.AssetKey]:
    steps = {
        assets.node_def.name.removeprefix(STEP): sorted(assets.keys)
        for assets in definitions.resolve_asset_graph().assets_defs
        if assets.is_executable and assets.node_def.name.startswith(STEP)
    }
    if name not in steps:
        declared = ", ".join(sorted(steps)) or "none is"
        raise ScaleError(f"no capture {name!r} is declared; declared: {declared}")
    return steps[name]
