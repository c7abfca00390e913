"""What a run of a change feed came to: its checks, and what was taken in."""

from collections.abc import Iterator

import dagster as dg

from scale_assets.components.feed_assets import CHANGES_ACCOUNTED, WITHIN_LIMIT, FeedContext
from scale_assets.components.quarantine_view import quarantine_metadata, replay_metadata
from scale_assets.ingest.account import IngestReport, account
from scale_assets.ingest.changes import ChangeFeed
from scale_assets.ingest.errors import IngestError
from scale_assets.ingest.revalidate import RevalidationReport
from scale_assets.lake import Lake


def settle_changes(
    context: FeedContext,
    lake: Lake,
    feed: ChangeFeed,
    report: IngestReport,
    replayed: RevalidationReport | None,
    *,
    max_quarantined_fraction: float,
) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
    """Check and log what was taken in since the last time."""
    for notice in report.notices:
        context.log.warning(notice)
    totals = account(lake, feed)
    counts = {
        "received": totals.received,
        "accepted": totals.accepted,
        "quarantined": totals.quarantined,
        "duplicates": totals.duplicates,
        "tombstones": totals.ignored,
        "erased": totals.erased,
    }
    yield dg.AssetCheckResult(check_name=CHANGES_ACCOUNTED, passed=totals.is_exact, metadata=counts)
    if not totals.is_exact:
        raise IngestError(f"{feed.name}: changes unaccounted for: {totals}")
    contract, _ = feed.load_contract()
    shown = quarantine_metadata(lake, contract, feed.quarantine_table)
    yield dg.AssetCheckResult(
        check_name=WITHIN_LIMIT,
        passed=totals.quarantined <= max_quarantined_fraction * totals.received,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={**counts, **shown},
    )
    version = lake.version(feed.table)
    yield dg.MaterializeResult(
        data_version=dg.DataVersion(str(version)),
        metadata={
            "dagster/row_count": totals.accepted,
            "delta_version": version,
            "received": report.num_received,
            "accepted": report.num_accepted,
            "quarantined": report.num_quarantined,
            "duplicates": report.num_duplicates,
            "places": report.num_places,
            "notices": report.notices,
            "seconds": round(report.seconds, 3),
            **replay_metadata(replayed),
            **shown,
        },
    )
    report.raise_if_broken()
