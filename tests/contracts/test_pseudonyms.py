"""Equal values share a pseudonym, the key decides which, and no raw value comes through."""

import base64
import hashlib
import hmac

import pytest

from scale_assets.contracts import Contract, ContractError, Field, Pseudonyms

KEY = "0123456789abcdef0123456789abcdef"


def test_a_pseudonym_is_the_keys_id_and_the_hmac_of_the_value() -> None:
    expected = base64.urlsafe_b64encode(hmac.new(KEY.encode(), b"ada", hashlib.sha256).digest())

    assert Pseudonyms(key=KEY, key_id="2026").of("ada") == f"2026.{expected.decode().rstrip('=')}"


def test_another_key_gives_another_pseudonym() -> None:
    first = Pseudonyms(key=KEY, key_id="1")
    second = Pseudonyms(key=KEY[::-1], key_id="1")

    assert first.of("ada") == first.of("ada") != first.of("bob")
    assert first.of("ada") != second.of("ada")


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        pytest.param(None, None, id="null stays null"),
        pytest.param({"name": "ada"}, {}, id="an object loses its content"),
        pytest.param(["ada"], [], id="so does an array"),
    ],
)
def test_what_is_no_scalar_keeps_its_kind_only(value: object, stored: object) -> None:
    assert Pseudonyms(key=KEY, key_id="1").of(value) == stored


def test_a_number_has_the_pseudonym_of_its_digits() -> None:
    pseudonyms = Pseudonyms(key=KEY, key_id="1")

    assert pseudonyms.of(7) == pseudonyms.of("7")


@pytest.mark.parametrize(
    ("key", "key_id", "says"),
    [
        pytest.param("short", "1", "at least 32", id="a key that could be guessed"),
        pytest.param(KEY, "a.b", "1 to 16", id="an id that could not be told from the hash"),
    ],
)
def test_keys_that_cannot_be_used_are_refused(key: str, key_id: str, says: str) -> None:
    with pytest.raises(ContractError, match=says):
        Pseudonyms(key=key, key_id=key_id)


@pytest.mark.parametrize(
    "field",
    [
        Field(name="mail", type="string", pii="email", pattern="@"),
        Field(name="mail", type="string", pii="email", max_length=20),
        Field(name="mail", type="integer", pii="email"),
    ],
    ids=lambda field: field.type,
)
def test_a_contract_must_describe_the_pseudonym(field: Field) -> None:
    contract = Contract(name="c", version="1", fields=(field,))

    with pytest.raises(ContractError, match=r"mail is tagged pii:email.*Describe the pseudonym"):
        Pseudonyms(key=KEY, key_id="1").check(contract)


def test_fields_that_hold_a_pseudonym_pass() -> None:
    fields = (
        Field(name="user", type="string", pii="id", required=True, unique=True, max_length=60),
        Field(name="size", type="integer", maximum=3),
    )

    Pseudonyms(key=KEY, key_id="1").check(Contract(name="c", version="1", fields=fields))
