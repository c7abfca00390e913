"""Feast offline store on the lake's Delta snapshots; a thin adapter over the as-of join."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from feast import FeatureView, OnDemandFeatureView
from feast.data_source import DataSource
from feast.errors import FeastEntityDFMissingColumnsError
from feast.feature_view import DUMMY_ENTITY_ID, DUMMY_ENTITY_VAL
from feast.infra.offline_stores.offline_store import OfflineStore, RetrievalJob
from feast.infra.registry.base_registry import BaseRegistry
from feast.repo_config import FeastConfigBaseModel, RepoConfig
from feast.utils import compute_non_entity_date_range
from pydantic import Field, StrictStr

from scale_assets.features.asof import AsOfView, latest_rows, store_join
from scale_assets.features.codec import to_micros
from scale_assets.features.offline_job import (
    LakeRetrievalJob,
    LakeRetrievalMetadata,
    OfflineStoreError,
    private_connection,
)
from scale_assets.features.offline_sources import Relations, as_of_view, stream_columns
from scale_assets.features.reader import quoted
from scale_assets.features.streaming.declared import stream_of_tags
from scale_assets.features.streaming.historical import with_streams
from scale_assets.lake import S3Options

if TYPE_CHECKING:
    from scale_assets.features.spark_asof import SparkHistories


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
    engine: Literal["duckdb", "spark"] = "duckdb"
    """What joins the histories. The entity rows, and the result, are in this process either way."""
    spark_conf: dict[str, str] = Field(default={"spark.sql.session.timeZone": "UTC"})
    """Settings of the Spark session to start, where this process has none."""


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

        ``entity_df`` is a pandas frame or a DuckDB SELECT. Without one, there is a row for each
        moment of start_date to end_date at which something about an entity became known. Backfills
        are hidden unless the store's setting makes them visible;
        ``filter_by_created_timestamp=True`` always hides them.

        Raises:
            OfflineStoreError: The time column is not clear, or views without common keys are asked
                for a range of times.
            FeastEntityDFMissingColumnsError: The entity rows lack a join key.
        """
        settings: LakeOfflineStoreConfig = config.offline_store
        relations = Relations(config)
        views = [
            as_of_view(view, feature_refs, relations, full_feature_names=full_feature_names)
            for view in feature_views
            if stream_of_tags(view.tags) is None
        ]
        streams = [
            stream_columns(view, stream, feature_refs, relations, full=full_feature_names)
            for view in feature_views
            if (stream := stream_of_tags(view.tags)) is not None
        ]
        hide = settings.backfills == "hidden" or bool(options.get("filter_by_created_timestamp"))
        if entity_df is None:
            first, last = compute_non_entity_date_range(
                feature_views, options.get("start_date"), options.get("end_date")
            )
            if streams:
                raise OfflineStoreError(
                    "views over streams change with every instant, so that a range of times has no "
                    f"rows of theirs: {[stream.alias for stream in streams]}; give entity_df"
                )
            entities: str | pa.Table = _moments(views, first, last, hide_backfills=hide)
        else:
            entities = entity_df if isinstance(entity_df, str) else _arrow(entity_df)
        time, columns, bounds = _describe_entities(settings, entities)
        _require_keys(columns, views)
        spark = _spark(settings, feature_views, relations) if settings.engine == "spark" else None

        def query(connection: duckdb.DuckDBPyConnection, with_times: bool) -> str:
            joined = store_join(
                connection,
                entities,
                views,
                time=time,
                hide_backfills=hide,
                with_times=with_times,
                spark=spark,
            )
            if not streams:
                return joined
            rows = connection.sql(joined).to_arrow_table()
            rows = with_streams(connection, rows, streams, time=time, with_times=with_times)
            connection.register("joined_rows", rows)
            return "select * from joined_rows"

        return LakeRetrievalJob(
            query,
            memory_limit=settings.memory_limit,
            delta_versions=relations.versions,
            full_feature_names=full_feature_names,
            on_demand=OnDemandFeatureView.get_requested_odfvs(feature_refs, project, registry),
            metadata=LakeRetrievalMetadata(
                feature_refs, columns, *bounds, backfills="hidden" if hide else "visible"
            ),
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
        """Each entity's latest row with start_date <= timestamp <= end_date.

        One without a created timestamp is left out, as by the join, unless backfills are visible.
        """
        relations = Relations(config)
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
        dummy = "" if join_key_columns else f", '{DUMMY_ENTITY_VAL}' as {DUMMY_ENTITY_ID}"
        latest = latest_rows(view, hide_backfills=_hides_backfills(config))
        return _scan(config, relations, f"select {columns}{dummy} from ({latest})")

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
        """Every row with start_date <= timestamp <= end_date, where those are given.

        Feast's ``materialize`` takes the latest of these, so that one without a created timestamp is
        left out here too.
        """
        relations = Relations(config)
        columns = _distinct(
            join_key_columns, feature_name_columns, timestamp_field, created_timestamp_column
        )
        rows = _in_range(relations.select(data_source), timestamp_field, start_date, end_date)
        if created_timestamp_column and _hides_backfills(config):
            rows = f"select * from ({rows}) where {quoted(created_timestamp_column)} is not null"
        dummy = "" if join_key_columns else f", '{DUMMY_ENTITY_VAL}' as {DUMMY_ENTITY_ID}"
        return _scan(config, relations, f"select {columns}{dummy} from ({rows})")

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
        with private_connection(config.offline_store.memory_limit) as connection:
            relation = connection.sql(f"{Relations(config).select(data_source)} limit 0")
            schema = relation.to_arrow_table().schema
        return [(field.name, str(field.type)) for field in schema]


def _scan(config: RepoConfig, relations: Relations, query: str) -> RetrievalJob:
    return LakeRetrievalJob(
        lambda _connection, _with_times: query,
        memory_limit=config.offline_store.memory_limit,
        delta_versions=relations.versions,
    )


def _hides_backfills(config: RepoConfig) -> bool:
    return bool(config.offline_store.backfills == "hidden")


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


def _moments(
    views: list[AsOfView], first: datetime, last: datetime, *, hide_backfills: bool
) -> str:
    """SELECT of the moments at which a row of any view became visible, with the keys of all."""
    keys = [key for key, _ in views[0].keys]
    if any([key for key, _ in view.keys] != keys for view in views):
        raise OfflineStoreError(
            "views with different join keys have no entity rows in common: "
            f"{ {view.name: [key for key, _ in view.keys] for view in views} }; give entity_df"
        )
    parts = []
    for view in views:
        moment = f"{quoted(view.feature_time)}::timestamptz"
        if hide_backfills and view.known_at:
            known = f"{quoted(view.known_at)}::timestamptz"
            moment = f"case when {known} is not null then greatest({moment}, {known}) end"
        named = [f"{quoted(source)} as {quoted(key)}" for key, source in view.keys]
        parts.append(
            f"select {', '.join([*named, f'{moment} as event_timestamp'])} from ({view.relation})"
        )
    within = f"epoch_us(event_timestamp) between {to_micros(first)} and {to_micros(last)}"
    return (
        f"select distinct * from ({' union all '.join(parts)}) where {within}"
        f" order by {', '.join([*map(quoted, keys), 'event_timestamp'])}"
    )


def _require_keys(columns: list[str], views: list[AsOfView]) -> None:
    expected = {key for view in views for key, _ in view.keys}
    missing = expected - set(columns)
    if missing:
        raise FeastEntityDFMissingColumnsError(expected, missing)


def _spark(
    settings: LakeOfflineStoreConfig, views: list[FeatureView], relations: Relations
) -> "SparkHistories":
    from pyspark.sql import SparkSession

    from scale_assets.features.spark_asof import SparkHistories

    builder = SparkSession.builder
    for name, value in settings.spark_conf.items():
        builder = builder.config(name, value)
    session = SparkSession.getActiveSession() or builder.getOrCreate()
    sources = {
        view.projection.name_alias or view.projection.name: view.batch_source for view in views
    }
    return SparkHistories(session, lambda name: relations.spark_rows(session, sources[name]))


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
    if isinstance(entities, pa.Table):
        schema = entities.schema
        time = _time_column(schema)
        bounds = pc.min_max(pc.cast(entities[time], pa.timestamp("us")).cast(pa.int64())).as_py()
        first, last = bounds["min"], bounds["max"]
    else:  # without a connection of its own for a frame, since one takes longer than the rest
        with private_connection(config.memory_limit) as connection:
            schema = connection.sql(f"select * from ({entities}) limit 0").to_arrow_table().schema
            time = _time_column(schema)
            moment = f"{quoted(time)}::timestamptz"
            first, last = connection.execute(
                f"select epoch_us(min({moment})), epoch_us(max({moment})) from ({entities})"
            ).fetchall()[0]
    return time, [name for name in schema.names if name != time], (_moment(first), _moment(last))


def _moment(micros: int | None) -> datetime | None:
    return None if micros is None else datetime.fromtimestamp(micros / 1e6, UTC)


def _time_column(schema: pa.Schema) -> str:
    """Feast's rule: "event_timestamp", else the only column that holds times."""
    times: list[str] = [
        field.name
        for field in schema
        if pa.types.is_timestamp(field.type) or pa.types.is_date(field.type)
    ]
    if "event_timestamp" in times:
        return "event_timestamp"
    if len(times) != 1:
        raise OfflineStoreError(
            f"entity rows need one time column, or one called event_timestamp; found {times}"
        )
    return times[0]
