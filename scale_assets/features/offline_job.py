"""What a retrieval of the offline store hands back: run when asked, by DuckDB within its memory."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from feast import OnDemandFeatureView
from feast.errors import SavedDatasetLocationAlreadyExists
from feast.infra.offline_stores.file_source import SavedDatasetFileStorage
from feast.infra.offline_stores.offline_store import RetrievalJob, RetrievalMetadata
from feast.saved_dataset import SavedDatasetStorage

from scale_assets.errors import ScaleError
from scale_assets.features.asof import connect

Query = Callable[[duckdb.DuckDBPyConnection, bool], str]
"""Prepares a private connection and returns the SELECT to run; the flag asks for the rows' times."""


class OfflineStoreError(ScaleError):
    """A source, entity frame or call that the store cannot serve."""


class LakeRetrievalMetadata(RetrievalMetadata):
    """Feast's, and whether rows that came late were used."""

    def __init__(
        self,
        features: list[str],
        keys: list[str],
        first: datetime | None,
        last: datetime | None,
        *,
        backfills: str,
    ) -> None:
        super().__init__(features, keys, first, last)
        self.backfills = backfills


class LakeRetrievalJob(RetrievalJob):
    """A point-in-time join or a scan, run when its result is asked for."""

    def __init__(
        self,
        query: Query,
        *,
        memory_limit: str | None,
        delta_versions: dict[str, int],
        metadata: LakeRetrievalMetadata | None = None,
        full_feature_names: bool = False,
        on_demand: list[OnDemandFeatureView] | None = None,
    ) -> None:
        self._query = query
        self._memory_limit = memory_limit
        self._metadata = metadata
        self._full_feature_names = full_feature_names
        self._on_demand = on_demand or []
        self.delta_versions = delta_versions
        """Version of every lake table that the job reads, pinned when the job was made."""

    @property
    def full_feature_names(self) -> bool:
        return self._full_feature_names

    @property
    def on_demand_feature_views(self) -> list[OnDemandFeatureView]:
        return self._on_demand

    @property
    def metadata(self) -> LakeRetrievalMetadata | None:
        return self._metadata

    def to_arrow_with_times(self) -> pa.Table:
        """The result plus "<view>__feature_time" and "<view>__known_at" of the rows used."""
        return self._run(with_times=True)

    def _to_arrow_internal(self, timeout: int | None = None) -> pa.Table:  # noqa: ARG002
        return self._run(with_times=False)

    def _to_df_internal(self, timeout: int | None = None) -> pd.DataFrame:
        return self._to_arrow_internal(timeout).to_pandas()

    def _run(self, *, with_times: bool) -> pa.Table:
        with private_connection(self._memory_limit) as connection:
            result = connection.sql(self._query(connection, with_times)).to_arrow_table()
        # One chunk: Feast's conversion to protobuf reads the first chunk and drops the others.
        result = result.combine_chunks() if self._metadata is None else result
        said = {} if self._metadata is None else {"scale.backfills": self._metadata.backfills}
        return result.replace_schema_metadata(said)

    def persist(
        self,
        storage: SavedDatasetStorage,
        allow_overwrite: bool = False,
        timeout: int | None = None,
    ) -> None:
        """Write the result as one Parquet file, for Feast's saved datasets."""
        if not isinstance(storage, SavedDatasetFileStorage):
            raise OfflineStoreError(
                f"cannot persist to {type(storage).__name__}; use SavedDatasetFileStorage"
            )
        path = Path(storage.file_options.uri.removeprefix("file://"))
        if path.exists() and not allow_overwrite:
            raise SavedDatasetLocationAlreadyExists(location=str(path))
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(self.to_arrow(timeout=timeout), path)


@contextmanager
def private_connection(memory_limit: str | None) -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB of its own, with a folder to spill to."""
    spill = tempfile.mkdtemp(prefix="offline-store-")
    try:
        with connect(memory_limit=memory_limit, temp_folder=spill) as connection:
            yield connection
    finally:
        shutil.rmtree(spill, ignore_errors=True)
