"""A captured PostgreSQL database, declared in YAML: several tables through one slot."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import dagster as dg
from pydantic import Field, PrivateAttr

from scale_assets.components.capture_checks import CaptureRun, checks_of
from scale_assets.components.change_feed import ChangeFeed
from scale_assets.components.feed_assets import (
    READS_FEED,
    Compatibility,
    arrival_sensor,
    column_metadata,
    contract_path,
    feed_metadata,
    owners_of,
)
from scale_assets.components.postgres_transport import (
    CONNECTION,
    PUBLICATION,
    SLOT,
    TABLE,
    PostgresTransport,
)
from scale_assets.contracts import Contract, Mode, load_contract
from scale_assets.ingest.columns import captured_schema
from scale_assets.resources import LakeResource, SettingsResource
from scale_assets.settings import Settings

if TYPE_CHECKING:
    from scale_assets.ingest.postgres.changes import PostgresChanges
    from scale_assets.ingest.postgres.connection import Database
    from scale_assets.ingest.postgres.source import PostgresSource
    from scale_assets.ingest.postgres.spec import CaptureSpec


class CapturedTable(dg.Resolvable, dg.Model):
    """One table of the database."""

    name: str = Field(description="What its tables and assets are called.", examples=["customers"])
    table: str = Field(description=TABLE, examples=["public.customers"])
    contract: str = Field(
        description="Path of the table's ODCS contract, relative to this file.",
        examples=["../contracts/customers.odcs.yaml"],
    )
    key: list[str] = Field(
        min_length=1, description="The table's primary key; the contract must agree."
    )
    compatibility: Compatibility = "BACKWARD_TRANSITIVE"
    description: str = Field(default="", description="Shown in the UI; else the contract's.")


class DatabaseCapture(dg.Component, dg.Resolvable, dg.Model):
    """Changes to tables of a PostgreSQL database, read from its log without a broker in between.

    One step reads the slot once and fills `raw/<name>_changes` of every table, each change exactly
    once: first what a table holds (`op` r), then each insert, update, delete and truncate. `<name>`
    and `<name>_history` derive from it, as with ChangeFeed. The server is told what it may forget
    only after every table's commit.
    """

    name: str = Field(description="Name of the capture.", examples=["shop"])
    connection: str = Field(description=CONNECTION, examples=["shop"])
    slot: str = Field(description=SLOT, examples=["scale_shop"])
    publication: str = Field(description=PUBLICATION, examples=["scale_shop"])
    tables: list[CapturedTable] = Field(min_length=1, description="Tables to capture.")
    max_quarantined_fraction: float = Field(
        default=0.01,
        ge=0,
        le=1,
        description="Share of a table's changes that may be quarantined before a check warns.",
    )
    max_batch_mib: int = Field(
        default=64, gt=0, description="Mebibytes of the server's text held in memory at once."
    )
    simulated_clock: bool = Field(
        default=False,
        description="Whether the database replays history, so that its transactions themselves "
        "say when they happened (`scale replay --to`).",
    )
    sensor: Literal["running", "stopped"] = Field(
        default="stopped", description="Whether the sensor of new changes starts switched on."
    )
    group: str = Field(default="ingest", description="Group of the assets in the UI.")
    owners: list[str] = Field(
        default_factory=list, description="Users or teams; else the contracts' owners."
    )

    _contract_paths: dict[str, Path] = PrivateAttr()

    def declared_contracts(self) -> dict[str, Contract]:
        """The contract of each captured table; known once the definitions are built."""
        return {name: load_contract(path) for name, path in self._contract_paths.items()}

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        paths = [contract_path(context, table.contract) for table in self.tables]
        self._contract_paths = dict(zip((t.name for t in self.tables), paths, strict=True))
        feeds = [self._change_feed(table) for table in self.tables]
        changes = self._changes_assets(paths)
        derived = [
            asset
            for feed, path in zip(feeds, paths, strict=True)
            for asset in feed.derived_assets(load_contract(path))
        ]
        sensor = arrival_sensor(
            self.name,
            self,
            target=dg.AssetSelection.assets(*changes.keys),
            status=self.sensor,
        )
        return dg.Definitions(assets=[changes, *derived], sensors=[sensor])

    def source(self, settings: Settings) -> "PostgresSource":
        """What tells the sensor that there is something new."""
        return self._source(self._database(settings))

    def _source(self, database: "Database") -> "PostgresSource":
        from scale_assets.ingest.postgres.source import PostgresSource

        tables = tuple(table.table for table in self.tables)
        return PostgresSource(database, self.slot, tables)

    def _database(self, settings: Settings) -> "Database":
        from scale_assets.ingest.postgres.connection import Database

        return Database(self.connection, settings.postgres_dsn(self.connection))

    def _spec(self, settings: Settings) -> "CaptureSpec":
        from scale_assets.ingest.postgres.spec import CaptureSpec

        return CaptureSpec(
            name=self.name,
            database=self._database(settings),
            slot=self.slot,
            publication=self.publication,
            max_batch_bytes=self.max_batch_mib << 20,
            simulated_clock=self.simulated_clock,
        )

    def _feeds(self, database: "Database", paths: Sequence[Path]) -> "list[PostgresChanges]":
        from scale_assets.ingest.postgres.changes import PostgresChanges

        return [
            PostgresChanges(
                name=table.name,
                source=self._source(database),
                contract_path=path,
                table=f"raw/{table.name}_changes",
                quarantine_table=f"raw/{table.name}_quarantine",
                relation=table.table,
                compatibility=Mode(table.compatibility),
            )
            for table, path in zip(self.tables, paths, strict=True)
        ]

    def _change_feed(self, table: CapturedTable) -> ChangeFeed:
        """The table as a feed of its own, which declares what derives from its changes."""
        return ChangeFeed(
            name=table.name,
            contract=table.contract,
            transport=PostgresTransport(
                type="postgres",
                connection=self.connection,
                slot=self.slot,
                publication=self.publication,
                table=table.table,
            ),
            key=table.key,
            compatibility=table.compatibility,
            description=table.description,
            group=self.group,
            owners=self.owners,
        )

    def _changes_assets(self, paths: Sequence[Path]) -> dg.AssetsDefinition:
        specs = [self._spec_of(table, path) for table, path in zip(self.tables, paths, strict=True)]

        @dg.multi_asset(
            name=f"capture_{self.name}",
            specs=specs,
            check_specs=[
                check
                for spec in specs
                for check in checks_of(spec.key, self.max_quarantined_fraction)
            ],
            pool=f"capture_{self.name}",
        )
        def changes(
            context: dg.AssetExecutionContext,
            config: CaptureRun,
            lake: LakeResource,
            settings: SettingsResource,
        ) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
            from scale_assets.components.capture_runs import run_capture

            spec = self._spec(settings.values)
            feeds = self._feeds(spec.database, paths)
            yield from run_capture(
                context,
                lake.lake(),
                spec,
                feeds,
                config,
                max_quarantined_fraction=self.max_quarantined_fraction,
            )

        return changes

    def _spec_of(self, table: CapturedTable, path: Path) -> dg.AssetSpec:
        declared = self._change_feed(table)
        contract = declared.checked_contract(path)
        return dg.AssetSpec(
            declared.asset_key,
            description=f"{table.description or contract.description}\n\n"
            "One row per change; (lsn, tx_ordinal) orders and identifies them.",
            kinds={"deltalake", "postgres"},
            tags=READS_FEED,
            group_name=self.group,
            owners=owners_of(contract, self.owners),
            metadata={
                **column_metadata(contract, captured_schema(contract)),
                **feed_metadata(declared.declared(path)),
            },
        )


def capture_of(feed: ChangeFeed, transport: PostgresTransport) -> DatabaseCapture:
    """A feed through a slot of its own is the capture of one table."""
    return DatabaseCapture(
        name=feed.name,
        connection=transport.connection,
        slot=transport.slot,
        publication=transport.publication,
        tables=[
            CapturedTable(
                name=feed.name,
                table=transport.table,
                contract=feed.contract,
                key=feed.key,
                compatibility=feed.compatibility,
                description=feed.description,
            )
        ],
        max_quarantined_fraction=feed.max_quarantined_fraction,
        sensor=feed.sensor,
        group=feed.group,
        owners=feed.owners,
    )
