"""A small seeded dataset folder with a signal that any sensible model finds."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

LABELS = ["cancelled_within_7d", "cancelled_within_28d"]
NUMERIC = ["presentation_day", "clicks_7d", "mean_score", "constant", "never_known"]
CATEGORICAL = ["module_id", "region"]


def split_table(*, num_students: int, seed: int, extra_region: str | None = None) -> pa.Table:
    generator = np.random.default_rng(seed)
    days = np.tile(np.arange(28, 28 + 7 * 4, 7), num_students)
    num_rows = len(days)
    clicks = generator.poisson(30, num_rows).astype(float) * generator.integers(0, 2, num_rows)
    score = np.where(generator.random(num_rows) < 0.3, np.nan, generator.uniform(0, 100, num_rows))
    module = generator.choice(["AAA", "BBB"], num_rows)
    region = generator.choice(["North", "South", ""], num_rows).astype(object)
    if extra_region:
        region[: num_rows // 4] = extra_region
    chance = 1 / (1 + np.exp(1.5 + clicks / 10 - (module == "BBB") - np.isnan(score)))
    within_28d = generator.random(num_rows) < chance
    within_7d = within_28d & (generator.random(num_rows) < 0.5)
    return pa.table(
        {
            "registration_id": [f"AAA-2013B-{seed}{row // 4:04d}" for row in range(num_rows)],
            "label_time": pa.array(days * 86_400_000_000, pa.timestamp("us", tz="UTC")),
            "presentation_id": ["AAA-2013B"] * num_rows,
            "presentation_day": pa.array(days, pa.int32()),
            "cancelled_within_7d": pa.array(within_7d),
            # the horizon of the last day is still open
            "cancelled_within_28d": pa.array(within_28d, mask=days == days.max()),
            "clicks_7d": pa.array(clicks.astype(np.int64)),
            "mean_score": pa.array(score, mask=np.isnan(score)),
            "constant": [1.0] * num_rows,
            "never_known": pa.nulls(num_rows, pa.float64()),
            "module_id": module.tolist(),
            "region": pa.array([text or None for text in region], pa.string()),
        }
    )


def write_dataset(folder: Path, *, num_students: int = 250) -> Path:
    splits = {
        "train": split_table(num_students=num_students, seed=1),
        "test": split_table(num_students=num_students, seed=2, extra_region="Mars"),
    }
    for name, table in splits.items():
        (folder / name).mkdir(parents=True)
        pq.write_table(table, folder / name / "part-0.parquet")
    manifest = {
        "name": "withdrawal",
        "kind": "tabular",
        "entity": "registration_id",
        "time": "label_time",
        "labels": LABELS,
        "numeric": NUMERIC,
        "categorical": CATEGORICAL,
        "splits": {name: [f"{name}/part-0.parquet"] for name in splits},
        "delta_versions": {"withdrawal_labels": 3},
        "contract_versions": {"clicks": "1.0.0"},
        "evaluation": {
            "cancelled_within_28d": {"column": "presentation_day", "first": 28, "every": 14}
        },
    }
    (folder / "dataset.json").write_text(json.dumps(manifest))
    return folder
