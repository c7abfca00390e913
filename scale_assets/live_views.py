"""Views over streams, kept up beside the followers of `scale ingest --follow`."""

import logging
import time
from collections.abc import Callable, Sequence
from threading import Event

import dagster as dg

from scale_assets.components.feature_views import FeatureViews, online_key
from scale_assets.components.stream_views import update_metadata
from scale_assets.features.repo import ViewDeclaration
from scale_assets.features.stores import Backend, OnlineStoreError, open_backend
from scale_assets.features.streaming.updater import Updater, UpdateReport
from scale_assets.lake import Lake
from scale_assets.settings import Settings

LOOK_EVERY_SECONDS = 0.2  # for a new commit: one listing of the table's log
LONGEST_PAUSE_SECONDS = 60.0

log = logging.getLogger("scale_assets.live_views")


def views_over(definitions: dg.Definitions, tables: Sequence[str]) -> list[ViewDeclaration]:
    """The declared views over the streams that fill these tables."""
    tree = definitions.component_tree
    assert tree is not None
    return [
        view
        for component in tree.get_all_components(of_type=FeatureViews)
        for view in component.declared_views()
        if view.stream is not None and view.stream.table in tables
    ]


class LiveView:
    """Counts each commit of one stream into one view, for as long as nobody says stop."""

    def __init__(
        self,
        view: ViewDeclaration,
        *,
        lake: Lake,
        settings: Settings,
        stop: Event,
        tell: Callable[[dg.AssetMaterialization], None],
        tell_seconds: float,
    ) -> None:
        assert view.stream is not None
        self.view, self.stream = view, view.stream
        self.lake, self.settings = lake, settings
        self.stop, self.tell, self.tell_seconds = stop, tell, tell_seconds
        self._untold = UpdateReport(version=-1)

    def run(self) -> None:
        """A store that does not answer is asked again, with growing pauses; nothing is missed."""
        pause = 1.0
        while not self.stop.is_set():
            try:
                with open_backend(
                    self.settings.online_store, clock=self.settings.online_store_clock
                ) as backend:
                    self._follow(backend)
            except OnlineStoreError as error:
                log.warning("%s: %s; asking again in %.0f s", self.view.name, error, pause)
                self.stop.wait(pause)
                pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
            finally:
                self._report()

    def _follow(self, backend: Backend) -> None:
        while not self.lake.exists(self.stream.table):
            if self.stop.wait(LOOK_EVERY_SECONDS):
                return
        updater = Updater(self.lake.open(self.stream.table), self.stream, backend)
        told = time.monotonic()
        while not self.stop.is_set():
            self._untold = self._untold.with_later(updater.catch_up())
            if time.monotonic() - told >= self.tell_seconds:
                self._report()
                told = time.monotonic()
            self.stop.wait(LOOK_EVERY_SECONDS)
        self._untold = self._untold.with_later(updater.catch_up())  # what was committed last

    def _report(self) -> None:
        report, self._untold = self._untold, UpdateReport(version=-1)
        if report.num_commits or report.rebuilt:
            event = dg.AssetMaterialization(
                online_key(self.view.name), metadata=update_metadata(report)
            )
            self.tell(event)
