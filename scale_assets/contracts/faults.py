"""Why a row was refused: the rule it broke, the field, and a sentence for its reader."""

from dataclasses import dataclass
from enum import StrEnum


class Rule(StrEnum):
    """Stable names, stored in quarantine tables."""

    TOO_LARGE = "too_large"
    NOT_UTF8 = "not_utf8"
    NOT_JSON = "not_json"
    NOT_AN_OBJECT = "not_an_object"
    DUPLICATE_KEY = "duplicate_key"
    UNKNOWN_COLUMN = "unknown_column"
    MISSING_FIELD = "missing_field"
    WRONG_TYPE = "wrong_type"
    BAD_FORMAT = "bad_format"
    OUT_OF_RANGE = "out_of_range"
    BAD_LENGTH = "bad_length"
    BAD_PATTERN = "bad_pattern"
    NOT_ALLOWED = "not_allowed"
    NOT_UNIQUE = "not_unique"
    BAD_ENVELOPE = "bad_envelope"


@dataclass(frozen=True, slots=True)
class Fault:
    """One broken rule of one row."""

    rule: Rule
    reason: str
    field: str | None = None


class LineFault(Exception):
    """Raised by a strict decoder; caught where the line is set aside, never outside contracts."""

    def __init__(self, rule: Rule, reason: str, field: str | None = None) -> None:
        super().__init__(reason)
        self.fault = Fault(rule, reason, field)


def shown(value: object, *, limit: int = 60) -> str:
    """A value as it may appear in a reason: short, on one line."""
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."
