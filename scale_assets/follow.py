"""`scale ingest`: takes in what feeds have, once or for as long as it runs, and tells Dagster."""

import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import replace
from threading import Event
from typing import Any, TypeAlias

import dagster as dg

from scale_assets.components.change_feed import ChangeFeed
from scale_assets.components.event_stream import EventStream
from scale_assets.components.quarantine_view import replay_lines
from scale_assets.console import Console
from scale_assets.errors import ScaleError
from scale_assets.ingest.account import IngestReport
from scale_assets.ingest.feed import Feed
from scale_assets.ingest.follow import Follower, Pace
from scale_assets.ingest.ingestion import ingest
from scale_assets.ingest.revalidate import RevalidationReport, revalidate
from scale_assets.instance import open_instance
from scale_assets.lake import Lake
from scale_assets.live_views import LiveView, views_over
from scale_assets.settings import Settings
from scale_assets.signals import stopping_on_signals

Declared: TypeAlias = EventStream | ChangeFeed

log = logging.getLogger("scale_assets.follow")


class UnknownFeed(ScaleError):
    """No event stream or change feed has this name."""


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
            UnknownFeed: There is none of a name.
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
            raise UnknownFeed(
                f"no event stream or change feed is named {', '.join(unknown)}; there are "
                f"{', '.join(sorted(found)) or 'none'} (a snapshot is materialized as raw/<name>, "
                "and `scale capture` reads a whole database)"
            )
        return [found[name] for name in names]

    def take(
        self,
        declared: Declared,
        *,
        told: Callable[[str], None],
        accept_loss: bool = False,
        replay_quarantine: bool = False,
    ) -> None:
        """Read on once, from where the table stands to what the source has now.

        With ``replay_quarantine``, what the contract accepts by now has left the quarantine before.
        """
        feed = self._feed(declared, accept_loss=accept_loss)
        replayed = revalidate(self.lake, feed) if replay_quarantine else None
        report = ingest(self.lake, feed)
        for made in self.tell(declared, feed, report, replayed):
            for line in _said(feed.name, made):
                told(line)

    def follow(self, feeds: Sequence[Declared], *, pace: Pace, told: Callable[[str], None]) -> None:
        """Follow all of them until SIGTERM or SIGINT; one that fails ends the others.

        Views over their streams are kept up beside them, until what they committed last.

        Raises:
            IngestError: A source lost records, or cannot be read on from where its table stands.
        """
        committed = Event()  # set once no follower will commit any more
        views = self._live_views(feeds, committed, pace)
        num_threads = len(feeds) + len(views)
        with stopping_on_signals() as stop, ThreadPoolExecutor(num_threads) as pool:
            followers = [pool.submit(self._follow_one, each, stop, pace, told) for each in feeds]
            running = [*followers, *(pool.submit(view.run) for view in views)]
            try:
                wait(running, return_when=FIRST_COMPLETED)  # none ends unless told, or failing
                stop.set()
                wait(followers)
            finally:
                committed.set()
            for each in running:
                each.result()

    def _live_views(self, feeds: Sequence[Declared], stop: Event, pace: Pace) -> list[LiveView]:
        tables = [feed.feed(self.settings).table for feed in feeds]
        return [
            LiveView(
                view,
                lake=self.lake,
                settings=self.settings,
                stop=stop,
                tell=self.context.log_event,
                tell_seconds=pace.report_seconds,
            )
            for view in views_over(self.definitions, tables)
        ]

    def _follow_one(
        self, declared: Declared, stop: Event, pace: Pace, told: Callable[[str], None]
    ) -> None:
        feed = self._feed(declared)

        def tell(report: IngestReport) -> None:
            deque(self.tell(declared, feed, report), maxlen=0)
            told(f"{feed.name}: {report.num_accepted} accepted of {report.num_received} received")

        Follower(self.lake, feed, stop=stop, tell=tell, pace=pace).run()

    def tell(
        self,
        declared: Declared,
        feed: Any,
        report: IngestReport,
        replayed: RevalidationReport | None = None,
    ) -> Iterator[dg.AssetMaterialization]:
        """Log checks and materializations as a run of the asset does; gives the asset's own."""
        for result in declared.settle(self.context, self.lake, feed, report, replayed):
            event = _event(result, declared.asset_key)
            self.context.instance.report_runless_asset_event(event)
            if isinstance(event, dg.AssetMaterialization):
                yield event

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
    replay_quarantine: bool,
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
            ingestor.take(
                feed,
                told=console.line,
                accept_loss=accept_loss,
                replay_quarantine=replay_quarantine,
            )


def _said(name: str, made: dg.AssetMaterialization) -> Iterator[str]:
    """What a materialization came to, in lines."""
    found: dict[str, Any] = {entry: value.value for entry, value in made.metadata.items()}
    counts = ", ".join(
        f"{found[each]} {each}" for each in ("received", "accepted", "quarantined", "duplicates")
    )
    yield f"{name}: {counts}"
    for line in replay_lines(found):
        yield f"  {line}"
    yield f"  {found['in_quarantine']} in quarantine"
    for what in ("logged", "held_back", "notices"):
        yield from (f"  {what.replace('_', ' ')}: {each}" for each in found.get(what, ()))


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
