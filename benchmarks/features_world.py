"""Histories of five feature views, as Delta tables for us and Parquet files for Feast's stores."""

import json
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from scale_assets.features.asof import connect
from scale_assets.lake import Lake

if TYPE_CHECKING:
    import pandas as pd
    from feast import FeatureStore, FeatureView

NUM_VIEWS = 5
FEATURES = ("clicks", "score", "rate", "city")
TTL = timedelta(days=90)
TIME = pa.timestamp("us", tz="UTC")
START, YEAR, MONTH = 1_600_000_000_000_000, 365 * 86_400_000_000, 30 * 86_400_000_000
OURS = "scale_assets.features.offline.LakeOfflineStore"


@dataclass(frozen=True)
class Shape:
    """How many entities, entity rows of each, and history rows of each view; the share that is late."""

    num_entities: int
    labels: int
    num_rows: int
    late: float = 0.0

    def __str__(self) -> str:
        rows = self.num_entities * self.labels
        return f"{rows:,} entity rows x {NUM_VIEWS} views x {self.num_rows:,} rows"

    def with_late(self, share: float) -> Self:
        return replace(self, late=share)

    def times(self, factor: int) -> Self:
        return replace(
            self, num_entities=self.num_entities * factor, num_rows=self.num_rows * factor
        )


class OfflineWorld:
    """The tables of one shape, and the ways to join them."""

    def __init__(self, folder: Path, *, memory_limit: str | None = None) -> None:
        self.folder = folder
        self.shape = Shape(**json.loads((folder / "shape.json").read_text()))
        self._memory_limit = memory_limit
        self._lake = Lake(folder / "lake")
        self._entities = pq.read_table(folder / "entities.parquet")
        self._frame: pd.DataFrame = self._entities.to_pandas()
        self._stores: dict[str, FeatureStore] = {}

    @classmethod
    def made(cls, folder: Path, shape: Shape, *, memory_limit: str | None = None) -> Self:
        """Write the tables into a new folder and open it."""
        folder.mkdir(parents=True)
        (folder / "shape.json").write_text(json.dumps(asdict(shape)))
        random = np.random.default_rng(7)
        lake = Lake(folder / "lake")
        for number in range(NUM_VIEWS):
            rows = _history(random, shape)
            pq.write_table(rows, folder / f"view_{number}.parquet")
            lake.overwrite(f"view_{number}", rows)
        pq.write_table(_entity_rows(random, shape), folder / "entities.parquet")
        return cls(folder, memory_limit=memory_limit)

    def ours(self) -> pa.Table:
        settings = {"type": OURS, "lake_root": str(self.folder / "lake")}
        if self._memory_limit:
            settings["memory_limit"] = self._memory_limit
        return self._retrieved("ours", settings)

    def duckdb(self) -> pa.Table:
        return self._retrieved("duckdb", {"type": "duckdb"})

    def dask(self) -> pa.Table:
        return self._retrieved("dask", {"type": "dask"})

    def by_hand(self) -> pa.Table:
        """What a data engineer writes: one ASOF JOIN per view, and the ttl."""
        columns, joins = ["e.*"], ""
        for number in range(NUM_VIEWS):
            files = ", ".join(f"'{file}'" for file in self._lake.files(f"view_{number}"))
            view = f"v{number}"
            joins += f" asof left join read_parquet([{files}]) as {view}"
            joins += f" on e.user_id = {view}.user_id and e.event_timestamp >= {view}.feature_time"
            fresh = f"{view}.feature_time >= e.event_timestamp - interval {TTL.days} day"
            columns += [
                f"case when {fresh} then {view}.{name} end as view_{number}__{name}"
                for name in FEATURES
            ]
        with connect(memory_limit=self._memory_limit) as connection:
            connection.register("e", self._entities)
            return connection.sql(f"select {', '.join(columns)} from e{joins}").to_arrow_table()

    def check_peers(self) -> None:
        """Feast's stores give our answer (the dask store loses expired rows, which are left out)."""
        ours = self.ours().sort_by("row")
        for name, theirs in (("duckdb", self.duckdb()), ("dask", self.dask())):
            rows = theirs.sort_by("row")
            same = ours.filter(pc.is_in(ours["row"], value_set=rows["row"].combine_chunks()))
            for column in (
                f"view_{n}__{feature}" for n in range(NUM_VIEWS) for feature in FEATURES
            ):
                found = rows[column].cast(same[column].type).combine_chunks()
                if not found.equals(same[column].combine_chunks()):
                    raise AssertionError(f"Feast's {name} store and ours differ in {column}")

    def _retrieved(self, name: str, settings: dict[str, Any]) -> pa.Table:
        if name not in self._stores:
            self._stores[name] = self._store(name, settings)
        references = [f"view_{n}:{feature}" for n in range(NUM_VIEWS) for feature in FEATURES]
        job = self._stores[name].get_historical_features(
            self._frame, references, full_feature_names=True, filter_by_created_timestamp=True
        )
        return job.to_arrow()

    def _store(self, name: str, settings: dict[str, Any]) -> "FeatureStore":
        from feast import Entity, FeatureStore, RepoConfig, ValueType

        registry = self.folder / f"registry_{name}.db"
        store = FeatureStore(
            config=RepoConfig(
                project="bench",
                provider="local",
                registry={"registry_type": "sql", "path": f"sqlite:///{registry}"},
                offline_store=settings,
                online_store={"type": "sqlite", "path": str(self.folder / "online.db")},
                entity_key_serialization_version=3,
            )
        )
        user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.INT64)
        store.apply([user, *(self._view(number, name, user) for number in range(NUM_VIEWS))])
        return store

    def _view(self, number: int, store: str, user: Any) -> "FeatureView":
        from feast import FeatureView, Field, FileSource
        from feast.data_format import DeltaFormat, ParquetFormat
        from feast.types import Float64, Int64, String

        path = self.folder / f"view_{number}.parquet"
        return FeatureView(
            name=f"view_{number}",
            entities=[user],
            ttl=TTL,
            schema=[
                Field(name=name, dtype=kind)
                for name, kind in zip(FEATURES, (Int64, Float64, Float64, String), strict=True)
            ],
            source=FileSource(
                name=f"table_{number}",
                path=f"view_{number}" if store == "ours" else str(path),
                file_format=DeltaFormat() if store == "ours" else ParquetFormat(),
                timestamp_field="feature_time",
                created_timestamp_column="known_at",
            ),
        )


def _history(random: np.random.Generator, shape: Shape) -> pa.Table:
    size = shape.num_rows
    feature_time = START + random.integers(0, YEAR, size)
    delay = (random.random(size) < shape.late) * random.integers(0, MONTH, size)
    return pa.table(
        {
            "user_id": random.integers(0, shape.num_entities, size),
            "feature_time": pa.array(feature_time, TIME),
            "known_at": pa.array(feature_time + delay, TIME),
            "clicks": random.integers(0, 1_000, size),
            "score": random.random(size),
            "rate": random.random(size),
            "city": pa.array(random.integers(0, 50, size)).cast(pa.string()),
        }
    )


def _entity_rows(random: np.random.Generator, shape: Shape) -> pa.Table:
    size = shape.num_entities * shape.labels
    return pa.table(
        {
            "row": np.arange(size),
            "user_id": random.permutation(np.repeat(np.arange(shape.num_entities), shape.labels)),
            "event_timestamp": pa.array(START + random.integers(0, YEAR, size), TIME),
        }
    )
