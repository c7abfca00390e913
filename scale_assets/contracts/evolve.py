"""May one contract version follow another? Schema Registry's rules for JSON, on contracts.

BACKWARD: the new contract reads rows written under the old one, so consumers go first.
FORWARD: the old contract reads rows written under the new one, so producers go first.
FULL: both. A mode ending in _TRANSITIVE holds against every earlier version, not only the last.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from scale_assets.contracts.model import Contract, ContractError, Field

# (written, read): every value of the one is a value of the other, as JSON writes it. A date is no
# timestamp: it has neither a time of day nor a zone, and nobody wrote down which was meant.
WIDENED = {("integer", "number")}


class Mode(StrEnum):
    """Compatibility modes, named as Schema Registry names them."""

    NONE = "NONE"
    BACKWARD = "BACKWARD"
    BACKWARD_TRANSITIVE = "BACKWARD_TRANSITIVE"
    FORWARD = "FORWARD"
    FORWARD_TRANSITIVE = "FORWARD_TRANSITIVE"
    FULL = "FULL"
    FULL_TRANSITIVE = "FULL_TRANSITIVE"


@dataclass(frozen=True, slots=True)
class Violation:
    """Rows that ``writer`` accepts and ``reader`` refuses, or keys that no longer identify."""

    rule: str  # e.g. required_field_added
    field: str
    reason: str
    against: str  # the earlier version

    def __str__(self) -> str:
        where = f" {self.field}" if self.field else ""
        return f"{self.rule}{where}: {self.reason} (against {self.against})"


def check_compatible(
    old: Contract, new: Contract, mode: Mode | str = Mode.BACKWARD
) -> list[Violation]:
    """What forbids ``new`` to follow ``old``; empty when it may."""
    mode = _mode(mode)
    if mode is Mode.NONE:
        return []
    found = list(_identity(old, new))
    if mode.startswith(("BACKWARD", "FULL")):
        found += _unreadable(writer=old, reader=new, against=old.version)
    if mode.startswith(("FORWARD", "FULL")):
        found += _unreadable(writer=new, reader=old, against=old.version)
    return list(dict.fromkeys(found))


def check_history(
    earlier: Sequence[Contract], new: Contract, mode: Mode | str = Mode.BACKWARD_TRANSITIVE
) -> list[Violation]:
    """Check against the last earlier version, or against all of them in a _TRANSITIVE mode."""
    mode = _mode(mode)
    compared = earlier if mode.endswith("_TRANSITIVE") else earlier[-1:]
    return [violation for old in compared for violation in check_compatible(old, new, mode)]


def _mode(mode: Mode | str) -> Mode:
    try:
        return Mode(mode)
    except ValueError:
        raise ContractError(f"compatibility {mode!r} is unknown; use one of {[*Mode]}") from None


def _identity(old: Contract, new: Contract) -> Iterator[Violation]:
    """What must stay in every mode: what a row is, and when it happened."""
    if old.primary_key != new.primary_key:
        reason = f"the primary key was {old.primary_key} and would be {new.primary_key}"
        yield Violation("primary_key_changed", ", ".join(new.primary_key), reason, old.version)
    if old.event_time != new.event_time:
        reason = f"the event time was {old.event_time} and would be {new.event_time}"
        yield Violation("event_time_changed", str(new.event_time), reason, old.version)
    if old.version == new.version and _meaning(old) != _meaning(new):
        reason = f"version {new.version} would mean two things; give the new one a new number"
        yield Violation("version_reused", "version", reason, old.version)


def _meaning(contract: Contract) -> Contract:
    """What rows may be; whom they are about can be declared without a new version."""
    fields = tuple(replace(field, description="", subject=None) for field in contract.fields)
    return replace(contract, fields=fields, description="", owner=None, derived_ids=())


def _unreadable(*, writer: Contract, reader: Contract, against: str) -> Iterator[Violation]:
    """Why ``reader`` may refuse a row that ``writer`` accepts."""
    written = {field.name: field for field in writer.fields}
    read = {field.name: field for field in reader.fields}
    if writer.open and not reader.open:
        reason = "columns that were let through would be refused; keep scale.openSchema"
        yield Violation("contract_closed", "", reason, against)
    for name in written.keys() - read.keys() if not reader.open else ():
        reason = f"{name} is written but would be refused as an unknown column; keep it, optional"
        yield Violation("field_removed", name, reason, against)
    for name in read.keys() - written.keys():
        yield from _added(read[name], writer, against)
    for name in sorted(written.keys() & read.keys()):
        for rule, reason in _narrowed(written[name], read[name]):
            yield Violation(rule, name, f"{name}: {reason}", against)


def _added(field: Field, writer: Contract, against: str) -> Iterator[Violation]:
    if field.required:
        reason = (
            f"{field.name} is required but absent in rows of {writer.version}; make it optional"
        )
        yield Violation("required_field_added", field.name, reason, against)
    elif writer.open:
        reason = f"open version {writer.version} let any value through under {field.name}"
        yield Violation("field_added_to_open_contract", field.name, reason, against)


def _narrowed(written: Field, read: Field) -> Iterator[tuple[str, str]]:
    """Constraints of ``read`` that values of ``written`` need not keep."""
    is_wider = (written.type, read.type) in WIDENED
    if (written.type, written.items) != (read.type, read.items) and not is_wider:
        reason = f"{written.type_name} is written, {read.type_name} read; add a new field"
        yield "type_changed", reason
        return
    if written.type == "decimal" and _rounds(written, read):
        yield "decimal_narrowed", f"{written.type_name} is written, {read.type_name} read"
    if written.debezium_type != read.debezium_type:
        yield "encoding_changed", f"{written.debezium_type} is written, {read.debezium_type} read"
    if read.required and not written.required:
        yield "required_added", "null is written but refused; keep it optional"
    if read.unique and not written.unique:
        yield "unique_added", "repeated values are written but refused"
    yield from _narrowed_values(written, read)


def _rounds(written: Field, read: Field) -> bool:
    """Whether a decimal of one type may need more digits than the other has, on either side."""
    written_scale, read_scale = written.scale or 0, read.scale or 0
    whole = (written.precision or 0) - written_scale
    return written_scale > read_scale or whole > (read.precision or 0) - read_scale


def _narrowed_values(written: Field, read: Field) -> Iterator[tuple[str, str]]:
    if read.allowed is not None:
        lost = None if written.allowed is None else sorted(set(written.allowed) - set(read.allowed))
        if lost is None or lost:
            yield "values_removed", f"{lost or 'any value'} is written, only {read.allowed} read"
    if read.pattern is not None and read.pattern != written.pattern:
        yield "pattern_changed", f"{written.pattern} is written, {read.pattern} read"
    for side, sign in (("lower", 1), ("upper", -1)):
        bound, limit = _bound(written, sign), _bound(read, sign)
        if limit is not None and (bound is None or _is_looser(bound, limit, sign)):
            shown = [None if b is None else str(b[0]) for b in (bound, limit)]
            yield "range_narrowed", f"{side} bound {shown[0]} is written, {shown[1]} read"
    if (read.min_length or 0) > (written.min_length or 0):
        yield "length_narrowed", f"at least {written.min_length} written, {read.min_length} read"
    if read.max_length is not None and (
        written.max_length is None or written.max_length > read.max_length
    ):
        yield "length_narrowed", f"at most {written.max_length} written, {read.max_length} read"


def _bound(field: Field, sign: int) -> tuple[Any, bool] | None:
    """The tighter of a field's inclusive and exclusive bounds, as (value, is exclusive)."""
    inclusive: Any = field.minimum if sign > 0 else field.maximum
    exclusive: Any = field.exclusive_minimum if sign > 0 else field.exclusive_maximum
    if field.type == "integer" and exclusive is not None:  # > 0 and >= 1 are the same
        steps = [bound for bound in (inclusive, exclusive + sign) if bound is not None]
        return (max(steps) if sign > 0 else min(steps)), False
    if exclusive is None:
        return None if inclusive is None else (inclusive, False)
    if inclusive is None or _is_looser((inclusive, False), (exclusive, True), sign):
        return exclusive, True
    return inclusive, False


def _is_looser(bound: tuple[Any, bool], limit: tuple[Any, bool], sign: int) -> bool:
    """Whether ``bound`` lets a value through that ``limit`` refuses."""
    (value, is_exclusive), (edge, edge_is_exclusive) = bound, limit
    if value == edge:
        return edge_is_exclusive and not is_exclusive
    return bool(value < edge) if sign > 0 else bool(value > edge)
