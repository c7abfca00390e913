"""A view over a stream as an asset: its states in the online store follow the stream's commits."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg

from scale_assets.components.automation import when_inputs_passed_their_checks
from scale_assets.resources import LakeResource, SettingsResource

if TYPE_CHECKING:
    from scale_assets.features.repo import ViewDeclaration
    from scale_assets.features.streaming.updater import UpdateReport


def stream_asset(
    view: "ViewDeclaration", *, key: dg.AssetKey, deps: Sequence[dg.AssetKey], **shown: Any
) -> dg.AssetsDefinition:
    """Counts what was committed since; `scale ingest --follow` does so within seconds."""

    @dg.asset(
        key=key,
        deps=list(deps),
        kinds={"feast"},
        automation_condition=when_inputs_passed_their_checks(),
        description=(
            f"Windowed aggregates over {view.source.table}, one state per "
            f"{' and '.join(view.join_keys)}. Each commit of the stream is counted once; "
            "`scale ingest --follow` counts it within seconds."
        ),
        **shown,
    )
    def online(lake: LakeResource, settings: SettingsResource) -> dg.MaterializeResult[Any]:
        from scale_assets.features.stores import open_backend
        from scale_assets.features.streaming.updater import Updater

        assert view.stream is not None
        values = settings.values
        with open_backend(values.online_store, clock=values.online_store_clock) as backend:
            handle = lake.lake().open(view.stream.table)
            report = Updater(handle, view.stream, backend).catch_up()
        return dg.MaterializeResult(metadata=update_metadata(report))

    made: dg.AssetsDefinition = online
    return made


def update_metadata(report: "UpdateReport") -> dict[str, Any]:
    """What Dagster shows of one pass, or of several together."""
    return {
        "num_events": report.num_events,
        "num_states_written": report.num_states,
        "num_commits": report.num_commits,
        "rebuilt": report.rebuilt or "no",
        "delta_version": report.version,
    }
