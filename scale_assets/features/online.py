"""Feast online store of packed values; a thin adapter over the backends, the reader and the codec."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from itertools import islice
from typing import Any, Literal

import pandas as pd
from feast import Entity, FeatureView, utils
from feast.infra.online_stores.online_store import OnlineStore
from feast.infra.supported_async_methods import SupportedAsyncMethods
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.repo_config import FeastConfigBaseModel, RepoConfig
from pydantic import SecretStr

from scale_assets.features.codec import CodecError, Layout, entity_key, to_micros
from scale_assets.features.layouts import AnyLayout
from scale_assets.features.reader import OnlineReader, OnlineRow
from scale_assets.features.response import ViewAnswer, add_answer
from scale_assets.features.stores import Backend, Clock, PackedRow, Put, open_backend
from scale_assets.features.streaming.declared import stream_of_tags
from scale_assets.features.streaming.states import StateLayout
from scale_assets.features.values import codec_type, from_proto, to_proto

Row = tuple[EntityKey, dict[str, Value], datetime, datetime | None]
ReadRow = tuple[datetime | None, dict[str, Value] | None]


class PackedOnlineStoreConfig(FeastConfigBaseModel):
    """Settings of the store in feature_store.yaml."""

    type: Literal["scale_assets.features.online.PackedOnlineStore"] = (
        "scale_assets.features.online.PackedOnlineStore"
    )
    address: SecretStr
    """A path of a SQLite file, or the URL of a Redis; see docs/guides/features.md."""
    clock: Clock = "wall"
    """What a value's age is measured against: now, or the newest known time written (replays)."""


class PackedOnlineStore(OnlineStore):
    """One packed value per entity and view; a late push never overwrites a newer value."""

    _versioned_read_supported = False  # else Feast imports every store it knows to find out

    def __init__(self) -> None:
        self._backends: dict[tuple[str, Clock], Backend] = {}

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
        if isinstance(layout, StateLayout):
            raise CodecError(
                f"view {table.name} follows the events of a stream, so that no value can be pushed "
                f"to it; add an event to {table.batch_source.name} instead"
            )
        rows = [_packed(layout, row) for row in data]
        backend = self._backend(config)
        with backend.atomically():
            backend.declare(table.name, layout, ttl=table.ttl or None)
            backend.put(table.name, [row for row, _, _ in rows], Put.PUSH)
            if rows:
                backend.advance(
                    table.name,
                    feature_time=max(feature_time for _, feature_time, _ in rows),
                    known_at=max(known_at for _, _, known_at in rows),
                )
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
        """Expired values come back as unknown: there is no status to tell them by here."""
        rows = self._reader(config).read(table.name, [key_of(key) for key in entity_keys])
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
        backend = self._backend(config)
        with backend.atomically():
            for table in tables_to_delete:
                backend.drop(table.name)
            for table in tables_to_keep:
                backend.declare(table.name, layout_of(table), ttl=table.ttl or None)

    def teardown(
        self,
        config: RepoConfig,
        tables: Sequence[FeatureView],
        entities: Sequence[Entity],  # noqa: ARG002
    ) -> None:
        backend = self._backend(config)
        with backend.atomically():
            for table in tables:
                backend.drop(table.name)

    async def close(self) -> None:
        for backend in self._backends.values():
            backend.close()
        self._backends.clear()

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
        """All views by one round trip; what is older than its view's ttl says OUTSIDE_MAX_AGE."""
        asked = []
        requests: dict[str, list[str]] = {}
        for table, _ in grouped_refs:
            entities, indexes, num_rows = utils._get_unique_entities(  # noqa: SLF001
                table, join_key_values, entity_name_to_join_key_map
            )
            keys = [_text(entity) for entity in entities]
            asked.append((keys, indexes, num_rows))
            requests.setdefault(table.name, []).extend(keys)  # a view can occur twice, aliased
        reader = self._reader(config)
        found = reader.read_packed(requests)
        values = {view: iter(answers) for view, answers in found.values.items()}
        for (table, names), (keys, indexes, num_rows) in zip(grouped_refs, asked, strict=True):
            answer = ViewAnswer(
                reader=reader,
                view=table.name,
                ttl=table.ttl or None,
                kinds=dict(layout_of(table).columns),
                packed=list(islice(values[table.name], len(keys))),
                indexes=indexes,
                num_rows=num_rows,
                now=found.now,
            )
            add_answer(
                online_features_response,
                answer,
                names,
                prefix=f"{table.projection.name_to_use()}__" if full_feature_names else "",
            )
            if include_feature_view_version_metadata:
                _tell_version(online_features_response, table)

    async def _read_features_per_fv_async(self, *args: Any, **kwargs: Any) -> None:
        await asyncio.to_thread(self._read_features_per_fv, *args, **kwargs)

    def _backend(self, config: RepoConfig) -> Backend:
        settings = config.online_store
        address = settings.address.get_secret_value()
        if (address, settings.clock) not in self._backends:
            backend = open_backend(address, clock=settings.clock)
            self._backends[address, settings.clock] = backend
        return self._backends[address, settings.clock]

    def _reader(self, config: RepoConfig) -> OnlineReader:
        return OnlineReader(self._backend(config))


def layout_of(table: FeatureView) -> AnyLayout:
    """What the store keeps of a Feast view."""
    stream = stream_of_tags(table.tags)
    if stream is not None:
        return StateLayout(stream.aggregates)
    return Layout(tuple((field.name, codec_type(table, field)) for field in table.features))


def key_of(key: EntityKey) -> str:
    """The store's text of a Feast entity key."""
    return _text(dict(zip(key.join_keys, key.entity_values, strict=True)))


def _text(entity: dict[str, Any]) -> str:
    return entity_key(
        {name: getattr(value, value.WhichOneof("val")) for name, value in entity.items()}
    )


def _packed(layout: Layout, row: Row) -> tuple[PackedRow, int, int]:
    """The row, its feature_time and its known_at."""
    key, values, event_time, created = row
    feature_time = to_micros(event_time)
    if created is None or pd.isna(created):  # NaT, of a data frame
        created = event_time
    known_at = to_micros(created)
    try:
        ordered = [from_proto(values[name], kind) for name, kind in layout.columns]
    except KeyError as error:
        raise CodecError(f"the row lacks column {error}; it has {sorted(values)}") from error
    packed = layout.encode(ordered, feature_time=feature_time, known_at=known_at)
    return PackedRow(key_of(key), packed), feature_time, known_at


def _read_row(table: FeatureView, row: OnlineRow | None, names: list[str] | None) -> ReadRow:
    if row is None or row.is_expired:
        return None, None
    kinds = dict(layout_of(table).columns)
    wanted = list(kinds) if names is None else names
    return row.feature_time, {name: to_proto(row.values.get(name), kinds[name]) for name in wanted}


def _tell_version(response: Any, table: FeatureView) -> None:
    name = table.projection.name_alias or table.projection.name
    told = response.metadata.feature_view_metadata
    if name not in [each.name for each in told]:
        told.add(name=name, version=getattr(table, "current_version_number", 0) or 0)
