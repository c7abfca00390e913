"""One materialization of an event stream: read on, check, log the dates, report."""

from collections.abc import Iterator, Mapping
from datetime import date
from types import MappingProxyType
from typing import Any

import dagster as dg

from scale_assets.components.feed_assets import ROWS_ACCOUNTED, WITHIN_LIMIT, FeedContext
from scale_assets.components.quarantine_view import (
    MetadataValues,
    quarantine_metadata,
    replay_metadata,
)
from scale_assets.ingest.account import Account, IngestReport, account
from scale_assets.ingest.events import EventFeed
from scale_assets.ingest.ingestion import ingest
from scale_assets.ingest.quarantine import reasons_by_date
from scale_assets.ingest.revalidate import RevalidationReport, revalidate
from scale_assets.lake import Lake, fault_point
from scale_assets.partitions import DatePlan, Days, plan_dates


class StreamRun:
    """Takes in what the source of ``ingest/<name>`` has, and says what came of it."""

    def __init__(
        self, context: FeedContext, lake: Lake, feed: EventFeed, *, max_quarantined_fraction: float
    ) -> None:
        self.context = context
        self.instance = context.instance
        self.lake = lake
        self.feed = feed
        self.max_quarantined_fraction = max_quarantined_fraction

    def events(
        self, *, replay_quarantine: bool
    ) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
        replayed = revalidate(self.lake, self.feed) if replay_quarantine else None
        report = ingest(self.lake, self.feed, progress=self._log_progress)
        yield from self.settle(report, replayed)

    def settle(
        self, report: IngestReport, replayed: RevalidationReport | None
    ) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
        for notice in report.notices:
            self.context.log.warning(notice)
        totals = account(self.lake, self.feed)
        yield self._accounted(totals)
        if not totals.is_exact:
            raise dg.Failure(f"{self.feed.name}: rows unaccounted for: {totals}")
        rows = self._rows_per_date(self.feed.table)
        refused = self._rows_per_date(self.feed.quarantine_table)
        above = self._above_limit(rows, refused)
        shown = self._quarantine_shown()
        yield dg.AssetCheckResult(
            check_name=WITHIN_LIMIT,
            passed=not above,
            severity=dg.AssetCheckSeverity.WARN,
            metadata={
                "held_back": {str(day): f"{share:.2%}" for day, share in above.items()},
                **shown,
            },
        )
        # Read before planning: what another run commits meanwhile stays for the next one.
        versions = {
            table: self.lake.version(table)
            for table in (self.feed.table, self.feed.quarantine_table)
        }
        plan = self._plan(rows, failed=set(above) - {None})
        fault_point("before_log")
        self._log_dates(self.feed.table, plan.dates, rows)
        reasons = reasons_by_date(self.lake.open(self.feed.quarantine_table))
        self._log_dates(self.feed.quarantine_table, self._refused_dates(), refused, reasons)
        shown |= replay_metadata(replayed)
        yield self._result(report, totals, plan, versions, shown)
        report.raise_if_broken()

    def _log_progress(self, report: IngestReport) -> None:
        self.context.log.info(
            "%s places, %s rows received, %s accepted, %s quarantined",
            report.num_places,
            report.num_received,
            report.num_accepted,
            report.num_quarantined,
        )

    def _accounted(self, totals: Account) -> dg.AssetCheckResult:
        return dg.AssetCheckResult(
            check_name=ROWS_ACCOUNTED,
            passed=totals.is_exact,
            metadata={
                "received": totals.received,
                "accepted": totals.accepted,
                "quarantined": totals.quarantined,
                "duplicates": totals.duplicates,
                "erased": totals.erased,
            },
        )

    def _quarantine_shown(self) -> MetadataValues:
        contract, _ = self.feed.load_contract()
        return quarantine_metadata(self.lake, contract, self.feed.quarantine_table)

    def _rows_per_date(self, table: str) -> dict[date | None, int]:
        counted = self.lake.rows_per_partition(table, "event_date")
        return {
            None if day is None else date.fromisoformat(day): rows for day, rows in counted.items()
        }

    def _above_limit(
        self, rows: dict[date | None, int], refused: dict[date | None, int]
    ) -> dict[date | None, float]:
        shares = {day: n / (n + rows.get(day, 0)) for day, n in refused.items()}
        limit = self.max_quarantined_fraction
        return {day: share for day, share in sorted(shares.items(), key=str) if share > limit}

    def _plan(self, rows: dict[date | None, int], *, failed: set[date | None]) -> DatePlan:
        touched = self._touched(self.feed.table) | self._held_back()
        key = dg.AssetKey(self.feed.table.split("/"))
        logged = self.instance.get_materialized_partitions(key)
        with_rows = [day for day in rows if day]
        # Dates before the first event ever are no gaps: nothing waits for them, and each costs a
        # log entry here and in every table downstream.
        first = min(with_rows, default=self.feed.start)
        return plan_dates(
            touched=touched,
            logged={date.fromisoformat(day) for day in logged},
            watermark=max(with_rows, default=None),
            calendar=Days(first, self.feed.end),
            failed={day for day in failed if day},
        )

    def _touched(self, table: str) -> set[date]:
        """Dates that received or lost rows since the run that last logged any.

        They come from the table's own log, so that a run killed before it logged loses none.
        """
        since = self._last_metadata().get(f"delta_version_{table}")
        changed = self.lake.partitions_changed_since(table, None if since is None else int(since))
        return {
            date.fromisoformat(values["event_date"]) for values in changed if values["event_date"]
        }

    def _held_back(self) -> set[date]:
        return {date.fromisoformat(day) for day in self._last_metadata().get("held_back", [])}

    def _last_metadata(self) -> dict[str, Any]:
        event = self.instance.get_latest_materialization_event(
            dg.AssetKey(["ingest", self.feed.name])
        )
        if event is None or event.asset_materialization is None:
            return {}
        return {name: value.value for name, value in event.asset_materialization.metadata.items()}

    def _refused_dates(self) -> list[str]:
        days = Days(self.feed.start, self.feed.end)
        touched = self._touched(self.feed.quarantine_table)
        return sorted(day.isoformat() for day in touched if day in days)

    def _log_dates(
        self,
        table: str,
        dates: list[str],
        rows: dict[date | None, int],
        reasons: Mapping[str, dict[str, int]] = MappingProxyType({}),
    ) -> None:
        key = dg.AssetKey(table.split("/"))
        for day in dates:
            num_rows = rows.get(date.fromisoformat(day), 0)
            self.context.log_event(
                dg.AssetMaterialization(
                    key,
                    partition=day,
                    metadata={
                        "dagster/partition_row_count": num_rows,
                        **({"reasons": reasons[day]} if day in reasons else {}),
                    },
                )
            )

    def _result(
        self,
        report: IngestReport,
        totals: Account,
        plan: DatePlan,
        versions: dict[str, int],
        shown: MetadataValues,
    ) -> dg.MaterializeResult:
        version = versions[self.feed.table]
        return dg.MaterializeResult(
            data_version=dg.DataVersion(str(version)),
            metadata={
                "dagster/row_count": totals.accepted,
                "received": report.num_received,
                "accepted": report.num_accepted,
                "quarantined": report.num_quarantined,
                "duplicates": report.num_duplicates,
                "places": report.num_places,
                "seconds": round(report.seconds, 3),
                "logged": [f"{first} to {last}" for first, last in plan.ranges],
                "held_back": plan.held_back,
                "notices": report.notices,
                **{f"delta_version_{table}": number for table, number in versions.items()},
                **shown,
            },
        )
