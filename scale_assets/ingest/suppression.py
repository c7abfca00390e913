"""Who must not come back: salted hashes of forgotten people's ids, consulted before rows are kept.

A table of the lake. The list alone tells no id; whoever holds it can test an id that they know,
as ingestion does.
"""

import hmac
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from scale_assets.contracts import Contract
from scale_assets.contracts.change_schema import MOVED_FROM
from scale_assets.ingest.raw_ids import belongs_to
from scale_assets.lake import Lake
from scale_assets.lake.commits import at_newest, commit_files, retried, written
from scale_assets.lake.files import local_files
from scale_assets.lake.snapshots import files_table

SUPPRESSION_LIST = "suppression_list"
SCHEMA = pa.schema(
    [
        pa.field("name", pa.string()),  # kind of person, or a derived id's name
        pa.field("digest", pa.binary()),
        pa.field("person", pa.binary()),  # digest of the id that the request named
        pa.field("forgotten_at", pa.timestamp("us", tz="UTC")),
        pa.field("salt", pa.binary()),
    ]
)


def digest_of(salt: bytes, name: str, value: str) -> bytes:
    """HMAC-SHA-256 (RFC 2104) of one id under the list's salt."""
    return hmac.digest(salt, f"{name}\0{value}".encode(), "sha256")


@dataclass(frozen=True)
class Forgotten:
    """The list as of one version."""

    salt: bytes
    digests: frozenset[bytes]

    def has(self, name: str, value: str) -> bool:
        return digest_of(self.salt, name, value) in self.digests

    def mask(self, name: str, column: pa.ChunkedArray) -> np.ndarray:
        """Which rows hold a forgotten id; each distinct value is hashed once."""
        encoded = pc.dictionary_encode(column).combine_chunks()
        if isinstance(encoded, pa.ChunkedArray):  # of no rows
            return np.zeros(0, dtype=bool)
        texts = encoded.dictionary.cast(pa.string()).to_pylist()
        hits = np.array([self.has(name, text) for text in texts] + [False])
        at = encoded.indices.fill_null(len(texts)).to_numpy()
        found: np.ndarray = hits[at]
        return found


def without_forgotten(
    contract: Contract, accepted: pa.Table, refused: pa.Table, forgotten: Forgotten
) -> tuple[pa.Table, pa.Table]:
    """Rows that belong to nobody on the list: accepted ones, and raw lines that were refused."""
    kept = accepted.filter(pa.array(~_is_forgotten(contract, accepted, forgotten)))
    fields = contract.subject_fields()
    stays = [not belongs_to(raw, fields, forgotten.has) for raw in refused["raw"].to_pylist()]
    return kept, refused.filter(pa.array(stays, pa.bool_()))


def _is_forgotten(contract: Contract, rows: pa.Table, forgotten: Forgotten) -> np.ndarray:
    found = np.zeros(rows.num_rows, dtype=bool)
    for name, kind in contract.subject_fields().items():
        found |= forgotten.mask(kind, rows[name])
        if MOVED_FROM in rows.column_names and name in contract.primary_key:
            found |= forgotten.mask(kind, pc.struct_field(rows[MOVED_FROM], name))
    return found


class SuppressionList:
    """The list as ingestion and erasure see it, read again only where it grew."""

    def __init__(self, lake: Lake) -> None:
        self.lake = lake
        self._handle: DeltaTable | None = None
        self._version = -1
        self._rows = SCHEMA.empty_table()
        self._forgotten: Forgotten | None = None

    def newest(self) -> Forgotten | None:
        """Everybody on the list now; None while there is nobody."""
        if self._handle is None:
            if not self.lake.exists(SUPPRESSION_LIST):
                return None
            self._handle = self.lake.open(SUPPRESSION_LIST)
        if at_newest(self._handle).version() != self._version:
            self._rows = files_table(local_files(self._handle), SCHEMA)
            self._forgotten = _forgotten(self._rows)
            self._version = int(self._handle.version())
        return self._forgotten

    def of_person(self, name: str, value: str) -> Forgotten | None:
        """What the list holds of one person; None while they are not on it."""
        known = self.newest()
        if known is None:
            return None
        person = digest_of(known.salt, name, value)
        rows = self._rows.filter(pc.equal(self._rows["person"], person))
        return _forgotten(rows)

    def add(self, ids: Iterable[tuple[str, str]], *, person: tuple[str, str]) -> None:
        """Put a person's ids, as (name, value), on the list; those on it stay once."""
        wanted = sorted({person, *ids})
        retried(lambda: self._add(wanted, person))

    def _add(self, ids: list[tuple[str, str]], person: tuple[str, str]) -> None:
        handle = self.lake.create(SUPPRESSION_LIST, SCHEMA)
        rows = files_table(local_files(handle), SCHEMA)
        known = _forgotten(rows)
        salt = known.salt if known else secrets.token_bytes(32)
        digests = [(name, digest_of(salt, name, value)) for name, value in ids]
        new = [each for each in digests if known is None or each[1] not in known.digests]
        if not new:
            return
        added = {
            "name": [name for name, _ in new],
            "digest": [digest for _, digest in new],
            "person": [digest_of(salt, *person)] * len(new),
            "forgotten_at": [datetime.now(UTC)] * len(new),
            "salt": [salt] * len(new),
        }
        grown = pa.concat_tables([rows, pa.table(added, schema=SCHEMA)])
        commit_files(
            handle,
            written(handle, grown, partition_by=[], schema=SCHEMA),
            schema=SCHEMA,
            partition_by=[],
            mode="overwrite",
        )


def _forgotten(rows: pa.Table) -> Forgotten | None:
    if not rows.num_rows:
        return None
    return Forgotten(rows["salt"][0].as_py(), frozenset(rows["digest"].to_pylist()))
