"""What the three ingest components share: the sensor that sees new input, and what the UI shows."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol, TypeAlias

import dagster as dg
import pyarrow as pa
from pydantic import Field

from scale_assets.components.columns import LINEAGE, SCHEMA
from scale_assets.contracts import Contract
from scale_assets.ingest.declared import DeclaredFeed
from scale_assets.resources import SettingsResource
from scale_assets.settings import Settings

if TYPE_CHECKING:
    from scale_assets.ingest.source import Source

SENSOR_STATUS = {
    "running": dg.DefaultSensorStatus.RUNNING,
    "stopped": dg.DefaultSensorStatus.STOPPED,
}
Compatibility: TypeAlias = Annotated[
    Literal[
        "NONE",
        "BACKWARD",
        "BACKWARD_TRANSITIVE",
        "FORWARD",
        "FORWARD_TRANSITIVE",
        "FULL",
        "FULL_TRANSITIVE",
    ],
    Field(
        description="What a new contract must keep, in Schema Registry's words. A _TRANSITIVE mode "
        "looks at every contract that wrote the table, the others at the last. A contract that "
        "breaks it stops the run before any row."
    ),
]
ROWS_ACCOUNTED = "every_row_is_accounted_for"
CHANGES_ACCOUNTED = "every_change_is_accounted_for"
WITHIN_LIMIT = "quarantine_within_limit"
FEED = "scale/feed"  # metadata of the one asset that reads a feed
READS_FEED = {"scale/reads": "feed"}  # tag of assets that look for new input by themselves


class HasSource(Protocol):
    """What YAML says of how records arrive."""

    def source(self, settings: Settings) -> "Source": ...


class FeedContext(Protocol):
    """Where what a feed took in is logged: a run's own context, or the instance without a run."""

    @property
    def log(self) -> Any: ...

    @property
    def instance(self) -> dg.DagsterInstance: ...

    def log_event(self, event: dg.AssetMaterialization) -> None: ...


def arrival_sensor(
    name: str, transport: HasSource, *, target: dg.AssetSelection, status: str
) -> dg.SensorDefinition:
    """Request one run of ``target`` whenever the source has something new."""

    @dg.sensor(
        name=f"{name}_arrival",
        target=target,
        minimum_interval_seconds=30,
        default_status=SENSOR_STATUS[status],
        description=f"Ingests {name} when its source has something new.",
    )
    def arrival(
        context: dg.SensorEvaluationContext, settings: SettingsResource
    ) -> Iterator[dg.RunRequest | dg.SkipReason]:
        source = transport.source(settings.values)
        found = source.fingerprint()
        if found is None:
            yield dg.SkipReason(f"{source.describe()} does not exist yet")
            return
        if found == context.cursor:
            yield dg.SkipReason(f"nothing new in {source.describe()}")
            return
        context.update_cursor(found)
        yield dg.RunRequest(run_key=f"{name}-{found}")

    return arrival


def feed_metadata(feed: DeclaredFeed) -> dict[str, dg.MetadataValue]:
    """Says of a feed's asset which contract and tables are the feed's."""
    return {FEED: dg.MetadataValue.json(feed.as_json())}


def declared_feeds(definitions: dg.Definitions) -> list[DeclaredFeed]:
    """Every feed that the definitions declare, by name."""
    graph = definitions.resolve_asset_graph()
    said = (graph.get(key).metadata.get(FEED) for key in graph.get_all_asset_keys())
    found = [DeclaredFeed.from_json(entry.value) for entry in said if entry is not None]
    return sorted(found, key=lambda feed: feed.name)


def column_schema(contract: Contract, schema: pa.Schema) -> dg.TableSchema:
    """The table's columns as the UI shows them; descriptions come from the contract."""
    described = {field.name: field for field in contract.fields}
    columns = []
    for column in schema:
        field = described.get(column.name)
        columns.append(
            dg.TableColumn(
                column.name,
                type=str(column.type),
                description=field.description if field else None,
                tags={"pii": field.pii} if field and field.pii else None,
            )
        )
    return dg.TableSchema(columns)


def column_metadata(
    contract: Contract, schema: pa.Schema, fields: Mapping[str, dg.TableColumnDep] | None = None
) -> dict[str, Any]:
    """A table's columns as the UI shows them, and the column that each is made from.

    Those that are none of ``fields`` begin here: with what the source sent, or with us.
    """
    deps = {name: [dep] for name, dep in (fields or {}).items()}
    lineage = {column.name: deps.get(column.name, []) for column in schema}
    return {SCHEMA: column_schema(contract, schema), LINEAGE: dg.TableColumnLineage(lineage)}


def contract_path(context: dg.ComponentLoadContext, path: str) -> Path:
    """A contract's path as YAML gives it: relative to the defs.yaml that names it."""
    return (context.path / path).resolve()


def owners_of(contract: Contract, declared: Sequence[str]) -> list[str]:
    """The declared owners, else the contract's."""
    return list(declared) or ([contract.owner] if contract.owner else [])
