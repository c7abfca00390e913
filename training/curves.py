"""Training curves: one row per epoch and metric."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

SCHEMA = pa.schema(
    [
        ("epoch", pa.int64()),
        ("step", pa.int64()),
        ("metric", pa.string()),
        ("value", pa.float64()),
    ]
)


class Curves:
    """Collects metrics while training runs; `curves.parquet` is read by the report."""

    def __init__(self) -> None:
        self.rows: list[dict[str, int | float | str]] = []

    def add(self, epoch: int, step: int, metrics: dict[str, float]) -> None:
        self.rows += [
            {"epoch": epoch, "step": step, "metric": name, "value": value}
            for name, value in metrics.items()
        ]

    def write(self, path: Path) -> None:
        pq.write_table(pa.Table.from_pylist(self.rows, schema=SCHEMA), path)
