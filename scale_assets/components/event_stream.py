"""An event stream, declared in YAML: events in, one daily Delta table of valid events out."""

from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import dagster as dg
from pydantic import Field, PrivateAttr

from scale_assets.components.calendar import Calendar
from scale_assets.components.feed_assets import (
    READS_FEED,
    Compatibility,
    FeedContext,
    arrival_sensor,
    column_schema,
    contract_path,
    feed_metadata,
    owners_of,
)
from scale_assets.components.quarantine_view import (
    MetadataValues,
    ReplayConfig,
    quarantine_metadata,
    replay_metadata,
)
from scale_assets.components.transports import Transport
from scale_assets.contracts import Contract, Mode, load_contract
from scale_assets.ingest.declared import DeclaredFeed
from scale_assets.ingest.events import EventFeed
from scale_assets.ingest.feed import Account, IngestReport, account, ingest
from scale_assets.ingest.quarantine import reasons_by_date
from scale_assets.ingest.revalidate import RevalidationReport, revalidate
from scale_assets.lake import Lake, fault_point
from scale_assets.partitions import DatePlan, Days, plan_dates
from scale_assets.resources import LakeResource, SettingsResource
from scale_assets.settings import Settings, load_settings

ACCOUNTED = "every_row_is_accounted_for"
WITHIN_LIMIT = "quarantine_within_limit"


class EventStream(dg.Component, dg.Resolvable, dg.Model):
    """Events from a source, validated, deduplicated and appended exactly once.

    Materialize `ingest/<name>`: it reads on from where `raw/<name>` stands, however often it runs.
    Rows that break the contract go to `raw/<name>_quarantine` with their raw bytes and the reason;
    received = accepted + quarantined + duplicates, checked exactly. Only then are the dates that
    it touched logged on `raw/<name>`, which is what daily tables downstream wait for.
    """

    name: str = Field(description="Name of the stream and its tables.", examples=["clicks"])
    contract: str = Field(
        description="Path of the stream's ODCS contract, relative to this file.",
        examples=["../contracts/clicks.odcs.yaml"],
    )
    transport: Transport = Field(description="How the events arrive.")
    key: list[str] = Field(
        min_length=1, description="Columns that identify an event.", examples=[["event_id"]]
    )
    event_time: str = Field(
        description="Column that says when the event happened; its UTC date is the partition.",
        examples=["event_time"],
    )
    calendar: Calendar = Field(description="Days that events can have; others are quarantined.")
    dedup_horizon_days: int = Field(
        default=7,
        ge=0,
        description="An event whose key was accepted at most this many days away is a duplicate.",
    )
    max_quarantined_fraction: float = Field(
        default=0.01,
        ge=0,
        le=1,
        description="Share of a date's rows, quarantined ones included, that may be quarantined; "
        "a date above it is not logged, so that nothing downstream reads it.",
    )
    max_batch_mib: int = Field(
        default=64, ge=1, description="Uncompressed MiB read and committed at a time."
    )
    compatibility: Compatibility = "BACKWARD_TRANSITIVE"
    sensor: Literal["running", "stopped"] = Field(
        default="stopped", description="Whether the file-arrival sensor starts switched on."
    )
    description: str = Field(default="", description="Shown in the UI; else the contract's.")
    group: str = Field(default="ingest", description="Group of the assets in the UI.")
    owners: list[str] = Field(
        default_factory=list, description="Users or teams; else the contract's owner."
    )

    _contract_path: Path = PrivateAttr()

    def declared_contracts(self) -> dict[str, Contract]:
        """The contract of each feed that it declares; known once its definitions are built."""
        return {self.name: load_contract(self._contract_path)}

    @property
    def asset_key(self) -> dg.AssetKey:
        """The asset whose materialization reads on."""
        return dg.AssetKey(["ingest", self.name])

    def feed(self, settings: Settings) -> EventFeed:
        """What the stream takes in; known once its definitions are built."""
        return EventFeed(
            source=self.transport.source(settings),
            contract_path=self._contract_path,
            **self._feed_values(load_contract(self._contract_path)),
        )

    def settle(
        self,
        context: FeedContext,
        lake: Lake,
        feed: EventFeed,
        report: IngestReport,
        replayed: RevalidationReport | None = None,
    ) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
        """Check and log what was taken in since the last time."""
        yield from StreamRun(context, lake, feed, self).settle(report, replayed)

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        path = self._contract_path = contract_path(context, self.contract)
        contract = load_contract(path)
        feed_values = self._feed_values(contract)
        ingest_key = self.asset_key
        shared: dict[str, Any] = {
            "group_name": self.group,
            "owners": owners_of(contract, self.owners),
        }

        @dg.asset(
            key=ingest_key,
            description=f"Reads {self.name} on from where its table stands. "
            + (self.description or contract.description),
            kinds={"deltalake", "python"},
            tags=READS_FEED,
            pool=f"table_raw_{self.name}",
            check_specs=self._check_specs(ingest_key),
            metadata=feed_metadata(
                DeclaredFeed(
                    name=self.name,
                    contract_path=path,
                    compatibility=Mode(self.compatibility),
                    table=f"raw/{self.name}",
                    quarantine_table=f"raw/{self.name}_quarantine",
                )
            ),
            **shared,
        )
        def ingest_stream(
            context: dg.AssetExecutionContext,
            config: ReplayConfig,
            lake: LakeResource,
            settings: SettingsResource,
        ) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
            run = StreamRun(context, lake.lake(), self.feed(settings.values), self)
            yield from run.events(replay_quarantine=config.replay_quarantine)

        raw = [
            dg.AssetSpec(
                ["raw", table],
                deps=[ingest_key],
                partitions_def=self.calendar.partitions(),
                description=description,
                kinds={"deltalake"},
                metadata={"dagster/column_schema": column_schema(contract, schema)},
                **shared,
            )
            for table, description, schema in self._tables(contract, feed_values)
        ]
        sensor = arrival_sensor(
            self.name,
            self.transport,
            target=dg.AssetSelection.assets(ingest_key),
            status=self.sensor,
        )
        return dg.Definitions(assets=[ingest_stream, *raw], sensors=[sensor])

    def _feed_values(self, contract: Contract) -> dict[str, Any]:
        for column in [*self.key, self.event_time]:
            if column not in contract.names:
                raise dg.DagsterInvalidDefinitionError(
                    f"stream {self.name}: {column!r} is not a field of contract {contract.name} "
                    f"{contract.version}, which has {sorted(contract.names)}"
                )
        end = self.calendar.end
        return {
            "name": self.name,
            "table": f"raw/{self.name}",
            "quarantine_table": f"raw/{self.name}_quarantine",
            "key": tuple(self.key),
            "event_time": self.event_time,
            "start": date.fromisoformat(self.calendar.start),
            "end": date.fromisoformat(end) + timedelta(days=1) if end else date.max,
            "dedup_horizon_days": self.dedup_horizon_days,
            "max_batch_bytes": self.max_batch_mib << 20,
            "compatibility": Mode(self.compatibility),
        }

    def _check_specs(self, key: dg.AssetKey) -> list[dg.AssetCheckSpec]:
        return [
            dg.AssetCheckSpec(
                ACCOUNTED,
                asset=key,
                blocking=True,
                description="received = accepted + quarantined + duplicates + erased, each counted.",
            ),
            dg.AssetCheckSpec(
                WITHIN_LIMIT,
                asset=key,
                description=f"No date has more than {self.max_quarantined_fraction:.2%} of its "
                "rows in quarantine. Dates above it are held back.",
            ),
        ]

    def _tables(
        self, contract: Contract, feed_values: dict[str, Any]
    ) -> list[tuple[str, str, Any]]:
        source = self.transport.source(load_settings())
        feed = EventFeed(source=source, contract_path=Path(), **feed_values)
        accepted = self.description or contract.description or f"Events of {self.name}."
        return [
            (self.name, f"{accepted}\n\nOne row per event.", feed.schema(contract)),
            (
                f"{self.name}_quarantine",
                (
                    f"Rows of {self.name} that broke its contract, with their raw bytes, the rule "
                    "and the reason.\n\nOne row per refused line."
                ),
                feed.quarantine_schema,
            ),
        ]


class StreamRun:
    """One materialization of ``ingest/<name>``: read on, check, log the dates, report."""

    def __init__(
        self, context: FeedContext, lake: Lake, feed: EventFeed, stream: EventStream
    ) -> None:
        self.context = context
        self.instance = context.instance
        self.lake = lake
        self.feed = feed
        self.stream = stream

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
            check_name=ACCOUNTED,
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
        limit = self.stream.max_quarantined_fraction
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
