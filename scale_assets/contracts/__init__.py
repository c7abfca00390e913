"""Data contracts: one YAML per source says what a row is; everything else derives from it."""

from scale_assets.contracts.change_lines import ValidatedChanges, validate_change_lines
from scale_assets.contracts.change_schema import change_schema
from scale_assets.contracts.evolve import Mode, Violation, check_compatible, check_history
from scale_assets.contracts.faults import Rule
from scale_assets.contracts.model import Contract, ContractError, DerivedId, Field
from scale_assets.contracts.odcs import load_contract, parse_contract
from scale_assets.contracts.pseudonyms import Pseudonyms
from scale_assets.contracts.rows import RecordChecker
from scale_assets.contracts.tables import validate_table
from scale_assets.contracts.validate import QUARANTINE_SCHEMA, Validated, validate_lines

__all__ = [
    "QUARANTINE_SCHEMA",
    "Contract",
    "ContractError",
    "DerivedId",
    "Field",
    "Mode",
    "Pseudonyms",
    "RecordChecker",
    "Rule",
    "Validated",
    "ValidatedChanges",
    "Violation",
    "change_schema",
    "check_compatible",
    "check_history",
    "load_contract",
    "parse_contract",
    "validate_change_lines",
    "validate_lines",
    "validate_table",
]
