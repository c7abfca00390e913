"""Which fields identify a person, as contracts declare it (scale.subject, scale.derivedIds)."""

import re
from collections.abc import Sequence
from string import Formatter
from typing import Any

from scale_assets.contracts.model import ContractError, DerivedId, Field

KIND = re.compile(r"[a-z][a-z0-9_]{0,31}")
ID_TYPES = ("string", "integer")  # whose text is one and the same wherever it is written


def subject_of(custom: dict[str, Any], type_: str, where: str) -> str | None:
    """The kind of person that a field identifies, such as user; None for other fields."""
    kind = custom.get("scale.subject")
    if kind is None:
        return None
    if not (isinstance(kind, str) and KIND.fullmatch(kind)):
        raise ContractError(f"{where}: scale.subject {kind!r}; name a kind of person, such as user")
    if type_ not in ID_TYPES:
        raise ContractError(
            f"{where}: scale.subject on a field of type {type_}; a person is known by one of "
            f"{list(ID_TYPES)}"
        )
    return kind


def derived_ids_of(given: Any, fields: Sequence[Field], where: str) -> tuple[DerivedId, ...]:
    """The ids that are made of a source's fields, one of which identifies a person."""
    if given is None:
        return ()
    if not isinstance(given, dict):
        raise ContractError(
            f"{where}: scale.derivedIds {given!r}; write name: template, such as "
            'account_id: "{shop_id}-{user_id}"'
        )
    return tuple(
        _derived_id(str(name), template, fields, f"{where}: scale.derivedIds: {name}")
        for name, template in given.items()
    )


def _derived_id(name: str, template: Any, fields: Sequence[Field], where: str) -> DerivedId:
    kinds = {field.name: field.subject for field in fields}
    parts = _parts(template, where)
    unknown = sorted(set(parts) - set(kinds))
    if unknown:
        raise ContractError(f"{where}: {unknown} are no fields; it has {sorted(kinds)}")
    if name in kinds:
        raise ContractError(f"{where}: that is a field; declare scale.subject on it instead")
    found = {kind for part in parts if (kind := kinds[part])}
    if len(found) != 1:
        raise ContractError(
            f"{where}: {template!r} must hold fields of one scale.subject, has {sorted(found)}"
        )
    return DerivedId(name=name, template=template, subject=found.pop())


def _parts(template: Any, where: str) -> list[str]:
    """Names of the fields; nothing but plain names in braces is a template."""
    try:
        pieces = list(Formatter().parse(template))
    except (TypeError, ValueError) as error:
        raise ContractError(f"{where}: {template!r} is no template: {error}") from error
    for _, name, form, conversion in pieces:
        if name is not None and (not name.isidentifier() or form or conversion):
            raise ContractError(f"{where}: {template!r}: write fields' names only, in braces")
    return [name for _, name, _, _ in pieces if name]
