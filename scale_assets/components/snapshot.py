"""A snapshot feed, declared in YAML: the newest whole copy of a source table, in the lake."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import dagster as dg
from pydantic import Field, PrivateAttr

from scale_assets.components.feed_assets import (
    READS_FEED,
    Compatibility,
    arrival_sensor,
    column_metadata,
    contract_path,
    feed_metadata,
    owners_of,
)
from scale_assets.components.quarantine_view import quarantine_metadata
from scale_assets.components.transports import FilesTransport
from scale_assets.contracts import Contract, Mode, load_contract
from scale_assets.ingest.columns import snapshot_schema
from scale_assets.ingest.declared import DeclaredFeed
from scale_assets.resources import LakeResource, SettingsResource

ROW_COUNT = "row_count_is_plausible"
SCHEMA = "columns_are_unchanged"


class Snapshot(dg.Component, dg.Resolvable, dg.Model):
    """Whole copies of a small source table; `raw/<name>` shows the newest, replaced atomically.

    A copy that breaks the contract, or has far fewer rows than the one before, is refused: the
    table keeps what it shows, and the refused rows go to the table `raw/<name>_quarantine`.
    """

    name: str = Field(description="Name of the source table.", examples=["sites"])
    contract: str = Field(
        description="Path of the table's ODCS contract, relative to this file.",
        examples=["../contracts/sites.odcs.yaml"],
    )
    transport: FilesTransport = Field(description="How copies arrive; the last by name is newest.")
    min_row_ratio: float = Field(
        default=0.5,
        ge=0,
        description="A copy with fewer rows than this share of the table's is refused.",
    )
    max_quarantined_fraction: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Share of a copy's rows that may break the contract before it is refused.",
    )
    compatibility: Compatibility = "BACKWARD_TRANSITIVE"
    sensor: Literal["running", "stopped"] = Field(
        default="stopped", description="Whether the file-arrival sensor starts switched on."
    )
    description: str = Field(default="", description="Shown in the UI; else the contract's.")
    group: str = Field(default="ingest", description="Group of the asset in the UI.")
    owners: list[str] = Field(
        default_factory=list, description="Users or teams; else the contract's owner."
    )

    _contract_path: Path = PrivateAttr()

    def declared_contracts(self) -> dict[str, Contract]:
        """The contract of each feed that it declares; known once its definitions are built."""
        return {self.name: load_contract(self._contract_path)}

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        path = self._contract_path = contract_path(context, self.contract)
        contract = load_contract(path)
        key = dg.AssetKey(["raw", self.name])

        @dg.asset(
            key=key,
            description=f"{self.description or contract.description}\n\nThe newest snapshot.",
            kinds={"deltalake", "python"},
            tags=READS_FEED,
            group_name=self.group,
            owners=owners_of(contract, self.owners),
            pool=f"table_raw_{self.name}",
            check_specs=[
                dg.AssetCheckSpec(
                    ROW_COUNT,
                    asset=key,
                    description=f"Not empty, and at least {self.min_row_ratio:.0%} of the rows "
                    "of the snapshot before.",
                ),
                dg.AssetCheckSpec(
                    SCHEMA, asset=key, description="The same columns as the snapshot before."
                ),
            ],
            metadata={
                **column_metadata(contract, snapshot_schema(contract)),
                **feed_metadata(
                    DeclaredFeed(
                        name=self.name,
                        contract_path=path,
                        compatibility=Mode(self.compatibility),
                        table=f"raw/{self.name}",
                        quarantine_table=f"raw/{self.name}_quarantine",
                        has_account=False,
                    )
                ),
            },
        )
        def snapshot(
            lake: LakeResource, settings: SettingsResource
        ) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
            from scale_assets.ingest.snapshots import SnapshotFeed, ingest_snapshot

            report = ingest_snapshot(
                lake.lake(),
                SnapshotFeed(
                    name=self.name,
                    folder=self.transport.folder(settings.values),
                    contract_path=path,
                    table=f"raw/{self.name}",
                    quarantine_table=f"raw/{self.name}_quarantine",
                    max_quarantined_fraction=self.max_quarantined_fraction,
                    min_row_ratio=self.min_row_ratio,
                    compatibility=Mode(self.compatibility),
                ),
            )
            yield dg.AssetCheckResult(
                check_name=ROW_COUNT,
                passed=report.num_accepted > 0,  # a drop beyond min_row_ratio has raised already
                severity=dg.AssetCheckSeverity.WARN,
                metadata={"rows": report.num_accepted, "rows_before": report.num_rows_before},
            )
            yield dg.AssetCheckResult(
                check_name=SCHEMA,
                passed=not (report.added_columns or report.removed_columns),
                severity=dg.AssetCheckSeverity.WARN,
                metadata={"added": report.added_columns, "removed": report.removed_columns},
            )
            yield dg.MaterializeResult(
                data_version=dg.DataVersion(str(report.version)),
                metadata={
                    "dagster/row_count": report.num_accepted,
                    "delta_version": report.version,
                    "file": report.file_name,
                    "received": report.num_received,
                    "quarantined": report.num_quarantined,
                    "is_replaced": report.is_replaced,
                    **quarantine_metadata(lake.lake(), contract, f"raw/{self.name}_quarantine"),
                },
            )

        sensor = arrival_sensor(
            self.name, self.transport, target=dg.AssetSelection.assets(key), status=self.sensor
        )
        return dg.Definitions(assets=[snapshot], sensors=[sensor])
