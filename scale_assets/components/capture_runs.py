"""A run of a capture as Dagster sees it: its results, table by table."""

from collections.abc import Iterator, Sequence
from contextlib import nullcontext

import dagster as dg

from scale_assets.components.capture_checks import SLOT_KEEPS_UP, CaptureRun
from scale_assets.components.feed_assets import CHANGES_ACCOUNTED, WITHIN_LIMIT
from scale_assets.components.quarantine_view import quarantine_metadata, replay_metadata
from scale_assets.ingest.account import IngestReport, account
from scale_assets.ingest.errors import IngestError
from scale_assets.ingest.postgres.capture import Capture, CaptureReport
from scale_assets.ingest.postgres.changes import PostgresChanges
from scale_assets.ingest.postgres.server import Health
from scale_assets.ingest.postgres.spec import CaptureSpec
from scale_assets.lake import Lake
from scale_assets.signals import stopping_on_signals

ALL = "*"
DATA_VERSION_TAG = "dagster/data_version"

Results = Iterator[dg.MaterializeResult | dg.AssetCheckResult]


def run_capture(
    context: dg.AssetExecutionContext,
    lake: Lake,
    spec: CaptureSpec,
    feeds: Sequence[PostgresChanges],
    config: CaptureRun,
    *,
    max_quarantined_fraction: float,
) -> Results:
    """Run a capture and say what came of each table.

    How the slot is comes first, so that it is told even when the run fails.
    """
    tables = {feed.name: feed for feed in feeds}

    def log_commit(report: IngestReport) -> None:
        context.log_event(_committed(lake, tables[report.stream]))

    capture = Capture(lake, spec, feeds, progress=log_commit if config.follow else None)
    health = capture.health()
    for feed in feeds:
        yield _slot_check(feed, health)
    with stopping_on_signals() if config.follow else nullcontext() as stop:
        report = capture.run(
            resync=_chosen(feeds, config.resync),
            stop=stop,
            replay_quarantine=config.replay_quarantine,
        )
    for feed in feeds:
        yield from _table_results(lake, feed, report, max_quarantined_fraction)


def _chosen(feeds: Sequence[PostgresChanges], resync: Sequence[str]) -> list[str]:
    """The tables to take anew.

    Raises:
        IngestError: One of them is not captured.
    """
    known = [feed.relation for feed in feeds]
    if ALL in resync:
        return known
    unknown = [table for table in resync if table not in known]
    if unknown:
        raise IngestError(f"resync of {', '.join(unknown)}; the captured tables are {known}")
    return list(resync)


def _slot_check(feed: PostgresChanges, health: Health | None) -> dg.AssetCheckResult:
    said: dict[str, int] = {}
    if health is not None:
        said["held_back_bytes"] = health.held_back
        if health.limit is not None:
            said["limit_bytes"] = health.limit
    return dg.AssetCheckResult(
        check_name=SLOT_KEEPS_UP,
        asset_key=_key(feed),
        passed=health is None or not health.is_alarming,
        severity=dg.AssetCheckSeverity.WARN,
        metadata=said,
    )


def _table_results(
    lake: Lake, feed: PostgresChanges, report: CaptureReport, max_quarantined_fraction: float
) -> Results:
    done = report.tables[feed.name]
    totals = account(lake, feed)
    contract, _ = feed.load_contract()
    shown = quarantine_metadata(lake, contract, feed.quarantine_table)
    counts = {
        "received": totals.received,
        "accepted": totals.accepted,
        "quarantined": totals.quarantined,
        "duplicates": totals.duplicates,
        "ignored": totals.ignored,
        "erased": totals.erased,
    }
    yield dg.AssetCheckResult(
        check_name=CHANGES_ACCOUNTED, asset_key=_key(feed), passed=totals.is_exact, metadata=counts
    )
    if not totals.is_exact:
        raise IngestError(f"{feed.name}: changes unaccounted for: {totals}")
    yield dg.AssetCheckResult(
        check_name=WITHIN_LIMIT,
        asset_key=_key(feed),
        passed=totals.quarantined <= max_quarantined_fraction * totals.received,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={**counts, **shown},
    )
    version = lake.version(feed.table)
    yield dg.MaterializeResult(
        asset_key=_key(feed),
        data_version=dg.DataVersion(str(version)),
        metadata={
            "dagster/row_count": totals.accepted,
            "delta_version": version,
            "received": done.num_received,
            "accepted": done.num_accepted,
            "quarantined": done.num_quarantined,
            "batches": done.num_batches,
            "seconds": round(done.seconds, 3),
            **replay_metadata(report.replayed.get(feed.name)),
            **shown,
        },
    )


def _committed(lake: Lake, feed: PostgresChanges) -> dg.AssetMaterialization:
    """What a followed stream tells while it goes on, so that what is downstream may begin."""
    version = lake.version(feed.table)
    return dg.AssetMaterialization(
        _key(feed),
        metadata={"dagster/row_count": lake.num_rows(feed.table), "delta_version": version},
        tags={DATA_VERSION_TAG: str(version)},
    )


def _key(feed: PostgresChanges) -> dg.AssetKey:
    return dg.AssetKey(feed.table.split("/"))
