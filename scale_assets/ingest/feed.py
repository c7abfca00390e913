"""A feed: where records come from, which contract they keep, which two tables they fill."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from deltalake import DeltaTable

from scale_assets.contracts import Contract, ContractError, Mode, parse_contract
from scale_assets.ingest.columns import quarantine_schema
from scale_assets.ingest.source import Piece, Source

MAX_BATCH_BYTES = 64 << 20
# A file that says the same this much later is taken for whole: somebody may be writing it.
WRITTEN_AFTER_SECONDS = 0.5

# The rows, in order, that are neither in the table nor twice in themselves.
Deduplicator = Callable[[pa.Table, DeltaTable], pa.Table]


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """One piece's rows: accepted (with EVENT_DATE if any), quarantined, and neither (ignored)."""

    accepted: pa.Table
    quarantined: pa.Table
    num_received: int
    num_ignored: int = 0
    num_erased: int = 0  # valid rows of people on the suppression list, not among the accepted
    num_erased_refused: int = 0  # and refused ones, not among the quarantined


@dataclass(frozen=True, kw_only=True)
class Feed(ABC):
    """One feed: where its records come from, which contract they keep, which tables they fill."""

    name: str
    source: Source
    contract_path: Path
    table: str
    quarantine_table: str
    max_batch_bytes: int = MAX_BATCH_BYTES
    compatibility: Mode = Mode.BACKWARD_TRANSITIVE

    @abstractmethod
    def schema(self, contract: Contract) -> pa.Schema:
        """Columns of the accepted table."""

    @property
    @abstractmethod
    def partition_by(self) -> list[str]:
        """Partition columns of both tables."""

    @abstractmethod
    def decode(self, contract: Contract, piece: Piece) -> Decoded:
        """Validate one piece; of the quarantine, too, whose lines the feed's source refused."""

    @abstractmethod
    def deduplicator(self) -> Deduplicator:
        """What takes the duplicates out of the batches of one run, which may remember them."""

    def numbered(self, part: Decoded, _piece: Piece, _tables: Sequence[DeltaTable], /) -> Decoded:
        """Give rows the numbers that depend on what either table has, where a feed has any."""
        return part

    @property
    def kept_in_quarantine(self) -> pa.Schema:
        """What a refused row carries besides its bytes and its position, for the day it passes."""
        return self.source.columns

    @property
    def quarantine_schema(self) -> pa.Schema:
        return quarantine_schema(self.source.columns)

    def has_new_contract(self, text: str) -> bool:
        """Whether the contract's file no longer says ``text``, once it has come to rest."""
        before: str | None = text
        found = self._contract_text()
        while found != before:
            time.sleep(WRITTEN_AFTER_SECONDS)
            found, before = self._contract_text(), found
        return found != text

    def load_contract(self) -> tuple[Contract, str]:
        """The contract as its file is now; raises ContractError."""
        text = self._contract_text()
        if text is None:
            raise ContractError(f"{self.contract_path}: feed {self.name}: there is no such file")
        return parse_contract(text, source=str(self.contract_path)), text

    def _contract_text(self) -> str | None:
        """None: there is no file, as for a moment when an editor replaces it."""
        try:
            return self.contract_path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
