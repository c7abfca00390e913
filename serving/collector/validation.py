"""Records against their stream's contract: all of them quickly, the doubtful ones exactly."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from scale_assets.contracts import Contract, RecordChecker, validate_lines
from serving.collector.records import Record


@dataclass(frozen=True, slots=True)
class Breach:
    """Which rule of the contract a record breaks, at which field, and a sentence about it."""

    rule: str
    field: str | None
    reason: str


class Validator:
    """Finds the records of one stream that ingestion would quarantine."""

    def __init__(self, contract: Contract) -> None:
        self._contract = contract
        self._checker = RecordChecker(contract)

    async def breaches(self, records: Sequence[Record]) -> dict[int, Breach]:
        """The breach of each record that has one, by its place in ``records``."""
        sure = self._checker.surely_valid([record.values for record in records])
        if all(sure):
            return {}
        doubtful = [at for at, ok in enumerate(sure) if not ok]
        lines = [records[at].line for at in doubtful]
        found = await asyncio.to_thread(self._validate, lines)  # milliseconds, however few
        return {doubtful[at]: breach for at, breach in found.items()}

    def _validate(self, lines: list[bytes]) -> dict[int, Breach]:
        refused = validate_lines(self._contract, lines).quarantined
        columns = (refused[name].to_pylist() for name in ("_position", "rule", "field", "reason"))
        return {
            at: Breach(rule, field, reason)
            for at, rule, field, reason in zip(*columns, strict=True)
        }
