"""Alternating least squares on implicit counts: which sites a registration opens next.

Shape suffixes: R = registrations of one presentation that are ranked, C = its sites, K = factors.
"""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from scale_assets.transforms.tables import TransformError

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

TOP = 50  # ranks kept per registration and list
SCHEMA = pa.schema(
    [
        ("registration_id", pa.string()),
        ("list", pa.string()),
        ("rank", pa.int32()),
        ("site_id", pa.int64()),
        ("relevant", pa.bool_()),
        ("num_relevant", pa.int32()),
    ]
)


def train(
    *,
    spark: "SparkSession",
    dataset: Path,
    output: Path,
    report: Callable[[dict[str, float]], None],
    rank: int = 32,
    iterations: int = 10,
    regularization: float = 0.05,
    confidence: float = 10.0,
    seed: int = 0,
) -> None:
    """Factorise days of use before the test cut, rank every site of the presentation.

    Implicit feedback after Hu, Koren and Volinsky (ICDM 2008): confidence grows with the number
    of days on which a registration opened a site.
    """
    source = SequenceFolder.open(dataset)
    output.mkdir(parents=True, exist_ok=True)
    opened = source.entries.filter(pc.field("day") < source.cut_day)
    if opened.num_rows == 0:
        raise TransformError(f"{dataset}: nothing was opened before day {source.cut_day}")
    started = time.monotonic()
    factors = _factorise(
        spark,
        opened,
        rank=rank,
        maxIter=iterations,
        regParam=regularization,
        alpha=confidence,
        seed=seed,
    )
    report({"num_entries": float(opened.num_rows), "fit_seconds": time.monotonic() - started})
    with pq.ParquetWriter(output / "predictions.parquet", SCHEMA) as writer:
        for ranking in source.rankings(factors):
            writer.write_table(ranking)


@dataclass(frozen=True)
class Factors:
    """A vector per registration row and per site; None where nothing was learned."""

    registrations: dict[int, np.ndarray]
    sites: dict[int, np.ndarray]
    size: int

    def scores(self, rows_R: np.ndarray, sites_C: np.ndarray) -> np.ndarray:
        """Preference of each registration for each site, (R, C); 0 for a site never opened."""
        rows_RK = self._stacked(self.registrations, rows_R)
        sites_CK = self._stacked(self.sites, sites_C)
        return np.asarray(rows_RK @ sites_CK.T)

    def _stacked(self, known: dict[int, np.ndarray], ids: np.ndarray) -> np.ndarray:
        unknown = np.zeros(self.size, dtype=np.float32)
        return np.stack([known.get(int(one), unknown) for one in ids])


def _factorise(spark: "SparkSession", opened: pa.Table, *, rank: int, **settings: Any) -> Factors:
    from pyspark.ml.recommendation import ALS

    days = opened.group_by(["row", "site"]).aggregate([([], "count_all")])
    ratings = spark.createDataFrame(
        days.select(["row", "site", "count_all"]).rename_columns(["row", "site", "days"])
    )
    model = ALS(
        rank=rank, implicitPrefs=True, userCol="row", itemCol="site", ratingCol="days", **settings
    ).fit(ratings)
    return Factors(_by_id(model.userFactors), _by_id(model.itemFactors), rank)


def _by_id(factors: "DataFrame") -> dict[int, np.ndarray]:
    table = factors.toArrow()
    vectors = table["features"].to_pylist()
    return {
        key: np.asarray(vector, dtype=np.float32)
        for key, vector in zip(table["id"].to_pylist(), vectors, strict=True)
    }


@dataclass(frozen=True)
class SequenceFolder:
    """Entries of a sequence dataset, one per registration, site and day, ids made dense."""

    cut_day: int
    registration_ids: list[str]
    presentation_of_row: np.ndarray
    catalogue: dict[str, np.ndarray]  # presentation: dense sites in ascending site_id
    site_ids: np.ndarray
    entries: pa.Table  # row, site (both int32), day

    @classmethod
    def open(cls, folder: Path) -> "SequenceFolder":
        manifest = json.loads((folder / "dataset.json").read_text())
        if manifest.get("kind") != "sequence":
            raise TransformError(f"{folder}: kind is {manifest.get('kind')!r}, must be 'sequence'")
        cut_day = {**manifest, **(manifest.get("evaluation") or {})}["test_cut_day"]
        catalogue = pq.read_table(folder / "sites.parquet").sort_by("site_id")
        sequences = pq.read_table(folder / "sequences.parquet")
        site_ids = pc.unique(catalogue["site_id"])
        in_presentation = np.asarray(catalogue["presentation_id"].to_pylist(), dtype=object)
        dense = pc.index_in(catalogue["site_id"], site_ids).to_numpy()
        return cls(
            cut_day=cut_day,
            registration_ids=sequences["registration_id"].to_pylist(),
            presentation_of_row=np.asarray(sequences["presentation_id"].to_pylist(), dtype=object),
            catalogue={name: dense[in_presentation == name] for name in set(in_presentation)},
            site_ids=site_ids.to_numpy(),
            entries=_entries(sequences, site_ids),
        )

    def rankings(self, factors: Factors) -> Iterator[pa.Table]:
        """Both lists of each presentation's registrations seen before the cut and again from it."""
        table = self.entries.sort_by([("row", "ascending"), ("day", "ascending")])
        rows, sites, days = (table[name].to_numpy() for name in ("row", "site", "day"))
        before = days < self.cut_day
        history = np.zeros(len(self.registration_ids), dtype=bool)
        history[rows[before]] = True
        first_day = np.full(len(self.registration_ids), np.iinfo(np.int64).max)
        np.minimum.at(first_day, rows[~before], days[~before])
        ranked = history & (first_day < np.iinfo(np.int64).max)
        target = ~before & (days == first_day[rows])
        for presentation, sites_C in sorted(self.catalogue.items()):
            rows_R = np.flatnonzero(ranked & (self.presentation_of_row == presentation))
            if not len(rows_R):
                continue
            opened_RC = _flags(rows[before], sites[before], rows_R, sites_C)
            relevant_RC = _flags(rows[target], sites[target], rows_R, sites_C)
            scores_RC = factors.scores(rows_R, sites_C)
            yield self._ranked("all", rows_R, sites_C, scores_RC, relevant_RC)
            new_RC = relevant_RC & ~opened_RC
            kept = new_RC.any(axis=1)
            unopened_RC = np.where(opened_RC, -np.inf, scores_RC)
            yield self._ranked("discovery", rows_R[kept], sites_C, unopened_RC[kept], new_RC[kept])

    def _ranked(
        self,
        name: str,
        rows_R: np.ndarray,
        sites_C: np.ndarray,
        scores_RC: np.ndarray,
        relevant_RC: np.ndarray,
    ) -> pa.Table:
        order = np.argsort(-scores_RC, axis=1, kind="stable")[:, :TOP]  # ties: lower site_id first
        listed = np.isfinite(np.take_along_axis(scores_RC, order, axis=1))
        owner = np.broadcast_to(np.arange(len(rows_R))[:, None], order.shape)[listed]
        ranks = np.broadcast_to(np.arange(1, order.shape[1] + 1), order.shape)[listed]
        num_relevant = relevant_RC.sum(axis=1)
        columns = {
            "registration_id": np.asarray(self.registration_ids, dtype=object)[rows_R[owner]],
            "list": np.full(len(owner), name, dtype=object),
            "rank": ranks.astype(np.int32),
            "site_id": self.site_ids[sites_C[order[listed]]],
            "relevant": np.take_along_axis(relevant_RC, order, axis=1)[listed],
            "num_relevant": num_relevant[owner].astype(np.int32),
        }
        return pa.Table.from_pydict(columns, schema=SCHEMA)


def _entries(sequences: pa.Table, site_ids: pa.Array) -> pa.Table:
    lists = sequences["site_ids"].combine_chunks()
    row = pc.list_parent_indices(lists).cast(pa.int32())
    site = pc.index_in(pc.list_flatten(lists), site_ids)
    if site.null_count:
        raise TransformError("sequences.parquet names sites that sites.parquet lacks")
    day = pc.list_flatten(sequences["days"].combine_chunks())
    return pa.table({"row": row, "site": site.cast(pa.int32()), "day": day.cast(pa.int64())})


def _flags(
    rows: np.ndarray, sites: np.ndarray, rows_R: np.ndarray, sites_C: np.ndarray
) -> np.ndarray:
    """Which (registration, site) pairs occur, (R, C); both id arrays ascend."""
    at_R, at_C = np.searchsorted(rows_R, rows), np.searchsorted(sites_C, sites)
    inside = (at_R < len(rows_R)) & (at_C < len(sites_C))
    rows, sites, at_R, at_C = rows[inside], sites[inside], at_R[inside], at_C[inside]
    same = (rows_R[at_R] == rows) & (sites_C[at_C] == sites)
    flags_RC = np.zeros((len(rows_R), len(sites_C)), dtype=bool)
    flags_RC[at_R[same], at_C[same]] = True
    return flags_RC
