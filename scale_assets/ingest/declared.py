"""What a project declares of a feed, without its transport: its contract and its tables."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from scale_assets.contracts import Mode


@dataclass(frozen=True, kw_only=True)
class DeclaredFeed:
    """One feed as tools see it that look after tables and contracts."""

    name: str
    contract_path: Path
    compatibility: Mode
    table: str
    quarantine_table: str
    derived_tables: tuple[str, ...] = ()  # with the contract's columns, made from ``table``
    has_account: bool = True  # whether its tables count what they received

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        typed = {
            "contract_path": Path(values["contract_path"]),
            "compatibility": Mode(values["compatibility"]),
            "derived_tables": tuple(values["derived_tables"]),
        }
        return cls(**{**values, **typed})

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "contract_path": str(self.contract_path)}
