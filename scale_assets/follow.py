"""`scale ingest`: takes in what feeds have, once or for as long as it runs, and tells Dagster."""

import logging
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import replace
from threading import Event
from typing import Any, TypeAlias

import dagster as dg

from scale_assets.components.change_feed import ChangeFeed
from scale_assets.components.event_stream import EventStream
from scale_assets.console import Console
from scale_assets.errors import ScaleError
from scale_assets.ingest.feed import Feed, IngestReport, ingest
from scale_assets.ingest.follow import Follower, Pace
from scale_assets.instance import open_instance
from scale_assets.lake import Lake
from scale_assets.settings import Settings

Declared: TypeAlias = EventStream | ChangeFeed

log = logging.getLogger("scale_assets.follow")


class RunlessContext:
    """Logs on the instance what no run of Dagster's does."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self.instance = instance
        self.log = log

    def log_event(self, event: dg.AssetMaterialization) -> None:
        self.instance.report_runless_asset_event(event)


class Ingestor:
    """Takes in declared feeds outside of Dagster's runs."""

    def __init__(
        self, definitions: dg.Definitions, instance: dg.DagsterInstance, settings: Settings
    ) -> None:
        self.definitions = definitions
        self.context = RunlessContext(instance)
        self.settings = settings
        self.lake = Lake(settings.lake_dir, s3=settings.s3)

    def declared(self, names: Sequence[str]) -> list[Declared]:
        """The event streams and change feeds of these names.

        Raises:
            ScaleError: There is none of a name.
        """
        tree = self.definitions.component_tree
        assert tree is not None
        feeds: list[Declared] = [
            *tree.get_all_components(of_type=EventStream),
            *tree.get_all_components(of_type=ChangeFeed),
        ]
        found = {feed.name: feed for feed in feeds}
        unknown = sorted(set(names) - set(found))
        if unknown:
            raise ScaleError(
                f"no feed {', '.join(unknown)}; declared are {', '.join(sorted(found))}"
            )
        return [found[name] for name in names]

    def take(self, declared: Declared, *, accept_loss: bool = False) -> IngestReport:
        """Read on once, from where the table stands to what the source has now."""
        feed = self._feed(declared, accept_loss=accept_loss)
        report = ingest(self.lake, feed)
        self.tell(declared, feed, report)
        return report

    def follow(self, feeds: Sequence[Declared], *, pace: Pace, told: Callable[[str], None]) -> None:
        """Follow all of them until SIGTERM or SIGINT; one that fails ends the others.

        Raises:
            IngestError: A source lost records, or cannot be read on from where its table stands.
        """
        with stopping_on_signals() as stop, ThreadPoolExecutor(len(feeds)) as pool:
            running = [pool.submit(self._follow_one, each, stop, pace, told) for each in feeds]
            wait(running, return_when=FIRST_EXCEPTION)
            stop.set()
            for each in running:
                each.result()

    def _follow_one(
        self, declared: Declared, stop: Event, pace: Pace, told: Callable[[str], None]
    ) -> None:
        feed = self._feed(declared)

        def tell(report: IngestReport) -> None:
            self.tell(declared, feed, report)
            told(f"{feed.name}: {report.num_accepted} accepted of {report.num_received} received")

        Follower(self.lake, feed, stop=stop, tell=tell, pace=pace).run()

    def tell(self, declared: Declared, feed: Any, report: IngestReport) -> None:
        """Log checks and materializations as a run of the asset does."""
        for result in declared.settle(self.context, self.lake, feed, report):
            self.context.instance.report_runless_asset_event(_event(result, declared.asset_key))

    def _feed(self, declared: Declared, *, accept_loss: bool = False) -> Feed:
        feed: Feed = declared.feed(self.settings)
        if not accept_loss:
            return feed
        source: Any = feed.source
        if not hasattr(source, "accept_loss"):
            raise ScaleError(f"{feed.name}: {source.describe()} cannot lose records unnoticed")
        return replace(feed, source=replace(source, accept_loss=True))


def ingest_feeds(
    settings: Settings,
    names: Sequence[str],
    console: Console,
    *,
    follow: bool,
    every_seconds: float,
    report_seconds: float,
    accept_loss: bool,
) -> None:
    """What `scale ingest` does.

    Raises:
        IngestError: A place was not taken; what could be taken has been.
    """
    from scale_assets.definitions import defs

    if follow and accept_loss:
        raise ScaleError("accept a loss in a run of its own, then follow again")
    with open_instance(settings) as instance:
        ingestor = Ingestor(defs(), instance, settings)
        feeds = ingestor.declared(names)
        if follow:
            pace = Pace(commit_seconds=every_seconds, report_seconds=report_seconds)
            ingestor.follow(feeds, pace=pace, told=console.line)
            return
        for feed in feeds:
            report = ingestor.take(feed, accept_loss=accept_loss)
            console.line(
                f"{feed.name}: {report.num_received} received, {report.num_accepted} accepted, "
                f"{report.num_quarantined} quarantined, {report.num_duplicates} duplicates"
            )
            for notice in report.notices:
                console.line(notice)


def _event(
    result: dg.MaterializeResult | dg.AssetCheckResult, key: dg.AssetKey
) -> dg.AssetMaterialization | dg.AssetCheckEvaluation:
    if isinstance(result, dg.AssetCheckResult):
        assert result.check_name is not None
        return dg.AssetCheckEvaluation(
            asset_key=key,
            check_name=result.check_name,
            passed=result.passed,
            metadata=result.metadata,
            severity=result.severity,
            blocking=False,
        )
    version = {} if result.data_version is None else {DATA_VERSION_TAG: result.data_version.value}
    return dg.AssetMaterialization(key, metadata=result.metadata, tags=version)


DATA_VERSION_TAG = "dagster/data_version"


@contextmanager
def stopping_on_signals() -> Iterator[Event]:
    """An event that SIGTERM and SIGINT set, so that what is being committed is committed."""
    stop = Event()
    handled = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in handled}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
