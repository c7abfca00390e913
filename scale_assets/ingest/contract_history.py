"""Every contract that a feed's tables were written under, in a small Delta table of its own.

``contracts/<feed>`` has one row per contract, numbered in the order in which they took effect. It
is data, so it outlives checkpoints and the clean-up of logs; see docs/decisions/0010.
"""

from dataclasses import dataclass

import pyarrow as pa

from scale_assets.contracts import Contract, Mode, Violation, check_history, parse_contract
from scale_assets.ingest.errors import BrokenCompatibility
from scale_assets.lake import Lake

SCHEMA = pa.schema(
    [
        pa.field("number", pa.int64()),
        pa.field("version", pa.string()),
        pa.field("contract", pa.string()),
    ]
)


@dataclass(frozen=True)
class ContractHistory:
    """The contracts of one feed, oldest first."""

    lake: Lake
    feed: str

    @property
    def table(self) -> str:
        return f"contracts/{self.feed}"

    def texts(self) -> list[str]:
        if not self.lake.exists(self.table):
            return []
        rows = self.lake.read(self.table).sort_by("number")
        return [str(text) for text in rows["contract"].to_pylist()]

    def contracts(self) -> list[Contract]:
        return [
            parse_contract(text, source=f"contract {number} of {self.feed}")
            for number, text in enumerate(self.texts(), 1)
        ]

    def violations(self, contract: Contract, mode: Mode) -> list[Violation]:
        """What forbids ``contract`` to be the next one; the one in force may always go on."""
        earlier = self.contracts()
        if earlier and earlier[-1] == contract:
            return []
        return check_history(earlier, contract, mode)

    def refuse_breaking(self, contract: Contract, text: str, mode: Mode, *, source: str) -> None:
        """Raises BrokenCompatibility, naming rule and field, where the mode forbids the contract."""
        if self.texts()[-1:] == [text]:
            return
        found = self.violations(contract, mode)
        if found:
            listed = "\n".join(f"- {violation}" for violation in found)
            earlier = ", ".join(dict.fromkeys(violation.against for violation in found))
            raise BrokenCompatibility(
                f"{source}: version {contract.version} cannot follow {earlier} under "
                f"{mode}; no row was taken:\n{listed}"
            )

    def record(self, contract: Contract, text: str) -> None:
        """Note that rows are written under this contract from now on, unless they are already."""
        while True:
            texts = self.texts()
            if texts[-1:] == [text] or self.contracts()[-1:] == [contract]:
                return
            number = len(texts) + 1
            row = pa.table([[number], [contract.version], [text]], schema=SCHEMA)
            if self.lake.append_once(self.table, row, positions={self.feed: number}):
                return
