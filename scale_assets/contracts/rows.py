"""Records that are already in memory, judged one by one where validating a block costs too much.

A block of lines costs milliseconds however few it holds; a record here costs microseconds. Only
"yes" is final: what a check is not sure of, ``validate_lines`` decides, and says what is wrong.
"""

import math
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import date, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from scale_assets.contracts.model import Contract, Field
from scale_assets.contracts.strict_json import INT64_MAX, INT64_MIN

Check = Callable[[Any], bool]
Record = dict[str, Any]  # column to JSON value, as a line of JSON would say it; null is left out

MAX_VERDICTS = 10_000  # of one pattern, kept in memory

CANONICAL_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3}(\d{3})?)?Z", re.ASCII)
CANONICAL_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)


class RecordChecker:
    """Tells which records surely keep a contract."""

    def __init__(self, contract: Contract) -> None:
        self._required = frozenset(field.name for field in contract.fields if field.required)
        self._optional = contract.names - self._required
        self._checks = {
            field.name: (TYPE_CHECKS[field.type], *_constraints(field)) for field in contract.fields
        }
        self._patterns = [(f.name, _Pattern(f.pattern)) for f in contract.fields if f.pattern]

    def surely_valid(self, records: Sequence[Record]) -> list[bool]:
        """For each record, True only if ``validate_lines`` accepts it written as JSON."""
        sure = [self._keeps_types(record) for record in records]
        for name, pattern in self._patterns:
            values = [
                record.get(name) if ok else None for record, ok in zip(records, sure, strict=True)
            ]
            for at, matched in enumerate(pattern.matches(values)):
                sure[at] = sure[at] and matched
        return sure

    def _keeps_types(self, record: Record) -> bool:
        if not self._required <= record.keys():
            return False
        for name, value in record.items():
            if value is None and name in self._optional:
                continue
            for check in self._checks.get(name, NEVER):
                if not check(value):
                    return False
        return True


class _Pattern:
    """An RE2 pattern with its verdicts so far: one call costs as much as hundreds of them."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._verdicts: dict[str | None, bool] = {None: True}

    def matches(self, values: Sequence[str | None]) -> list[bool]:
        if len(self._verdicts) > MAX_VERDICTS:
            self._verdicts = {None: True}
        unknown = list({value for value in values if value not in self._verdicts})
        if unknown:
            found = pc.match_substring_regex(pa.array(unknown, pa.string()), self._pattern)
            self._verdicts.update(zip(unknown, found.to_pylist(), strict=True))
        return [self._verdicts[value] for value in values]


def _constraints(field: Field) -> Iterator[Check]:
    if field.allowed is not None:
        yield frozenset(field.allowed).__contains__
    low, high = field.min_length, field.max_length
    if low is not None or high is not None:
        yield lambda value: (low or 0) <= len(value) <= (math.inf if high is None else high)
    if _is_bounded(field):
        yield _bounds_check(field, READERS[field.type])


def _is_bounded(field: Field) -> bool:
    bounds = (field.minimum, field.maximum, field.exclusive_minimum, field.exclusive_maximum)
    return any(bound is not None for bound in bounds)


def _bounds_check(field: Field, read: Callable[[Any], Any]) -> Check:
    at_least, at_most = field.minimum, field.maximum
    above, below = field.exclusive_minimum, field.exclusive_maximum

    def check(value: Any) -> bool:
        read_value = read(value)
        return (
            (at_least is None or read_value >= at_least)
            and (at_most is None or read_value <= at_most)
            and (above is None or read_value > above)
            and (below is None or read_value < below)
        )

    return check


def _is_text(value: Any) -> bool:
    if type(value) is not str:
        return False
    if value.isascii():
        return True
    try:
        value.encode()
    except UnicodeEncodeError:  # half a surrogate pair
        return False
    return True


def _is_integer(value: Any) -> bool:
    return type(value) is int and INT64_MIN <= value <= INT64_MAX


def _is_number(value: Any) -> bool:
    return _is_integer(value) or (type(value) is float and math.isfinite(value))


def _is_boolean(value: Any) -> bool:
    return type(value) is bool


def _is_time(value: Any) -> bool:
    return type(value) is str and bool(CANONICAL_TIME.fullmatch(value)) and _reads(value)


def _reads(value: str) -> bool:
    try:
        datetime.fromisoformat(value)
    except ValueError:
        return False
    return True


def _is_date(value: Any) -> bool:
    return type(value) is str and bool(CANONICAL_DATE.fullmatch(value)) and _reads(value)


# Of a column that the contract does not name.
NEVER: tuple[Check, ...] = (lambda _: False,)

TYPE_CHECKS: dict[str, Check] = {
    "string": _is_text,
    "integer": _is_integer,
    "number": _is_number,
    "boolean": _is_boolean,
    "date": _is_date,
    "timestamp": _is_time,
}
READERS: dict[str, Callable[[Any], Any]] = {
    "integer": int,
    "number": float,
    "date": date.fromisoformat,
    "timestamp": datetime.fromisoformat,
}
