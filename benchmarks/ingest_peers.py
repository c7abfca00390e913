"""One way to bring a file of JSON lines into a new Delta table; prints times and peak memory.

python -m benchmarks.ingest_peers NAME FILE FOLDER: a process of its own per run, so that nothing of
an earlier one is warm. Imports are not timed, nor are those that libraries put off until they are used.
"""

import importlib
import json
import resource
import sys
import time
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.json as pj
from deltalake import write_deltalake
from pydantic import BaseModel, Field

from scale_assets.ingest.account import account
from scale_assets.ingest.events import EventFeed
from scale_assets.ingest.file_source import FilesSource
from scale_assets.ingest.ingestion import ingest
from scale_assets.ingest.source import Source
from scale_assets.lake import Lake

CONTRACT = (
    Path(__file__).resolve().parents[1]
    / "scale_assets"
    / "defs"
    / "ingest"
    / "contracts"
    / "clicks.odcs.yaml"
)


def clicks_feed(source: Source) -> EventFeed:
    """The reference pipeline's clicks, from this source."""
    return EventFeed(
        name="clicks",
        source=source,
        contract_path=CONTRACT,
        table="raw/clicks",
        quarantine_table="raw/clicks_quarantine",
        key=("event_id",),
        event_time="event_time",
        start=date(2013, 1, 1),
        end=date(2014, 1, 1),
        dedup_horizon_days=7,
    )


def ours(file: Path, folder: Path) -> None:
    """Contract, quarantine, deduplication, position: two exactly-once tables."""
    feed = clicks_feed(FilesSource(file.parent))
    lake = Lake(str(folder))
    ingest(lake, feed)
    assert account(lake, feed).is_exact


def orjson_rows(file: Path, folder: Path) -> None:
    """The plain script: no check of anything."""
    with file.open("rb") as lines:
        rows = [orjson.loads(line) for line in lines]
    write_deltalake(str(folder), pa.Table.from_pylist(rows))


def arrow_json(file: Path, folder: Path) -> None:
    """Pyarrow's own reader: no check either, and the file must be whole and clean."""
    write_deltalake(str(folder), pj.read_json(file))


class Click(BaseModel):
    """The contract as a pydantic model."""

    event_id: str = Field(min_length=1, max_length=64)
    event_time: datetime = Field(ge=datetime(2000, 1, 1, tzinfo=UTC))
    received_at: datetime = Field(ge=datetime(2000, 1, 1, tzinfo=UTC))
    presentation_id: str = Field(pattern=r"^[A-Z]{3}-\d{4}[BJ]$")
    student_id: int = Field(ge=1)
    site_id: int = Field(ge=1)
    num_clicks: int = Field(ge=1)
    event_order: int = Field(ge=0)


def pydantic_rows(file: Path, folder: Path) -> None:
    """One model per row: the checks of the contract, without quarantine."""
    with file.open("rb") as lines:
        rows = [Click.model_validate_json(line).model_dump() for line in lines]
    write_deltalake(str(folder), pa.Table.from_pylist(rows))


def dlt_pipeline(file: Path, folder: Path) -> None:
    """Dlt's filesystem source and destination, tables in Delta."""
    import dlt  # type: ignore[import-not-found]  # in the bench group
    from dlt.sources.filesystem import (  # type: ignore[import-not-found]
        filesystem,
        read_jsonl,
    )

    pipeline = dlt.pipeline(
        "clicks",
        pipelines_dir=str(folder / "state"),
        destination=dlt.destinations.filesystem(bucket_url=f"file://{folder}/lake"),
        dataset_name="raw",
    )
    lines = filesystem(bucket_url=f"file://{file.parent}", file_glob=file.name) | read_jsonl()
    pipeline.run(lines.with_name("clicks"), table_format="delta")


WAYS: dict[str, Callable[[Path, Path], None]] = {
    "ours": ours,
    "orjson": orjson_rows,
    "pyarrow.json": arrow_json,
    "pydantic": pydantic_rows,
    "dlt": dlt_pipeline,
}


# What our own code, pyarrow and dlt import when they first need it.
IMPORTED_LATE = ("duckdb", "pandas", "pyarrow.dataset", "pyarrow.parquet")
DLT_LATE = ("dlt", "dlt.sources.filesystem", "dlt.destinations")


def main() -> None:
    name, file, folder = sys.argv[1:]
    for module in DLT_LATE if name == "dlt" else IMPORTED_LATE:
        importlib.import_module(module)
    started, cpu_started = time.perf_counter(), time.process_time()
    WAYS[name](Path(file), Path(folder))
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
    peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    measured = {
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,  # of all cores: what to compare on a busy machine
        "peak_memory_bytes": peak_kib << 10,
    }
    print(json.dumps(measured))


if __name__ == "__main__":
    main()
