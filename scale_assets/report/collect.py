"""Reads what the report shows from the lake, the training folder and the run log."""

import json
from collections import Counter
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import duckdb

from scale_assets.ingest import positions
from scale_assets.lake import Lake


@dataclass(frozen=True)
class StreamCounts:
    """Rows of one stream or change feed by what became of them."""

    name: str
    received: int
    accepted: int
    quarantined: int
    duplicates: int


@dataclass(frozen=True)
class World:
    """What the replay wrote into the feeds so far."""

    source: str
    presentations: list[str]
    first_day: str  # ISO dates
    last_day: str

    @property
    def modules(self) -> list[str]:
        return sorted({name.partition("-")[0] for name in self.presentations})


def replayed_world(feeds_dir: Path) -> World | None:
    """What the feeds are made from, where the replay wrote them; None where something else did."""
    manifest = feeds_dir / "replay.json"
    days = sorted(path.stem for path in feeds_dir.glob("*/*.jsonl"))
    if not manifest.is_file() or not days:
        return None
    said = json.loads(manifest.read_text())
    return World(
        source=said.get("source") or f"fingerprint {said['fingerprint'][:12]}",
        presentations=said["presentations"],
        first_day=days[0],
        last_day=days[-1],
    )


def stream_counts(lake: Lake) -> list[StreamCounts]:
    """What every stream and change feed received, counted while it was read."""
    counts = []
    for quarantine in (name for name in lake.tables() if name.endswith("_quarantine")):
        stream = quarantine.removesuffix("_quarantine")
        for table in (stream, f"{stream}_changes"):
            if not lake.exists(table):
                continue
            handle, name = lake.open(table), stream.removeprefix("raw/")
            received = positions.counter(handle, name, "received")
            if received:
                counts.append(
                    StreamCounts(
                        name=table,
                        received=received,
                        accepted=lake.num_rows(table),
                        quarantined=lake.num_rows(quarantine),
                        duplicates=positions.counter(handle, name, "duplicates"),
                    )
                )
    return counts


def table_counts(lake: Lake) -> list[tuple[str, int, int]]:
    """Name, rows and Delta version of every table."""
    return [(table, lake.num_rows(table), lake.version(table)) for table in lake.tables()]


def weekly(
    lake: Lake, table: str, *, day: str, value: str = "count(*)"
) -> list[tuple[date, float]]:
    """``value`` per calendar week of the expression ``day``."""
    query = (
        f"select date_trunc('week', {day})::date as week, {value} from "
        f"({lake.duckdb_relation_sql(table)}) where {day} is not null group by 1 order by 1"
    )
    with duckdb.connect() as connection:
        return connection.execute(query).fetchall()


def evaluations(training_dir: Path) -> dict[str, dict[str, Any]]:
    """The evaluation of every model that has one."""
    return {
        path.relative_to(training_dir).parts[0]: json.loads(path.read_text())
        for path in sorted(training_dir.glob("*/**/evaluation.json"))
    }


def gate_sentence(training_dir: Path, model: str) -> str | None:
    """What the gate decided, in its own words."""
    for path in sorted((training_dir / model).glob("**/gate.json")):
        return str(json.loads(path.read_text())["sentence"])
    return None


def training_curves(training_dir: Path, model: str) -> dict[str, list[tuple[float, float]]]:
    """(epoch, value) per metric of the model's network."""
    import pyarrow.parquet as pq

    curves: dict[str, list[tuple[float, float]]] = {}
    for path in sorted((training_dir / model).glob("network/curves.parquet")):
        for row in pq.read_table(path).to_pylist():
            curves.setdefault(row["metric"], []).append((row["epoch"], row["value"]))
    return {name: points for name, points in curves.items() if len(points) > 1}


def stage_seconds(data_dir: Path) -> dict[str, float]:
    """Seconds that each stage took in the newest run that had work for it."""
    log = data_dir / "runs.jsonl"
    seconds: dict[str, float] = {}
    for line in log.read_text().splitlines() if log.is_file() else []:
        of_run: Counter[str] = Counter()
        for step in json.loads(line)["steps"]:
            of_run[step["name"]] += step["seconds"]
        seconds |= of_run
    return seconds
