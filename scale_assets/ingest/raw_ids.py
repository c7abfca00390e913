"""Whose raw line is it? What it says under the fields that identify a person, or its bytes."""

import json
import re
from collections.abc import Callable, Iterable
from typing import Any

TOKEN = re.compile(rb"[A-Za-z0-9_.@+-]+|[^\x00-\x7f]+")


def ids_in(raw: bytes, names: Iterable[str]) -> set[str]:
    """The values under these names, at any depth, as text; none where the line is no JSON."""
    wanted = frozenset(names)
    found: set[str] = set()

    def note(pairs: list[tuple[str, Any]]) -> None:
        found.update(value for name, value in pairs if name in wanted and isinstance(value, str))

    try:
        json.loads(raw, object_pairs_hook=note, parse_int=str, parse_float=str)
    except (ValueError, RecursionError):
        return set()
    return found


def belongs_to(
    raw: bytes,
    names: Iterable[str],
    is_id: Callable[[str], bool],
    or_bytes: Callable[[bytes], bool] = lambda _: False,
) -> bool:
    """Whether a line is that of a person.

    Where it names somebody under the declared fields, that decides. Else (no JSON, or the field is
    not there) whatever stands in it alone counts, and what ``or_bytes`` says of the line.
    """
    named = ids_in(raw, names)
    if named:
        return any(is_id(value) for value in named)
    tokens = {token.decode(errors="replace") for token in TOKEN.findall(raw)}
    return any(is_id(token) for token in tokens) or or_bytes(raw)


def is_json(raw: bytes) -> bool:
    """Whether a line can be parsed, so that its fields can be looked at."""
    try:
        json.loads(raw)
    except (ValueError, RecursionError):
        return False
    return True


def mentions(raw: bytes, value: str) -> bool:
    """Whether the bytes of an id occur, and not merely as part of a longer word or number."""
    pattern = rb"(?<![A-Za-z0-9_])" + re.escape(value.encode()) + rb"(?![A-Za-z0-9_])"
    return re.search(pattern, raw) is not None
