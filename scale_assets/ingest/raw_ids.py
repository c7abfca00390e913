"""Whose raw line is it? What it says under the fields that identify a person, or its bytes."""

import json
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

TOKEN = re.compile(rb"[A-Za-z0-9_.@+-]+|[^\x00-\x7f]+")


def ids_in(raw: bytes, names: Collection[str]) -> set[tuple[str, str]]:
    """Each of these names with the values under it, at any depth, as text; none of no JSON."""
    found: set[tuple[str, str]] = set()

    def note(pairs: list[tuple[str, Any]]) -> None:
        found.update(pair for pair in pairs if pair[0] in names and isinstance(pair[1], str))

    try:
        json.loads(raw, object_pairs_hook=note, parse_int=str, parse_float=str)
    except (ValueError, RecursionError):
        return set()
    return found


def belongs_to(
    raw: bytes,
    fields: Mapping[str, str],
    is_id: Callable[[str, str], bool],
    or_bytes: Callable[[bytes], bool] = lambda _: False,
) -> bool:
    """Whether a line is that of a person; ``fields`` are the identifying ones and their kinds.

    Where it names somebody under these, that decides (``is_id`` of kind and value). Else (no JSON,
    or no such field) whatever stands in it alone counts, and what ``or_bytes`` says of the line.
    """
    named = ids_in(raw, fields)
    if named:
        return any(is_id(fields[name], value) for name, value in named)
    tokens = {token.decode(errors="replace") for token in TOKEN.findall(raw)}
    kinds = set(fields.values())
    return any(is_id(kind, token) for token in tokens for kind in kinds) or or_bytes(raw)


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
