"""Which next versions each mode allows, and that what it allows really reads the old rows."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from scale_assets.contracts import (
    Contract,
    ContractError,
    DerivedId,
    Field,
    check_compatible,
    check_history,
    validate_lines,
)

KEY = Field(name="key", type="string", required=True)
COUNT = Field(name="count", type="integer")


def contract(*fields: Field, version: str = "1", **more: Any) -> Contract:
    return Contract(name="c", version=version, fields=(KEY, *fields), primary_key=("key",), **more)


def rules(old: Contract, new: Contract, mode: str) -> set[tuple[str, str]]:
    return {(v.rule, v.field) for v in check_compatible(old, new, mode)}


CHANGES = [
    # old field, new field, breaks backward (new reads old), breaks forward (old reads new)
    (None, COUNT, None, "field_removed"),
    (None, replace(COUNT, required=True), "required_field_added", "field_removed"),
    (COUNT, None, "field_removed", None),
    (replace(COUNT, required=True), None, "field_removed", "required_field_added"),
    (COUNT, replace(COUNT, required=True), "required_added", None),
    (COUNT, replace(COUNT, type="number"), None, "type_changed"),
    (replace(COUNT, type="number"), COUNT, "type_changed", None),
    (COUNT, replace(COUNT, type="string"), "type_changed", "type_changed"),
    (
        replace(COUNT, type="date"),
        replace(COUNT, type="timestamp"),
        "type_changed",
        "type_changed",
    ),
    (
        replace(COUNT, minimum=1),
        replace(COUNT, type="number", exclusive_minimum=1),
        "range_narrowed",
        "type_changed",
    ),
    (COUNT, replace(COUNT, unique=True), "unique_added", None),
    (COUNT, replace(COUNT, minimum=0), "range_narrowed", None),
    (replace(COUNT, minimum=0), replace(COUNT, minimum=1), "range_narrowed", None),
    (replace(COUNT, minimum=1), replace(COUNT, exclusive_minimum=0), None, None),
    (replace(COUNT, maximum=9), replace(COUNT, exclusive_maximum=9), "range_narrowed", None),
    (COUNT, replace(COUNT, allowed=(1, 2)), "values_removed", None),
    (replace(COUNT, allowed=(1,)), replace(COUNT, allowed=(1, 2)), None, "values_removed"),
    (COUNT, replace(COUNT, description="How many."), None, None),
    (COUNT, replace(COUNT, debezium_type="x"), "encoding_changed", "encoding_changed"),
]


@pytest.mark.parametrize(("before", "after", "backward", "forward"), CHANGES)
def test_modes(
    before: Field | None, after: Field | None, backward: str | None, forward: str | None
) -> None:
    old = contract(*([before] if before else []))
    new = contract(*([after] if after else []), version="2")
    expected_backward = {(backward, "count")} if backward else set()
    expected_forward = {(forward, "count")} if forward else set()

    assert rules(old, new, "BACKWARD") == expected_backward
    assert rules(old, new, "FORWARD") == expected_forward
    assert rules(old, new, "FULL") == expected_backward | expected_forward
    assert rules(old, new, "NONE") == set()


def test_text_constraints_narrow() -> None:
    text = Field(name="text", type="string", min_length=1, max_length=5, pattern="^a")
    old = contract(text)
    new = contract(replace(text, min_length=2, max_length=4, pattern="^b"), version="2")

    assert rules(old, new, "BACKWARD") == {("length_narrowed", "text"), ("pattern_changed", "text")}
    assert len(check_compatible(old, new)) == 3


def test_open_contracts() -> None:
    closed, opened = contract(), contract(version="2", open=True)

    assert rules(closed, opened, "BACKWARD") == set()
    assert rules(closed, opened, "FORWARD") == {("contract_closed", "")}
    assert rules(opened, contract(COUNT, version="3", open=True), "BACKWARD") == {
        ("field_added_to_open_contract", "count")
    }


def test_what_a_row_is_must_stay_in_every_mode() -> None:
    at = Field(name="at", type="timestamp", required=True)
    old = contract(at, event_time="at")
    new = replace(old, primary_key=("key", "at"), event_time=None)

    for mode in ("BACKWARD", "FORWARD", "FULL_TRANSITIVE"):
        assert {v.rule for v in check_compatible(old, new, mode)} == {
            *("primary_key_changed", "event_time_changed", "version_reused")
        }


def test_a_version_number_may_not_mean_two_things() -> None:
    assert rules(contract(), contract(COUNT), "BACKWARD") == {("version_reused", "version")}
    reworded = contract(replace(COUNT, description="Other words."))
    assert rules(contract(COUNT), reworded, "BACKWARD") == set()


def test_whom_rows_are_about_can_be_declared_without_a_new_version() -> None:
    user = Field(name="user", type="integer")
    made = DerivedId(name="account", template="{key}-{user}", subject="user")
    now = contract(replace(user, subject="user"), derived_ids=(made,))

    assert rules(contract(user), now, "FULL") == set()


def test_transitive_looks_at_every_earlier_version() -> None:
    first = contract(COUNT)
    second = contract(replace(COUNT, minimum=0), version="2")
    third = contract(replace(COUNT, minimum=0), version="3")

    assert check_history([first, second], third, "BACKWARD") == []
    (found,) = check_history([first, second], third, "BACKWARD_TRANSITIVE")
    assert (found.rule, found.field, found.against) == ("range_narrowed", "count", "1")
    assert "count" in found.reason
    assert check_history([], third) == []


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(ContractError, match=r"'SIDEWAYS'.*BACKWARD"):
        check_compatible(contract(), contract(), "SIDEWAYS")


SMALL = st.one_of(st.none(), st.integers(-2, 2))
NUMBERS = st.builds(
    Field,
    name=st.just("count"),
    type=st.sampled_from(["integer", "number"]),
    required=st.booleans(),
    minimum=SMALL,
    maximum=SMALL,
    exclusive_minimum=SMALL,
    exclusive_maximum=SMALL,
    allowed=st.one_of(st.none(), st.sets(st.integers(-2, 2), min_size=1).map(tuple)),
)
VALUES = [
    b"",
    b',"count":null',
    *(f',"count":{value}'.encode() for value in range(-4, 5)),
    b',"count":0.5',
]


@settings(deadline=None)
@given(old=st.one_of(st.none(), NUMBERS), new=st.one_of(st.none(), NUMBERS))
def test_backward_means_that_every_old_row_is_still_accepted(
    old: Field | None, new: Field | None
) -> None:
    earlier = contract(*([old] if old else []))
    later = contract(*([new] if new else []), version="2")
    if check_compatible(earlier, later, "BACKWARD"):
        return
    lines = b"\n".join(b'{"key":"a"' + value + b"}" for value in VALUES)
    written = validate_lines(earlier, lines).accepted["_position"].to_pylist()
    read = validate_lines(later, lines).accepted["_position"].to_pylist()

    assert set(written) <= set(read)


def test_bounds_of_other_types_compare() -> None:
    at = Field(name="at", type="timestamp", minimum=datetime(2020, 1, 1, tzinfo=UTC))
    later = replace(at, minimum=datetime(2021, 1, 1, tzinfo=UTC))

    assert rules(contract(at), contract(later, version="2"), "BACKWARD") == {
        ("range_narrowed", "at")
    }
    assert rules(contract(at), contract(later, version="2"), "FORWARD") == set()
