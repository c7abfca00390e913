"""An event stream, declared in YAML: events in, one daily Delta table of valid events out."""

from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import dagster as dg
from pydantic import Field, PrivateAttr

from scale_assets.components.automation import DAILY
from scale_assets.components.calendar import Calendar
from scale_assets.components.columns import DECLARED_IN
from scale_assets.components.feed_assets import (
    READS_FEED,
    ROWS_ACCOUNTED,
    WITHIN_LIMIT,
    Compatibility,
    FeedContext,
    arrival_sensor,
    column_metadata,
    contract_path,
    feed_metadata,
    owners_of,
)
from scale_assets.components.quarantine_view import ReplayConfig
from scale_assets.components.transports import Transport
from scale_assets.contracts import Contract, Mode, load_contract
from scale_assets.ingest.columns import EVENT_DATE, event_schema, quarantine_schema
from scale_assets.ingest.declared import DeclaredFeed
from scale_assets.resources import LakeResource, SettingsResource
from scale_assets.settings import Settings, load_settings

if TYPE_CHECKING:
    from scale_assets.components.stream_run import StreamRun
    from scale_assets.ingest.account import IngestReport
    from scale_assets.ingest.events import EventFeed
    from scale_assets.ingest.revalidate import RevalidationReport
    from scale_assets.lake import Lake


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

    def feed(self, settings: Settings) -> "EventFeed":
        """What the stream takes in; known once its definitions are built."""
        from scale_assets.ingest.events import EventFeed

        self._checked_contract(self._contract_path)  # the file may be another one by now
        end = self.calendar.end
        return EventFeed(
            name=self.name,
            source=self.transport.source(settings),
            contract_path=self._contract_path,
            table=f"raw/{self.name}",
            quarantine_table=f"raw/{self.name}_quarantine",
            key=tuple(self.key),
            event_time=self.event_time,
            start=date.fromisoformat(self.calendar.start),
            end=date.fromisoformat(end) + timedelta(days=1) if end else date.max,
            dedup_horizon_days=self.dedup_horizon_days,
            max_batch_bytes=self.max_batch_mib << 20,
            compatibility=Mode(self.compatibility),
        )

    def settle(
        self,
        context: FeedContext,
        lake: "Lake",
        feed: "EventFeed",
        report: "IngestReport",
        replayed: "RevalidationReport | None" = None,
    ) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
        """Check and log what was taken in since the last time."""
        yield from self._run(context, lake, feed).settle(report, replayed)

    def _run(self, context: FeedContext, lake: "Lake", feed: "EventFeed") -> "StreamRun":
        from scale_assets.components.stream_run import StreamRun

        limit = self.max_quarantined_fraction
        return StreamRun(context, lake, feed, max_quarantined_fraction=limit)

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        path = self._contract_path = contract_path(context, self.contract)
        contract = self._checked_contract(path)
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
            run = self._run(context, lake.lake(), self.feed(settings.values))
            yield from run.events(replay_quarantine=config.replay_quarantine)

        raw = [
            dg.AssetSpec(
                ["raw", table],
                deps=[ingest_key],
                partitions_def=self.calendar.partitions(),
                tags=DAILY,
                description=description,
                kinds={"deltalake"},
                metadata={DECLARED_IN: str(path), **column_metadata(contract, schema, fields)},
                **shared,
            )
            for table, description, schema, fields in self._tables(contract)
        ]
        sensor = arrival_sensor(
            self.name,
            self.transport,
            target=dg.AssetSelection.assets(ingest_key),
            status=self.sensor,
        )
        return dg.Definitions(assets=[ingest_stream, *raw], sensors=[sensor])

    def _checked_contract(self, path: Path) -> Contract:
        """The contract; it has the declared columns, or the definition is refused."""
        contract = load_contract(path)
        for column in [*self.key, self.event_time]:
            if column not in contract.names:
                raise dg.DagsterInvalidDefinitionError(
                    f"stream {self.name}: {column!r} is not a field of contract {contract.name} "
                    f"{contract.version}, which has {sorted(contract.names)}"
                )
        return contract

    def _check_specs(self, key: dg.AssetKey) -> list[dg.AssetCheckSpec]:
        return [
            dg.AssetCheckSpec(
                ROWS_ACCOUNTED,
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
        self, contract: Contract
    ) -> list[tuple[str, str, Any, dict[str, dg.TableColumnDep]]]:
        of_source = self.transport.columns(load_settings())
        accepted = self.description or contract.description or f"Events of {self.name}."
        fields = {name: dg.TableColumnDep(self.asset_key, name) for name in contract.names}
        fields[EVENT_DATE.name] = fields[self.event_time]
        return [
            (
                self.name,
                f"{accepted}\n\nOne row per event.",
                event_schema(contract, of_source),
                fields,
            ),
            (
                f"{self.name}_quarantine",
                (
                    f"Rows of {self.name} that broke its contract, with their raw bytes, the rule "
                    "and the reason.\n\nOne row per refused line."
                ),
                quarantine_schema(of_source),
                {},
            ),
        ]
