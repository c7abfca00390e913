"""A change feed, declared in YAML: a table of changes, and what it says is current and was."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import dagster as dg
from pydantic import Field, PrivateAttr

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
from scale_assets.components.postgres_transport import PostgresTransport
from scale_assets.components.quarantine_view import (
    ReplayConfig,
    quarantine_metadata,
    replay_metadata,
)
from scale_assets.components.transports import Transport
from scale_assets.contracts import Contract, Mode, load_contract
from scale_assets.ingest.changes import ChangeFeed as Changes
from scale_assets.ingest.declared import DeclaredFeed
from scale_assets.ingest.derive import (
    Derived,
    current_schema,
    derive_current,
    derive_history,
    history_schema,
)
from scale_assets.ingest.errors import IngestError
from scale_assets.ingest.feed import IngestReport, account, ingest
from scale_assets.ingest.revalidate import RevalidationReport, revalidate
from scale_assets.lake import Lake
from scale_assets.resources import LakeResource, SettingsResource
from scale_assets.settings import Settings, load_settings

ACCOUNTED = "every_change_is_accounted_for"
WITHIN_LIMIT = "quarantine_within_limit"


class ChangeFeed(dg.Component, dg.Resolvable, dg.Model):
    """Changes to one table of a product database, as Debezium writes them or as a slot tells them.

    `raw/<name>_changes` is append-only and takes each change exactly once; refused lines go to the
    table `raw/<name>_quarantine`. `<name>` (one row per key that exists) and `<name>_history` (one
    row per change, valid_from to valid_to) derive from one Delta version of it, so rebuilding them
    always gives the same rows.
    """

    name: str = Field(description="Name of the source table.", examples=["customers"])
    contract: str = Field(
        description="Path of the table's ODCS contract, relative to this file.",
        examples=["../contracts/customers.odcs.yaml"],
    )
    transport: Transport | PostgresTransport = Field(description="How the changes arrive.")
    key: list[str] = Field(
        min_length=1, description="The source table's primary key; the contract must agree."
    )
    max_quarantined_fraction: float = Field(
        default=0.01,
        ge=0,
        le=1,
        description="Share of all received changes that may be quarantined before a check warns.",
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
        return dg.AssetKey(["raw", f"{self.name}_changes"])

    def feed(self, settings: Settings) -> Changes:
        """What the feed takes in; known once its definitions are built.

        Raises:
            IngestError: Its changes come through a slot.
        """
        if isinstance(self.transport, PostgresTransport):
            raise IngestError(
                f"{self.name} comes through slot {self.transport.slot}: use `scale capture "
                f"{self.name}`, which has --follow and --replay-quarantine, too"
            )
        return self._feed(settings, self._contract_path)

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        path = self._contract_path = contract_path(context, self.contract)
        contract = self.checked_contract(path)
        if isinstance(self.transport, PostgresTransport):
            from scale_assets.components.database_capture import capture_of

            return capture_of(self, self.transport).build_defs(context)
        changes = self._changes_asset(contract, path)
        sensor = arrival_sensor(
            self.name,
            self.transport,
            target=dg.AssetSelection.assets(changes.key),
            status=self.sensor,
        )
        return dg.Definitions(
            assets=[changes, *self.derived_assets(contract)],
            sensors=[sensor],
        )

    def checked_contract(self, path: Path) -> Contract:
        """The contract; its primary key is the declared one, or the definition is refused."""
        contract = load_contract(path)
        if tuple(self.key) != contract.primary_key:
            raise dg.DagsterInvalidDefinitionError(
                f"change feed {self.name}: key {self.key} is not the primary key "
                f"{list(contract.primary_key)} of contract {contract.name} {contract.version}"
            )
        return contract

    def derived_assets(self, contract: Contract) -> list[dg.AssetsDefinition]:
        """What is current and what was, from the table of changes."""
        return [
            self._derived_asset(
                contract,
                self.name,
                "One row per key that exists, with its newest values.",
                derive_current,
                current_schema(contract),
            ),
            self._derived_asset(
                contract,
                f"{self.name}_history",
                "One row per change: values valid from valid_from to before valid_to (null: open).",
                derive_history,
                history_schema(contract),
            ),
        ]

    def _feed(self, settings: Settings, path: Path) -> Changes:
        assert not isinstance(self.transport, PostgresTransport)
        return Changes(
            name=self.name,
            source=self.transport.source(settings),
            contract_path=path,
            table=f"raw/{self.name}_changes",
            quarantine_table=f"raw/{self.name}_quarantine",
            compatibility=Mode(self.compatibility),
        )

    def declared(self, path: Path) -> DeclaredFeed:
        """What tools see of the feed that look after tables and contracts."""
        return DeclaredFeed(
            name=self.name,
            contract_path=path,
            compatibility=Mode(self.compatibility),
            table=f"raw/{self.name}_changes",
            quarantine_table=f"raw/{self.name}_quarantine",
            derived_tables=(self.name, f"{self.name}_history"),
        )

    def _shared(self, contract: Contract) -> dict[str, Any]:
        return {"group_name": self.group, "owners": owners_of(contract, self.owners)}

    def _changes_asset(self, contract: Contract, path: Path) -> dg.AssetsDefinition:
        key = self.asset_key
        schema = self._feed(load_settings(), path).schema(contract)

        @dg.asset(
            key=key,
            description=f"{self.description or contract.description}\n\n"
            "One row per change; (lsn, tx_ordinal) orders and identifies them.",
            kinds={"deltalake", "python"},
            tags=READS_FEED,
            pool=f"table_raw_{self.name}",
            check_specs=[
                dg.AssetCheckSpec(
                    ACCOUNTED,
                    asset=key,
                    blocking=True,
                    description="received = accepted + quarantined + duplicates + tombstones + erased.",
                ),
                dg.AssetCheckSpec(
                    WITHIN_LIMIT,
                    asset=key,
                    description=f"At most {self.max_quarantined_fraction:.2%} of all received.",
                ),
            ],
            metadata={
                "dagster/column_schema": column_schema(contract, schema),
                **feed_metadata(self.declared(path)),
            },
            **self._shared(contract),
        )
        def changes(
            context: dg.AssetExecutionContext,
            config: ReplayConfig,
            lake: LakeResource,
            settings: SettingsResource,
        ) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
            feed, tables = self.feed(settings.values), lake.lake()
            replayed = revalidate(tables, feed) if config.replay_quarantine else None
            yield from self.settle(context, tables, feed, ingest(tables, feed), replayed)

        assert isinstance(changes, dg.AssetsDefinition)
        return changes

    def settle(
        self,
        context: FeedContext,
        lake: Lake,
        feed: Changes,
        report: IngestReport,
        replayed: RevalidationReport | None = None,
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
        yield dg.AssetCheckResult(check_name=ACCOUNTED, passed=totals.is_exact, metadata=counts)
        if not totals.is_exact:
            raise IngestError(f"{self.name}: changes unaccounted for: {totals}")
        contract, _ = feed.load_contract()
        shown = quarantine_metadata(lake, contract, feed.quarantine_table)
        yield dg.AssetCheckResult(
            check_name=WITHIN_LIMIT,
            passed=totals.quarantined <= self.max_quarantined_fraction * totals.received,
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

    def _derived_asset(
        self,
        contract: Contract,
        table: str,
        grain: str,
        derive: Callable[..., Derived],
        schema: Any,
    ) -> dg.AssetsDefinition:
        changes = f"raw/{self.name}_changes"
        changes_key = dg.AssetKey(changes.split("/"))
        sources = {"valid_from": "event_time", "valid_to": "event_time"}
        lineage = {
            column.name: [dg.TableColumnDep(changes_key, sources.get(column.name, column.name))]
            for column in schema
        }

        @dg.asset(
            key=table,
            deps=[changes_key],
            description=f"{self.description or contract.description}\n\n{grain}",
            kinds={"deltalake", "duckdb"},
            automation_condition=dg.AutomationCondition.eager()
            & dg.AutomationCondition.all_deps_blocking_checks_passed(),
            metadata={
                "dagster/column_schema": column_schema(contract, schema),
                "dagster/column_lineage": dg.TableColumnLineage(lineage),
            },
            **self._shared(contract),
        )
        def derived(lake: LakeResource) -> dg.MaterializeResult:
            shown = derive(lake.lake(), contract, changes=changes, table=table)
            return dg.MaterializeResult(
                data_version=dg.DataVersion(str(shown.changes_version)),
                metadata={
                    "dagster/row_count": shown.num_rows,
                    "delta_version": shown.version,
                    "changes_version": shown.changes_version,
                    "is_rewritten": shown.is_rewritten,
                },
            )

        assert isinstance(derived, dg.AssetsDefinition)
        return derived
