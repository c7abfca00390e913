"""A batch on its way into the tables: its pieces decoded, what is said of it, what it counts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from scale_assets.contracts import Contract
from scale_assets.ingest.columns import SOURCE_FIELDS
from scale_assets.ingest.feed import Decoded
from scale_assets.ingest.source import Piece
from scale_assets.ingest.suppression import Forgotten, without_forgotten

Batch = list[Piece]


@dataclass(frozen=True)
class Ready:
    """A batch, and what its pieces hold under a contract."""

    batch: Batch
    parts: list[Decoded]
    contract: Contract
    contract_text: str

    @property
    def positions_after(self) -> dict[str, int]:
        """Where a table stands that has the batch."""
        return {name: at for piece in self.batch for name, at in piece.positions_after.items()}

    @property
    def notices(self) -> list[str]:
        return [notice for piece in self.batch for notice in piece.notices]

    def metadata(self, settled: Sequence[Decoded]) -> dict[str, Any]:
        """What the quarantine's commit says of it."""
        return batch_metadata(
            self.batch,
            self.contract,
            self.contract_text,
            num_quarantined=sum(part.quarantined.num_rows for part in settled),
            num_erased=sum(part.num_erased_refused for part in settled),
        )


def batch_metadata(
    batch: Sequence[Piece],
    contract: Contract,
    contract_text: str,
    *,
    num_quarantined: int,
    num_erased: int,
) -> dict[str, Any]:
    """What a quarantine's commit says of its batch, so that it can be finished after a crash."""
    return {
        "pieces": [list(piece.address) for piece in batch],
        "quarantined": num_quarantined,
        "erased": num_erased,
        "contract_version": contract.version,
        "contract": contract_text,
    }


def counted(
    settled: Sequence[Decoded], said: Mapping[str, Any], *, num_duplicates: int
) -> dict[str, int]:
    """What the batch adds to the stream's totals; refused lines as its quarantine has them."""
    refused_then = said["quarantined"] + said.get("erased", 0)
    refused_now = sum(part.quarantined.num_rows + part.num_erased_refused for part in settled)
    gone = refused_then - refused_now  # no longer in the source
    return {
        "received": sum(part.num_received for part in settled) + gone,
        "quarantined": said["quarantined"],
        "duplicates": num_duplicates,
        "ignored": sum(part.num_ignored for part in settled),
        "erased": sum(part.num_erased for part in settled) + said.get("erased", 0),
    }


def without_erased(contract: Contract, part: Decoded, forgotten: Forgotten | None) -> Decoded:
    """The part less the rows of people on the suppression list."""
    if forgotten is None or not contract.subject_fields():
        return part
    accepted, quarantined = without_forgotten(contract, part.accepted, part.quarantined, forgotten)
    return replace(
        part,
        accepted=accepted,
        quarantined=quarantined,
        num_erased=part.accepted.num_rows - accepted.num_rows,
        num_erased_refused=part.quarantined.num_rows - quarantined.num_rows,
    )


def with_source(part: Decoded, piece: Piece, contract: Contract) -> Decoded:
    """The part with the columns that say where its rows came from."""
    place, version = SOURCE_FIELDS[0], pa.field("contract_version", pa.string())
    accepted, refused = part.accepted, part.quarantined
    refused = refused.append_column(place, _constant(piece.place, refused.num_rows))
    return replace(
        part,
        accepted=accepted.append_column(place, _constant(piece.place, accepted.num_rows)),
        quarantined=refused.append_column(version, _constant(contract.version, refused.num_rows)),
    )


def _constant(value: str, num_rows: int) -> pa.Array:
    return pa.repeat(pa.scalar(value, pa.string()), num_rows)
