"""ALS learns from days before the cut alone, and ranks in the format that all candidates share."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from scale_assets.defs.models.next_site.als import SCHEMA, train
from scale_assets.transforms.tables import TransformError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

CUT_DAY = 10


def write_dataset(folder: Path, sequences: dict[str, list[tuple[int, int]]]) -> Path:
    """Sequences are (site, day) pairs; sites 1 to 6 are one presentation's, 7 another's."""
    folder.mkdir()
    table = pa.table(
        {
            "registration_id": list(sequences),
            "presentation_id": ["P"] * len(sequences),
            "site_ids": [[site for site, _ in pairs] for pairs in sequences.values()],
            "days": [[day for _, day in pairs] for pairs in sequences.values()],
        }
    )
    pq.write_table(table, folder / "sequences.parquet")
    sites = pa.table({"site_id": list(range(1, 8)), "presentation_id": ["P"] * 6 + ["Q"]})
    pq.write_table(sites, folder / "sites.parquet")
    manifest = {"kind": "sequence", "evaluation": {"test_cut_day": CUT_DAY}}
    (folder / "dataset.json").write_text(json.dumps(manifest))
    return folder


def ranked(predictions: pa.Table, registration: str, name: str) -> list[dict[str, object]]:
    mine = (pc.field("registration_id") == registration) & (pc.field("list") == name)
    return predictions.filter(mine).sort_by("rank").to_pylist()


def test_both_lists_rank_the_presentation_after_the_cut(
    spark: "SparkSession", tmp_path: Path
) -> None:
    tastes = {f"a{n}": [(site, day) for day in range(5) for site in (1, 2, 3)] for n in range(8)}
    tastes |= {f"b{n}": [(site, day) for day in range(5) for site in (4, 5)] for n in range(8)}
    tastes["ada"] = [(1, 1), (2, 1), (1, 2), (2, 2), (1, 12), (3, 12), (6, 13)]
    tastes["gone"] = [(1, 3)]
    tastes["late"] = [(1, 11)]
    dataset = write_dataset(tmp_path / "dataset", tastes)

    train(
        spark=spark,
        dataset=dataset,
        output=tmp_path / "als",
        report=print,
        rank=4,
        iterations=5,
    )

    predictions = pq.read_table(tmp_path / "als" / "predictions.parquet")
    assert predictions.schema == SCHEMA
    assert set(predictions["registration_id"].to_pylist()) == {"ada"}  # seen before and after
    everything = ranked(predictions, "ada", "all")
    assert [row["rank"] for row in everything] == [1, 2, 3, 4, 5, 6]
    assert {row["site_id"] for row in everything[:3]} == {1, 2, 3}
    assert {row["site_id"] for row in everything if row["relevant"]} == {1, 3}
    assert {row["num_relevant"] for row in everything} == {2}
    discovery = ranked(predictions, "ada", "discovery")
    assert discovery[0]["site_id"] == 3  # as those who share its taste opened
    assert {row["site_id"] for row in discovery} == {3, 4, 5, 6}
    assert {row["num_relevant"] for row in discovery} == {1}


def test_nothing_before_the_cut_is_named(spark: "SparkSession", tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "dataset", {"ada": [(1, 11)]})

    with pytest.raises(TransformError, match="nothing was opened before day 10"):
        train(spark=spark, dataset=dataset, output=tmp_path, report=print)
