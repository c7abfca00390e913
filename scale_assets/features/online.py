"""Feast online store on one SQLite file of packed values; a thin adapter over writer and reader."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, NamedTuple

from feast import Entity, FeatureView, utils
from feast.infra.online_stores.online_store import OnlineStore
from feast.infra.supported_async_methods import SupportedAsyncMethods
from feast.protos.feast.serving.ServingService_pb2 import FieldStatus
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.repo_config import FeastConfigBaseModel, RepoConfig
from pydantic import StrictStr

from scale_assets.features.codec import CodecError, FeatureRow, Layout, entity_key, to_micros
from scale_assets.features.reader import OnlineReader
from scale_assets.features.values import codec_type, from_proto, to_proto
from scale_assets.features.writer import OnlineWriter, PackedRow

Row = tuple[EntityKey, dict[str, Value], datetime, datetime | None]
ReadRow = tuple[datetime | None, dict[str, Value] | None]


class _Read(NamedTuple):
    """The distinct entities of one view in a request, and the rows that each answers."""

    entities: Sequence[dict[str, Value]]
    indexes: Sequence[list[int]]
    output_len: int

    @property
    def keys(self) -> list[str]:
        return [_key(key) for key in utils._get_entity_key_protos(self.entities)]  # noqa: SLF001


class PackedOnlineStoreConfig(FeastConfigBaseModel):
    """Settings of the store in feature_store.yaml."""

    type: Literal["scale_assets.features.online.PackedOnlineStore"] = (
        "scale_assets.features.online.PackedOnlineStore"
    )
    path: StrictStr
    """The SQLite file; its folder is created."""
    clock: Literal["wall", "data"] = "wall"
    """What a value's age is measured against: now, or the newest known time written (replays)."""


class PackedOnlineStore(OnlineStore):
    """One packed value per entity and view; a late push never overwrites a newer value."""

    _versioned_read_supported = False  # else Feast imports every store it knows to find out

    def __init__(self) -> None:
        self._readers: dict[str, OnlineReader] = {}

    @property
    def async_supported(self) -> SupportedAsyncMethods:
        return SupportedAsyncMethods(read=True, write=True)

    def online_write_batch(
        self,
        config: RepoConfig,
        table: FeatureView,
        data: list[Row],
        progress: Callable[[int], Any] | None,
    ) -> None:
        layout = layout_of(table)
        rows = [_packed(layout, row) for row in data]
        with OnlineWriter(config.online_store.path) as writer, writer.transaction():
            writer.declare(table.name, layout, ttl=table.ttl or None)
            writer.push(table.name, rows)
        if progress:
            progress(len(rows))

    async def online_write_batch_async(self, *args: Any, **kwargs: Any) -> None:
        await asyncio.to_thread(self.online_write_batch, *args, **kwargs)

    def online_read(
        self,
        config: RepoConfig,
        table: FeatureView,
        entity_keys: list[EntityKey],
        requested_features: list[str] | None = None,
    ) -> list[ReadRow]:
        keys = [_key(key) for key in entity_keys]
        rows = self._reader(config).read(table.name, keys)
        return [_read_row(table, row, requested_features) for row in rows]

    async def online_read_async(self, *args: Any, **kwargs: Any) -> list[ReadRow]:
        return await asyncio.to_thread(self.online_read, *args, **kwargs)

    def update(
        self,
        config: RepoConfig,
        tables_to_delete: Sequence[FeatureView],
        tables_to_keep: Sequence[FeatureView],
        entities_to_delete: Sequence[Entity],  # noqa: ARG002
        entities_to_keep: Sequence[Entity],  # noqa: ARG002
        partial: bool,  # noqa: ARG002
    ) -> None:
        with OnlineWriter(config.online_store.path) as writer, writer.transaction():
            for table in tables_to_delete:
                writer.drop(table.name)
            for table in tables_to_keep:
                writer.declare(table.name, layout_of(table), ttl=table.ttl or None)

    def teardown(
        self,
        config: RepoConfig,
        tables: Sequence[FeatureView],
        entities: Sequence[Entity],  # noqa: ARG002
    ) -> None:
        with OnlineWriter(config.online_store.path) as writer, writer.transaction():
            for table in tables:
                writer.drop(table.name)

    def _read_features_per_fv(
        self,
        config: RepoConfig,
        grouped_refs: list[tuple[FeatureView, list[str]]],
        join_key_values: dict[str, Any],
        entity_name_to_join_key_map: dict[str, str],
        online_features_response: Any,
        full_feature_names: bool,
        include_feature_view_version_metadata: bool,
    ) -> None:
        """All views by one query, and what is older than its view's ttl says OUTSIDE_MAX_AGE."""
        reads = [
            _Read(*utils._get_unique_entities(table, join_key_values, entity_name_to_join_key_map))  # noqa: SLF001
            for table, _ in grouped_refs
        ]
        requests: dict[str, list[str]] = {}
        for (table, _), read in zip(grouped_refs, reads, strict=True):
            requests.setdefault(table.name, []).extend(read.keys)  # a view can occur twice, aliased
        reader = self._reader(config)
        found = {
            view: dict(zip(requests[view], rows, strict=True))
            for view, rows in reader.read_views(requests).items()
        }
        now = self._now(config, reader)
        for (table, names), read in zip(grouped_refs, reads, strict=True):
            rows = [found[table.name][key] for key in read.keys]
            utils._populate_response_from_feature_data(  # noqa: SLF001
                names,
                [_read_row(table, row, names) for row in rows],
                read.indexes,
                online_features_response,
                full_feature_names,
                table,
                read.output_len,
                include_feature_view_version_metadata,
            )
            vectors = online_features_response.results[-len(names) :]
            _expire(vectors, table.ttl, rows, read.indexes, now)

    async def _read_features_per_fv_async(self, *args: Any, **kwargs: Any) -> None:
        await asyncio.to_thread(self._read_features_per_fv, *args, **kwargs)

    def _reader(self, config: RepoConfig) -> OnlineReader:
        path = config.online_store.path
        if path not in self._readers:
            self._readers[path] = OnlineReader(path)
        return self._readers[path]

    @staticmethod
    def _now(config: RepoConfig, reader: OnlineReader) -> datetime:
        clock = reader.clock() if config.online_store.clock == "data" else None
        return clock or datetime.now(UTC)


def layout_of(table: FeatureView) -> Layout:
    """The packed layout of a Feast view."""
    return Layout(tuple((field.name, codec_type(table, field)) for field in table.features))


def _packed(layout: Layout, row: Row) -> PackedRow:
    key, values, event_time, created = row
    feature_time = to_micros(event_time)
    known_at = feature_time if created is None else to_micros(created)
    try:
        ordered = [from_proto(values[name], kind) for name, kind in layout.columns]
    except KeyError as error:
        raise CodecError(f"the row lacks column {error}; it has {sorted(values)}") from error
    packed = layout.encode(ordered, feature_time=feature_time, known_at=known_at)
    return PackedRow(_key(key), feature_time, known_at, None, packed)


def _key(key: EntityKey) -> str:
    pairs = zip(key.join_keys, key.entity_values, strict=True)
    return entity_key({name: getattr(value, value.WhichOneof("val")) for name, value in pairs})


def _read_row(table: FeatureView, row: FeatureRow | None, names: list[str] | None) -> ReadRow:
    if row is None:
        return None, None
    kinds = dict(layout_of(table).columns)
    wanted = list(kinds) if names is None else names
    return row.feature_time, {name: to_proto(row.values.get(name), kinds[name]) for name in wanted}


def _expire(
    vectors: Sequence[Any],
    ttl: timedelta | None,
    rows: Sequence[FeatureRow | None],
    indexes: Sequence[Sequence[int]],
    now: datetime,
) -> None:
    if not ttl:
        return
    for row, destinations in zip(rows, indexes, strict=True):
        if row is None or now - row.feature_time <= ttl:
            continue
        for vector in vectors:
            for position in destinations:
                vector.values[position].Clear()
                vector.statuses[position] = FieldStatus.OUTSIDE_MAX_AGE
