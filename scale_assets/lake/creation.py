"""Making a table and growing its schema, where other writers may be at the same."""

from collections.abc import Sequence

import pyarrow as pa
from deltalake import DeltaTable, Schema
from deltalake.exceptions import CommitFailedError

from scale_assets.lake.commits import at_newest
from scale_assets.lake.errors import ConcurrentCommit
from scale_assets.lake.fit import arrow_schema, new_columns
from scale_assets.lake.places import Place
from scale_assets.lake.remote import RemoteTable


def created(
    place: Place, table: str, *, schema: pa.Schema, partition_by: Sequence[str]
) -> DeltaTable:
    """The table at a place, made where there is none.

    Raises:
        ConcurrentCommit: Another writer made it meanwhile; it is there on the next attempt.
    """
    try:
        return place.create(table, Schema.from_arrow(schema), partition_by)
    except CommitFailedError as error:
        raise ConcurrentCommit(
            f"{place.uri(table)} was created by another writer meanwhile"
        ) from error


def grown(handle: DeltaTable, table: str, *, schema: pa.Schema) -> DeltaTable:
    """The table with every column of ``schema``; those it had not are added, nullable.

    Raises:
        LakeError: A column changed its type.
        ConcurrentCommit: Another writer committed meanwhile; the handle then has to move.
    """
    added = new_columns(table, wanted=schema, present=arrow_schema(at_newest(handle)))
    if not added:
        return handle
    try:
        handle.alter.add_columns(list(Schema.from_arrow(pa.schema(added)).fields))
    except CommitFailedError as error:
        raise ConcurrentCommit(f"{table}: another writer committed meanwhile") from error
    return at_newest(handle)


def repartitioned(
    handle: DeltaTable, *, schema: pa.Schema, partition_by: Sequence[str]
) -> DeltaTable:
    """The table as it is, or emptied where its partition columns are others."""
    if list(handle.metadata().partition_columns) == list(partition_by):
        return handle
    emptied = type(handle).create(
        handle.table_uri,
        schema=Schema.from_arrow(schema),
        partition_by=list(partition_by),
        mode="overwrite",
        storage_options=handle.storage_options if isinstance(handle, RemoteTable) else None,
    )
    if isinstance(handle, RemoteTable) and isinstance(emptied, RemoteTable):
        return emptied.with_mirror(handle.mirror)
    return emptied
