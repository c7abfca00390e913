"""What the three ingest components share: where files arrive, and the sensor that sees them."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import dagster as dg
import pyarrow as pa
from pydantic import Field

from scale_assets.contracts import Contract
from scale_assets.ingest.files import list_files
from scale_assets.resources import SettingsResource

SENSOR_STATUS = {
    "running": dg.DefaultSensorStatus.RUNNING,
    "stopped": dg.DefaultSensorStatus.STOPPED,
}


READS_FEED = {"scale/reads": "feed"}  # tag of assets that look for new input by themselves


class FilesTransport(dg.Resolvable, dg.Model):
    """JSON-lines files, plain or gzipped, that a source drops into one folder."""

    type: Literal["files"] = Field(description="How the rows arrive; 'files' is a folder.")
    path: str = Field(
        description="The folder, relative to the feeds folder of the settings; absolute is kept.",
        examples=["clicks"],
    )

    def folder(self, settings: SettingsResource) -> Path:
        return settings.values.feeds_dir / self.path


def arrival_sensor(
    name: str, transport: FilesTransport, *, target: dg.AssetSelection, status: str
) -> dg.SensorDefinition:
    """Request one run of ``target`` whenever the folder's listing has changed."""

    @dg.sensor(
        name=f"{name}_arrival",
        target=target,
        minimum_interval_seconds=30,
        default_status=SENSOR_STATUS[status],
        description=f"Ingests {name} when files arrive in its folder.",
    )
    def file_arrival(
        context: dg.SensorEvaluationContext, settings: SettingsResource
    ) -> Iterator[dg.RunRequest | dg.SkipReason]:
        folder = transport.folder(settings)
        if not folder.is_dir():
            yield dg.SkipReason(f"{folder} does not exist yet")
            return
        listing = _listing(list_files(folder))
        if listing == context.cursor:
            yield dg.SkipReason(f"nothing new in {folder}")
            return
        context.update_cursor(listing)
        yield dg.RunRequest(run_key=f"{name}-{listing}")

    return file_arrival


def _listing(paths: Sequence[Path]) -> str:
    """A digest of names, sizes and times: changes whenever a file arrives or is replaced."""
    digest = hashlib.sha256()
    for path in paths:
        stat = path.stat()
        digest.update(f"{path.name} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


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


def contract_path(context: dg.ComponentLoadContext, path: str) -> Path:
    """A contract's path as YAML gives it: relative to the defs.yaml that names it."""
    return (context.path / path).resolve()


def owners_of(contract: Contract, declared: Sequence[str]) -> list[str]:
    """The declared owners, else the contract's."""
    return list(declared) or ([contract.owner] if contract.owner else [])
