"""Feast offline store on the lake's Delta snapshots; a thin adapter over the as-of join."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from feast import FeatureView, FileSource, OnDemandFeatureView
from feast.data_format import DeltaFormat
from feast.data_source import DataSource
from feast.errors import SavedDatasetLocationAlreadyExists
from feast.infra.offline_stores.file_source import SavedDatasetFileStorage
from feast.infra.offline_stores.offline_store import (
    OfflineStore,
    RetrievalJob,
    RetrievalMetadata,
)
from feast.infra.registry.base_registry import BaseRegistry
from feast.repo_config import FeastConfigBaseModel, RepoConfig
from feast.saved_dataset import SavedDatasetStorage
from pydantic import StrictStr

from scale_assets.errors import ScaleError
from scale_assets.features.asof import AsOfView, connect, join_as_of, latest_rows
from scale_assets.features.codec import to_micros
from scale_assets.features.reader import quoted
from scale_assets.features.streaming.declared import StreamingView, stream_of_tags
from scale_assets.features.streaming.historical import StreamColumns, with_streams
from scale_assets.features.streaming.keys import JoinKey
from scale_assets.lake import Lake, S3Options


class OfflineStoreError(ScaleError):
    """A source, entity frame or call that the store cannot serve."""


class LakeOfflineStoreConfig(FeastConfigBaseModel):
    """Settings of the store in feature_store.yaml."""

    type: Literal["scale_assets.features.offline.LakeOfflineStore"] = (
        "scale_assets.features.offline.LakeOfflineStore"
    )
    lake_root: StrictStr
    """Root of the Delta tables; a DeltaFormat source's path is a table below it."""
    s3: S3Options | None = None
    """How to reach the store of a root in S3; Settings.exported() writes it."""
    backfills: Literal["hidden", "visible"] = "hidden"
    """Whether a row whose created timestamp lies after the entity row's time may be used."""
    memory_limit: StrictStr | None = None
    """DuckDB's memory, such as "4GB"; what exceeds it goes to disk. Default: DuckDB's own."""


class LakeRetrievalJob(RetrievalJob):
    """A point-in-time join or a scan, run when its result is asked for."""

    def __init__(
        self,
        run: Any,
        *,
        config: LakeOfflineStoreConfig,
        delta_versions: dict[str, int],
        metadata: RetrievalMetadata | None = None,
        full_feature_names: bool = False,
        on_demand: list[OnDemandFeatureView] | None = None,
    ) -> None:
        self._run = run
        self._config = config
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
    def metadata(self) -> RetrievalMetadata | None:
        return self._metadata

    def to_arrow_with_times(self) -> pa.Table:
        """The result plus "<view>__feature_time" and "<view>__known_at" of the rows used."""
        with _connection(self._config) as connection:
            return self._run(connection, with_times=True)

    def _to_arrow_internal(self, timeout: int | None = None) -> pa.Table:  # noqa: ARG002
        with _connection(self._config) as connection:
            return self._run(connection, with_times=False)

    def _to_df_internal(self, timeout: int | None = None) -> pd.DataFrame:
        return self._to_arrow_internal(timeout).to_pandas()

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


class LakeOfflineStore(OfflineStore):
    """Reads Delta snapshots with DuckDB; every entity row comes back once, in order."""

    supports_filter_by_created_timestamp = True

    @staticmethod
    def get_historical_features(
        config: RepoConfig,
        feature_views: list[FeatureView],
        feature_refs: list[str],
        entity_df: pd.DataFrame | str | None,
        registry: BaseRegistry,
        project: str,
        full_feature_names: bool = False,
        **options: Any,
    ) -> RetrievalJob:
        """Join features as known at each entity row's time.

        ``entity_df`` is a pandas frame or a DuckDB SELECT. Backfills are hidden unless the store's
        setting makes them visible; ``filter_by_created_timestamp=True`` always hides them.

        Raises:
            OfflineStoreError: Without entity_df; a range of times has no entity rows to answer.
        """
        if entity_df is None:
            raise OfflineStoreError(
                "get_historical_features needs entity_df; for a range of times use "
                "pull_all_from_table_or_query"
            )
        settings: LakeOfflineStoreConfig = config.offline_store
        entities = entity_df if isinstance(entity_df, str) else _arrow(entity_df)
        time, keys, bounds = _describe_entities(settings, entities)
        relations = _Relations(config)
        views = [
            _as_of_view(view, feature_refs, relations, full_feature_names=full_feature_names)
            for view in feature_views
            if stream_of_tags(view.tags) is None
        ]
        streams = [
            _stream_columns(view, stream, feature_refs, relations, full=full_feature_names)
            for view in feature_views
            if (stream := stream_of_tags(view.tags)) is not None
        ]
        hide = settings.backfills == "hidden" or bool(options.get("filter_by_created_timestamp"))

        def run(connection: duckdb.DuckDBPyConnection, *, with_times: bool) -> pa.Table:
            joined = join_as_of(
                connection, entities, views, time=time, hide_backfills=hide, with_times=with_times
            )
            return with_streams(connection, joined, streams, time=time, with_times=with_times)

        return LakeRetrievalJob(
            run,
            config=settings,
            delta_versions=relations.versions,
            full_feature_names=full_feature_names,
            on_demand=OnDemandFeatureView.get_requested_odfvs(feature_refs, project, registry),
            metadata=RetrievalMetadata(feature_refs, keys, *bounds),
        )

    @staticmethod
    def pull_latest_from_table_or_query(
        config: RepoConfig,
        data_source: DataSource,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None,
        start_date: datetime,
        end_date: datetime,
    ) -> RetrievalJob:
        """Each entity's latest row with start_date <= timestamp <= end_date."""
        relations = _Relations(config)
        columns = _distinct(
            join_key_columns, feature_name_columns, timestamp_field, created_timestamp_column
        )
        view = AsOfView(
            name="latest",
            relation=_in_range(
                relations.select(data_source), timestamp_field, start_date, end_date
            ),
            keys=tuple((key, key) for key in join_key_columns),
            columns=tuple((name, name) for name in feature_name_columns),
            feature_time=timestamp_field,
            known_at=created_timestamp_column or None,
            ttl=None,
        )
        return _scan(config, relations, f"select {columns} from ({latest_rows(view)})")

    @staticmethod
    def pull_all_from_table_or_query(
        config: RepoConfig,
        data_source: DataSource,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None = None,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
    ) -> RetrievalJob:
        """Every row with start_date <= timestamp <= end_date, where those are given."""
        relations = _Relations(config)
        columns = _distinct(
            join_key_columns, feature_name_columns, timestamp_field, created_timestamp_column
        )
        rows = _in_range(relations.select(data_source), timestamp_field, start_date, end_date)
        return _scan(config, relations, f"select {columns} from ({rows})")

    def validate_data_source(self, config: RepoConfig, data_source: DataSource) -> None:
        """The table exists and has its time columns."""
        columns = dict(self.get_table_column_names_and_types_from_data_source(config, data_source))
        for name in (data_source.timestamp_field, data_source.created_timestamp_column):
            if name and name not in columns:
                raise OfflineStoreError(
                    f"source {data_source.name!r} has no column {name!r}; it has {list(columns)}"
                )

    def get_table_column_names_and_types_from_data_source(
        self, config: RepoConfig, data_source: DataSource
    ) -> list[tuple[str, str]]:
        with _connection(config.offline_store) as connection:
            relation = connection.sql(f"{_Relations(config).select(data_source)} limit 0")
            schema = relation.to_arrow_table().schema
        return [(field.name, str(field.type)) for field in schema]


class _Relations:
    """Sources as SELECTs of one snapshot each; remembers the versions it chose."""

    def __init__(self, config: RepoConfig) -> None:
        self._lake = Lake(config.offline_store.lake_root, s3=config.offline_store.s3)
        self._folder = config.repo_path or Path()
        self.versions: dict[str, int] = {}

    def select(self, source: DataSource | None) -> str:
        if not isinstance(source, FileSource):
            raise OfflineStoreError(f"the lake reads FileSources, not {type(source).__name__}")
        if not isinstance(source.file_format, DeltaFormat):
            path = str(self._folder / source.path.removeprefix("file://")).replace("'", "''")
            return f"select * from read_parquet('{path}')"
        if source.path not in self.versions:
            self.versions[source.path] = self._lake.version(source.path)
        version = self.versions[source.path]
        return f"select * from ({self._lake.duckdb_relation_sql(source.path, version=version)})"


@contextmanager
def _connection(config: LakeOfflineStoreConfig) -> Iterator[duckdb.DuckDBPyConnection]:
    spill = tempfile.mkdtemp(prefix="offline-store-")
    try:
        with connect(memory_limit=config.memory_limit, temp_folder=spill) as connection:
            yield connection
    finally:
        shutil.rmtree(spill, ignore_errors=True)


def _scan(config: RepoConfig, relations: _Relations, query: str) -> RetrievalJob:
    def run(connection: duckdb.DuckDBPyConnection, **_: Any) -> pa.Table:
        # One chunk: Feast's conversion to protobuf reads the first chunk and drops the others.
        return connection.sql(query).to_arrow_table().combine_chunks()

    return LakeRetrievalJob(run, config=config.offline_store, delta_versions=relations.versions)


def _in_range(
    relation: str, timestamp_field: str, start: datetime | None, end: datetime | None
) -> str:
    time = f"epoch_us({quoted(timestamp_field)}::timestamptz)"
    bounds = [f"{time} >= {to_micros(start)}"] if start else []
    bounds += [f"{time} <= {to_micros(end)}"] if end else []
    return f"select * from ({relation})" + (f" where {' and '.join(bounds)}" if bounds else "")


def _distinct(
    keys: list[str], features: list[str], timestamp_field: str, created: str | None
) -> str:
    names = dict.fromkeys([*keys, *features, timestamp_field, *([created] if created else [])])
    return ", ".join(quoted(name) for name in names)


def _as_of_view(
    view: FeatureView, feature_refs: list[str], relations: _Relations, *, full_feature_names: bool
) -> AsOfView:
    source = view.batch_source
    original = {mapped: name for name, mapped in (source.field_mapping if source else {}).items()}
    wanted = _wanted(view, feature_refs)
    alias = view.projection.name_alias or view.projection.name
    renamed = view.projection.join_key_map
    return AsOfView(
        name=alias,
        relation=relations.select(source),
        keys=tuple(
            (renamed.get(column.name, column.name), original.get(column.name, column.name))
            for column in view.entity_columns
        ),
        columns=tuple(
            (original.get(name, name), f"{alias}__{name}" if full_feature_names else name)
            for name in wanted
        ),
        feature_time=original.get(source.timestamp_field, source.timestamp_field),
        known_at=source.created_timestamp_column or None,
        ttl=view.ttl or None,
    )


def _stream_columns(
    view: FeatureView,
    stream: StreamingView,
    feature_refs: list[str],
    relations: _Relations,
    *,
    full: bool,
) -> StreamColumns:
    alias = view.projection.name_alias or view.projection.name
    renamed = view.projection.join_key_map
    keys = tuple(
        JoinKey(renamed.get(key.name, key.name), key.template) for key in stream.columns.keys
    )
    return StreamColumns(
        view=replace(stream, columns=replace(stream.columns, keys=keys)),
        events=relations.select(view.batch_source),
        features=tuple(
            (name, f"{alias}__{name}" if full else name) for name in _wanted(view, feature_refs)
        ),
        alias=alias,
    )


def _wanted(view: FeatureView, feature_refs: list[str]) -> list[str]:
    """Names of the features that are asked of this view."""
    prefix = view.projection.name_to_use()
    return [ref.split(":", 1)[1] for ref in feature_refs if ref.split(":", 1)[0] == prefix]


def _arrow(frame: pd.DataFrame) -> pa.Table:
    table = pa.Table.from_pandas(frame, preserve_index=False)
    micros = [  # DuckDB would read naive nanoseconds as a type of their own
        pa.timestamp("us", tz=field.type.tz) if pa.types.is_timestamp(field.type) else field.type
        for field in table.schema
    ]
    return table.cast(pa.schema(zip(table.column_names, micros, strict=True)), safe=False)


def _describe_entities(
    config: LakeOfflineStoreConfig, entities: pa.Table | str
) -> tuple[str, list[str], tuple[datetime | None, datetime | None]]:
    """The time column, the other columns, and the first and last time."""
    with _connection(config) as connection:
        if isinstance(entities, pa.Table):
            connection.register("caller_rows", entities)
        query = "select * from caller_rows" if isinstance(entities, pa.Table) else entities
        kinds = {row[0]: row[1] for row in connection.execute(f"describe {query}").fetchall()}
        time = _time_column(kinds)
        bounds = connection.execute(
            f"select epoch_us(min({quoted(time)})::timestamptz),"
            f" epoch_us(max({quoted(time)})::timestamptz) from ({query})"
        ).fetchall()[0]
    first, last = (None if b is None else datetime.fromtimestamp(b / 1e6, UTC) for b in bounds)
    return time, [name for name in kinds if name != time], (first, last)


def _time_column(kinds: dict[str, str]) -> str:
    """Feast's rule: "event_timestamp", else the only column that holds times."""
    times = [name for name, kind in kinds.items() if kind.startswith(("TIMESTAMP", "DATE"))]
    if "event_timestamp" in times:
        return "event_timestamp"
    if len(times) != 1:
        raise OfflineStoreError(
            f"entity rows need one time column, or one called event_timestamp; found {times}"
        )
    return times[0]
