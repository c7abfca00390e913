"""Which keys a table surely lacks, told by 64-bit hashes that a run keeps from batch to batch.

A hash that the table has not means that the key is new; one that it has means a suspect, about whom
the table is asked, but only those of its files that may hold it. Equal keys have equal hashes,
null ones included.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable

from scale_assets.lake.files import fetched
from scale_assets.lake.fit import arrow_schema, fit
from scale_assets.lake.parquet_files import parse_partition_folder

if TYPE_CHECKING:
    import duckdb

MAX_HASHES = 50_000_000  # 8 bytes each; the files that do not fit are read again for each batch
FILTER_BITS = 27  # 16 MiB: of 10 million keys, 1 new key in 13 is sought in vain

Days = tuple[date, date]  # first and last


@dataclass(frozen=True)
class _File:
    """A file whose keys' hashes are kept, sorted."""

    day: date
    hashes: np.ndarray


class _Filter:
    """Tells of most hashes that were never added that they were not (a Bloom filter of one bit)."""

    def __init__(self) -> None:
        self._bytes = np.zeros(1 << (FILTER_BITS - 3), np.uint8)

    def add(self, in_order: np.ndarray) -> None:
        at, bits = _places(in_order)
        firsts = np.flatnonzero(np.diff(at, prepend=-1))
        self._bytes[at[firsts]] |= np.bitwise_or.reduceat(bits, firsts) if firsts.size else bits

    def may_have(self, in_order: np.ndarray) -> np.ndarray:
        at, bits = _places(in_order)
        found: np.ndarray = self._bytes[at] & bits != 0
        return found


def _places(hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    places = hashes >> np.uint64(64 - FILTER_BITS)
    bits = np.uint8(1) << (places & np.uint64(7)).astype(np.uint8)
    return (places >> np.uint64(3)).astype(np.int64), bits


class KeyHashes:
    """The keys of a table that is partitioned by date, as far as batches so far could reach."""

    def __init__(self, key: Sequence[str], *, max_hashes: int = MAX_HASHES) -> None:
        self.key = list(key)
        self.max_hashes = max_hashes
        self._files: dict[str, _File] = {}
        self._filter = _Filter()

    def suspects(self, rows: pa.Table, table: DeltaTable, reach: Days) -> np.ndarray:
        """Indices, in order, of the rows whose key the table may have or the rows have twice."""
        hashes = self.hash_keys(rows)
        in_order = np.sort(hashes)
        found = [in_order[1:][in_order[1:] == in_order[:-1]]]
        found += [_common(in_order, unkept) for unkept in self._follow(table, reach)]
        candidates = in_order[self._filter.may_have(in_order)]
        for file in self._files.values():
            if _is_in(file.day, reach):
                found.append(_common(candidates, file.hashes))
        suspected = np.concatenate(found)
        return np.flatnonzero(np.isin(hashes, suspected)) if suspected.size else suspected

    def rows_like(self, rows: pa.Table, table: DeltaTable, reach: Days) -> pa.Table:
        """The keys within reach that may be among those of ``rows``, each with its date."""
        hashes = np.unique(self.hash_keys(rows))
        date_column = arrow_schema(table).field(*table.metadata().partition_columns)
        found = [pa.schema([*_key_schema(table, self.key), date_column]).empty_table()]
        for uri, day in _days_of(table, reach).items():
            if uri in self._files and not _common(hashes, self._files[uri].hashes).size:
                continue
            keys = _keys_in(table, uri, self.key)
            keys = keys.filter(pa.array(np.isin(self.hash_keys(keys), hashes)))
            days = pa.repeat(pa.scalar(day, date_column.type), keys.num_rows)
            found.append(keys.append_column(date_column, days))
        return pa.concat_tables(found)

    def hash_keys(self, rows: pa.Table) -> np.ndarray:
        """A 64-bit hash per row, in its order."""
        columns = ", ".join(f'"{name}"' for name in self.key)
        self._database.register("keys", rows.select(self.key))
        hashed = self._database.sql(f"select hash({columns}) as hash from keys").to_arrow_table()
        hashes: np.ndarray = hashed["hash"].to_numpy()
        return hashes

    @cached_property
    def _database(self) -> "duckdb.DuckDBPyConnection":
        import duckdb

        return duckdb.connect()

    def _follow(self, table: DeltaTable, reach: Days) -> Iterator[np.ndarray]:
        """Take in the files within reach that are new; the hashes of those without room, in order."""
        if self._files.keys() - set(table.file_uris()):  # joined with others, or somebody erased
            self._files.clear()
            self._filter = _Filter()
        for uri, day in _days_of(table, reach).items():
            if uri in self._files:
                continue
            hashes = np.sort(self.hash_keys(_keys_in(table, uri, self.key)))
            if self._has_room_for(len(hashes), reach):
                self._files[uri] = _File(day, hashes)
                self._filter.add(hashes)
            else:
                yield hashes

    def _has_room_for(self, num_hashes: int, reach: Days) -> bool:
        if self._num_kept() + num_hashes > self.max_hashes:
            for uri, file in list(self._files.items()):
                if not _is_in(file.day, reach):
                    del self._files[uri]
        return self._num_kept() + num_hashes <= self.max_hashes

    def _num_kept(self) -> int:
        return sum(len(file.hashes) for file in self._files.values())


def _common(wanted: np.ndarray, having: np.ndarray) -> np.ndarray:
    """What of one sorted array is in another."""
    if not (len(wanted) and len(having)):
        return wanted[:0]
    at = np.searchsorted(having, wanted)
    found: np.ndarray = wanted[having[np.minimum(at, len(having) - 1)] == wanted]
    return found


def _days_of(table: DeltaTable, reach: Days) -> dict[str, date]:
    """The files within reach, by the date that partitions the table."""
    days = {}
    for uri in table.file_uris():
        [text] = parse_partition_folder([PurePosixPath(uri).parent.name]).values()
        if text is not None and _is_in(date.fromisoformat(text), reach):
            days[uri] = date.fromisoformat(text)
    return days


def _is_in(day: date, reach: Days) -> bool:
    return reach[0] <= day <= reach[1]


def _key_schema(table: DeltaTable, key: Sequence[str]) -> pa.Schema:
    schema = arrow_schema(table)
    return pa.schema([schema.field(name) for name in key])


def _keys_in(table: DeltaTable, uri: str, key: Sequence[str]) -> pa.Table:
    """The keys of one file in the table's types, null where it was written before they existed."""
    [path] = fetched(table, [uri])
    with pq.ParquetFile(path) as file:
        present = [name for name in key if name in file.schema_arrow.names]
        return fit(file.read(columns=present), _key_schema(table, key))
