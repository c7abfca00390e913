"""A change feed, declared in YAML: a table of changes, and what it says is current and was."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import dagster as dg
from pydantic import Field, PrivateAttr

from scale_assets.components.automation import when_inputs_passed_their_checks
from scale_assets.components.feed_assets import (
    CHANGES_ACCOUNTED,
    READS_FEED,
    WITHIN_LIMIT,
    Compatibility,
    FeedContext,
    arrival_sensor,
    column_metadata,
    contract_path,
    feed_metadata,
    owners_of,
)
from scale_assets.components.postgres_transport import PostgresTransport
from scale_assets.components.quarantine_view import ReplayConfig
from scale_assets.components.transports import Transport
from scale_assets.contracts import Contract, Mode, load_contract
from scale_assets.contracts.change_schema import UNCHANGED
from scale_assets.ingest.columns import (
    SEGMENT,
    UNAVAILABLE,
    changes_schema,
    current_schema,
    history_schema,
)
from scale_assets.ingest.declared import DeclaredFeed
from scale_assets.ingest.errors import IngestError
from scale_assets.resources import LakeResource, SettingsResource
from scale_assets.settings import Settings, load_settings

if TYPE_CHECKING:
    from scale_assets.ingest.account import IngestReport
    from scale_assets.ingest.changes import ChangeFeed as Changes
    from scale_assets.ingest.revalidate import RevalidationReport
    from scale_assets.lake import Lake

# Columns of the derived tables that have another name among the changes.
MADE_FROM = {
    "valid_from": "event_time",
    "valid_to": "event_time",
    UNAVAILABLE.name: UNCHANGED.name,
}


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

    def feed(self, settings: Settings) -> "Changes":
        """What the feed takes in; known once its definitions are built.

        Raises:
            IngestError: Its changes come through a slot.
        """
        if isinstance(self.transport, PostgresTransport):
            raise IngestError(
                f"{self.name} comes through slot {self.transport.slot}: use `scale capture "
                f"{self.name}`, which has --follow and --replay-quarantine, too"
            )
        from scale_assets.ingest.changes import ChangeFeed as Changes

        return Changes(
            name=self.name,
            source=self.transport.source(settings),
            contract_path=self._contract_path,
            table=f"raw/{self.name}_changes",
            quarantine_table=f"raw/{self.name}_quarantine",
            compatibility=Mode(self.compatibility),
        )

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
                current_schema(contract),
                is_history=False,
            ),
            self._derived_asset(
                contract,
                f"{self.name}_history",
                "One row per change: values valid from valid_from to before valid_to (null: open).",
                history_schema(contract),
                is_history=True,
            ),
        ]

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
        assert not isinstance(self.transport, PostgresTransport)
        schema = changes_schema(contract, self.transport.columns(load_settings()))

        @dg.asset(
            key=key,
            description=f"{self.description or contract.description}\n\n"
            "One row per change; (lsn, tx_ordinal) orders and identifies them.",
            kinds={"deltalake", "python"},
            tags=READS_FEED,
            pool=f"table_raw_{self.name}",
            check_specs=[
                dg.AssetCheckSpec(
                    CHANGES_ACCOUNTED,
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
                **column_metadata(contract, schema),
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
            from scale_assets.ingest.ingestion import ingest
            from scale_assets.ingest.revalidate import revalidate

            feed, tables = self.feed(settings.values), lake.lake()
            replayed = revalidate(tables, feed) if config.replay_quarantine else None
            yield from self.settle(context, tables, feed, ingest(tables, feed), replayed)

        assert isinstance(changes, dg.AssetsDefinition)
        return changes

    def settle(
        self,
        context: FeedContext,
        lake: "Lake",
        feed: "Changes",
        report: "IngestReport",
        replayed: "RevalidationReport | None" = None,
    ) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
        """Check and log what was taken in since the last time."""
        from scale_assets.components.change_run import settle_changes

        limit = self.max_quarantined_fraction
        yield from settle_changes(
            context, lake, feed, report, replayed, max_quarantined_fraction=limit
        )

    def _derived_asset(
        self,
        contract: Contract,
        table: str,
        grain: str,
        schema: Any,
        *,
        is_history: bool,
    ) -> dg.AssetsDefinition:
        changes = f"raw/{self.name}_changes"
        changes_key = dg.AssetKey(changes.split("/"))
        fields = {
            column.name: dg.TableColumnDep(changes_key, MADE_FROM.get(column.name, column.name))
            for column in schema
            if column.name != SEGMENT.name  # where the row is kept: no change says that
        }

        @dg.asset(
            key=table,
            deps=[changes_key],
            description=f"{self.description or contract.description}\n\n{grain}",
            kinds={"deltalake", "duckdb"},
            automation_condition=when_inputs_passed_their_checks(),
            metadata=column_metadata(contract, schema, fields),
            **self._shared(contract),
        )
        def derived(lake: LakeResource) -> dg.MaterializeResult:
            from scale_assets.ingest.derive import derive_current, derive_history

            derive = derive_history if is_history else derive_current
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
