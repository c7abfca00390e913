"""Following a source: taking what it gets soon after it has it, for as long as nobody says stop."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Event

from scale_assets.ingest.account import HALF_DONE_SECONDS, IngestReport
from scale_assets.ingest.errors import SourceUnavailable
from scale_assets.ingest.feed import Feed
from scale_assets.ingest.ingestion import Ingestion
from scale_assets.ingest.source import Reading
from scale_assets.lake import Lake

LONGEST_PAUSE_SECONDS = 60.0

log = logging.getLogger("scale_assets.follow")


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How often to commit, and to tell of it. A batch that is full is committed earlier."""

    commit_seconds: float = 2.0
    report_seconds: float = 60.0


class Follower:
    """One process that follows one feed; it may run beside others, and beside batch runs."""

    def __init__(
        self,
        lake: Lake,
        feed: Feed,
        *,
        stop: Event,
        tell: Callable[[IngestReport], None],
        pace: Pace,
    ) -> None:
        self.lake = lake
        self.feed = feed
        self.stop = stop
        self.tell = tell
        self.pace = pace

    def run(self) -> None:
        """Follow until ``stop`` is set; what is being committed then is committed.

        A source that does not answer is asked again, with growing pauses.

        Raises:
            IngestError: The source lost records, or cannot be read on from where the table stands.
        """
        pause = 1.0
        while not self.stop.is_set():
            ingestion = Ingestion(self.lake, self.feed, patience_seconds=HALF_DONE_SECONDS)
            try:
                self._follow(ingestion)
            except SourceUnavailable as error:
                if self.stop.is_set():
                    return  # whoever follows next finishes what was begun
                log.warning("%s: %s; asking again in %.0f s", self.feed.name, error, pause)
                pause = 1.0 if ingestion.report.num_batches else pause * 2
                self.stop.wait(min(pause, LONGEST_PAUSE_SECONDS))
            finally:
                self._report(ingestion)

    def _follow(self, ingestion: Ingestion) -> None:
        told = time.monotonic()
        with ingestion.source.following() as reading:
            reading.stopping = self.stop
            while not self.stop.is_set():
                began = time.monotonic()
                self._pass(ingestion, reading)
                if time.monotonic() - told >= self.pace.report_seconds:
                    self._report(ingestion)
                    told = time.monotonic()
                self.stop.wait(max(0.0, self.pace.commit_seconds - (time.monotonic() - began)))

    def _pass(self, ingestion: Ingestion, reading: Reading) -> None:
        while not ingestion.through(reading) and not self.stop.is_set():
            pass
        ingestion.report.broken = dict(reading.broken)
        ingestion.report.raise_if_broken()

    def _report(self, ingestion: Ingestion) -> None:
        report, ingestion.report = ingestion.report, IngestReport(stream=self.feed.name)
        if report.num_batches:
            self.tell(report)
