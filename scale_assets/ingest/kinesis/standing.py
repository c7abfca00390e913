"""Where a table stands in a shard, as positions of 64 bits each.

A sequence number has more bits than a transaction's version, so it is kept in parts of 63 bits,
``<shard>/seq0`` the lowest; they are written in one commit, so that they always fit together.
Beside them: ``records`` taken, ``seen`` (the time in ms up to which all was read), ``ended``.
"""

from dataclasses import asdict, dataclass
from typing import Any, Self

from scale_assets.ingest.source import Positions

PART_BITS = 63
PART = (1 << PART_BITS) - 1


@dataclass(frozen=True, kw_only=True)
class Standing:
    """How far a table has read one shard."""

    sequence: int = 0  # of the last record taken; 0 before the first
    num_records: int = 0
    seen_ms: int = 0
    is_ended: bool = False  # the shard is closed, and all of it was taken

    def positions(self, place: str) -> dict[str, int]:
        parts = {f"{place}/seq{at}": part for at, part in enumerate(parts_of(self.sequence))}
        return {
            **parts,
            f"{place}/records": self.num_records,
            f"{place}/seen": self.seen_ms,
            f"{place}/ended": int(self.is_ended),
        }

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "sequence": str(self.sequence)}  # JSON readers round long numbers

    @classmethod
    def from_json(cls, said: dict[str, Any]) -> Self:
        return cls(**{**said, "sequence": int(said["sequence"])})


def standing(taken: Positions, place: str) -> Standing | None:
    """What a table's positions say of a shard; None where it has taken nothing of it yet."""
    if f"{place}/records" not in taken:
        return None
    sequence, at = 0, 0
    while (part := taken.get(f"{place}/seq{at}")) is not None:
        sequence |= part << (PART_BITS * at)
        at += 1
    return Standing(
        sequence=sequence,
        num_records=taken[f"{place}/records"],
        seen_ms=taken[f"{place}/seen"],
        is_ended=bool(taken[f"{place}/ended"]),
    )


def parts_of(number: int) -> list[int]:
    """The number in parts of 63 bits, the lowest first; a larger number never has fewer."""
    parts = [number & PART]
    while number := number >> PART_BITS:
        parts.append(number & PART)
    return parts
