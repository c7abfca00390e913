"""Personal data under a keyed hash: equal values stay equal, and none can be read back."""

import base64
import hmac
import re
from dataclasses import replace
from typing import Any

from scale_assets.contracts.model import Contract, ContractError, Field
from scale_assets.contracts.validate import validate_lines

MIN_KEY_CHARACTERS = 32
KEY_ID = re.compile(r"[A-Za-z0-9_-]{1,16}")


class Pseudonyms:
    """HMAC-SHA-256 (RFC 2104) under one key.

    A pseudonym is the key's id, a dot, and the hash in unpadded base64url: when the key rotates,
    old and new ones tell themselves apart. The field's name is not hashed, so that the same user
    has the same pseudonym in every table that was written under the same key.
    """

    def __init__(self, *, key: str, key_id: str) -> None:
        if len(key) < MIN_KEY_CHARACTERS:
            raise ContractError(
                f"the key for personal data has {len(key)} characters; give at least "
                f'{MIN_KEY_CHARACTERS}, e.g. python -c "import secrets; print(secrets.token_hex())"'
            )
        if not KEY_ID.fullmatch(key_id):
            raise ContractError(f"the key's id is {key_id!r}; use 1 to 16 of A-Z a-z 0-9 _ -")
        self._key = key.encode()
        self._prefix = f"{key_id}."

    def of(self, value: Any) -> Any:
        """The pseudonym of a string, number or boolean; a number's is that of its digits.

        Objects and arrays keep their kind and lose their content, so that a contract refuses them
        as it would have, and nothing of them is stored.
        """
        if value is None:
            return None
        if isinstance(value, dict):
            return {}
        if isinstance(value, list):
            return []
        text = value if isinstance(value, str) else str(value)
        digest = hmac.digest(self._key, text.encode(), "sha256")
        return self._prefix + base64.urlsafe_b64encode(digest).rstrip(b"=").decode()

    def check(self, contract: Contract) -> None:
        """Raise ContractError for a field tagged PII whose constraints no pseudonym can keep."""
        sample = self.of("sample")
        for name in contract.pii_fields():
            field = contract.field(name)
            if fault := _fault_of(field, sample):
                raise ContractError(
                    f"contract {contract.name}: {name} is tagged pii:{field.pii}, so it is stored "
                    f"as a pseudonym such as {sample}; {fault}. Describe the pseudonym, not the "
                    "value behind it"
                )


def _fault_of(field: Field, sample: str) -> str | None:
    """Why the field refuses ``sample``; None where it takes it."""
    alone = Contract(name="pseudonym", version="1", fields=(replace(field, unique=False),))
    found = validate_lines(alone, b'{"%s": "%s"}\n' % (field.name.encode(), sample.encode()))
    return found.quarantined["reason"][0].as_py() if found.quarantined.num_rows else None
