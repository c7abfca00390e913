"""Feast's sources and views as the as-of join takes them: one Delta snapshot each, old names."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from feast import FeatureView, FileSource
from feast.data_format import DeltaFormat
from feast.data_source import DataSource
from feast.feature_view import DUMMY_ENTITY_ID
from feast.repo_config import RepoConfig

from scale_assets.features.asof import AsOfView
from scale_assets.features.offline_job import OfflineStoreError
from scale_assets.features.streaming.declared import StreamingView
from scale_assets.features.streaming.historical import StreamColumns
from scale_assets.features.streaming.keys import JoinKey
from scale_assets.lake import Lake
from scale_assets.lake.duckdb_types import literal

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession


class Relations:
    """Sources as SELECTs, or Spark's rows, of one snapshot each; remembers the versions it chose."""

    def __init__(self, config: RepoConfig) -> None:
        self._lake = Lake(config.offline_store.lake_root, s3=config.offline_store.s3)
        self._folder = config.repo_path or Path()
        self.versions: dict[str, int] = {}

    def select(self, source: DataSource | None) -> str:
        found = _file_source(source)
        if not isinstance(found.file_format, DeltaFormat):
            return f"select * from read_parquet({literal(self._path(found))})"
        if (version := self.versions.get(found.path)) is None:
            self.versions[found.path], relation = self._lake.newest_relation_sql(found.path)
        else:
            relation = self._lake.duckdb_relation_sql(found.path, version=version)
        return f"select * from ({relation})"

    def spark_rows(self, spark: "SparkSession", source: DataSource | None) -> "DataFrame":
        from scale_assets.lake.spark_rows import spark_rows

        found = _file_source(source)
        if not isinstance(found.file_format, DeltaFormat):
            return spark.read.parquet(self._path(found))
        return spark_rows(spark, self._lake.open(found.path, version=self._version(found.path)))

    def _version(self, table: str) -> int:
        if table not in self.versions:
            self.versions[table] = self._lake.version(table)
        return self.versions[table]

    def _path(self, source: FileSource) -> str:
        return str(self._folder / source.path.removeprefix("file://"))


def _file_source(source: DataSource | None) -> FileSource:
    if not isinstance(source, FileSource):
        raise OfflineStoreError(f"the lake reads FileSources, not {type(source).__name__}")
    return source


def as_of_view(
    view: FeatureView, feature_refs: list[str], relations: Relations, *, full_feature_names: bool
) -> AsOfView:
    """The view under its alias, with the features that were asked for."""
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
            if column.name != DUMMY_ENTITY_ID  # of a view about everything
        ),
        columns=tuple(
            (original.get(name, name), f"{alias}__{name}" if full_feature_names else name)
            for name in wanted
        ),
        feature_time=original.get(source.timestamp_field, source.timestamp_field),
        known_at=source.created_timestamp_column or None,
        ttl=view.ttl or None,
    )


def stream_columns(
    view: FeatureView,
    stream: StreamingView,
    feature_refs: list[str],
    relations: Relations,
    *,
    full: bool,
) -> StreamColumns:
    """A view over a stream, under its alias, with the features that were asked for."""
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
