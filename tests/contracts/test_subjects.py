"""Which field identifies a person is declared, and a declaration that cannot be used is refused."""

import pytest
import yaml

from scale_assets.contracts import Contract, ContractError, parse_contract

PLAIN = {"name": "shop", "logicalType": "string"}
USER = {
    "name": "user_id",
    "logicalType": "integer",
    "customProperties": [{"property": "scale.subject", "value": "user"}],
}


def contract(*fields: dict[str, object], derived: object = None) -> Contract:
    table: dict[str, object] = {"name": "visits", "properties": list(fields)}
    if derived is not None:
        table["customProperties"] = [{"property": "scale.derivedIds", "value": derived}]
    document = {
        "apiVersion": "v3.1.0",
        "kind": "DataContract",
        "id": "visits",
        "name": "visits",
        "version": "1.0.0",
        "status": "active",
        "schema": [table],
    }
    return parse_contract(yaml.safe_dump(document), source="visits")


def test_a_field_says_whom_it_identifies() -> None:
    found = contract(PLAIN, USER, derived={"account_id": "{shop}/{user_id}"})

    assert found.subject_fields() == {"user_id": "user"}
    assert found.subject_fields("driver") == {}
    [made] = found.derived_ids
    assert (made.name, made.subject, made.parts) == ("account_id", "user", ("shop", "user_id"))
    assert made.of({"shop": "north", "user_id": 7, "other": 1}) == "north/7"


@pytest.mark.parametrize(
    ("derived", "problem"),
    [
        ("x", "write name: template"),
        ({"account_id": "{shop}"}, "must hold fields of one scale.subject"),
        ({"account_id": "{nobody}-{user_id}"}, r"\['nobody'\] are no fields"),
        ({"user_id": "{shop}-{user_id}"}, "that is a field"),
        ({"account_id": "{user_id:>5}"}, "fields' names only"),
        ({"account_id": "{user_id.real}"}, "fields' names only"),
        ({"account_id": "{user_id"}, "is no template"),
        ({"account_id": 5}, "is no template"),
    ],
)
def test_a_template_that_makes_no_id_is_refused(derived: object, problem: str) -> None:
    with pytest.raises(ContractError, match=problem):
        contract(PLAIN, USER, derived=derived)


@pytest.mark.parametrize(
    ("type_", "value", "problem"),
    [
        ("number", "user", r"on a field of type number"),
        ("string", "A user", "name a kind of person"),
        ("string", 5, "name a kind of person"),
    ],
)
def test_a_subject_that_cannot_be_told_is_refused(type_: str, value: object, problem: str) -> None:
    field = {
        "name": "user",
        "logicalType": type_,
        "customProperties": [{"property": "scale.subject", "value": value}],
    }

    with pytest.raises(ContractError, match=problem):
        contract(field)
