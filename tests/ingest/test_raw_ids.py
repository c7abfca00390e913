"""Whose a raw line is: by its fields, and only without them by its bytes."""

import json

import hypothesis.strategies as st
import pytest
from hypothesis import given

from scale_assets.ingest.raw_ids import belongs_to, ids_in, mentions

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda each: st.lists(each, max_size=3) | st.dictionaries(st.text(), each, max_size=3),
    max_leaves=8,
)


FIELDS = {"user": "user", "browser": "visitor"}


def is_7(kind: str, text: str) -> bool:
    return (kind, text) == ("user", "7")


@pytest.mark.parametrize(
    "raw",
    [
        b'{"user": 7}',
        b'{"user": "7"}',
        b'{"payload": {"before": {"user": 7}, "after": {"user": 8}}}',
        b'{"user": 8, "user": 7}',
        b'[{"user": 7}]',
        b'{"user": 7, "cut',
        b'{"userId": 7}',
        b"\xff\xfe 7 \x00",
        '{"user": 7}'.encode("utf-16"),
        b"[" * 100_000 + b"7",
    ],
)
def test_a_line_of_theirs(raw: bytes) -> None:
    assert belongs_to(raw, FIELDS, is_7)


@pytest.mark.parametrize(
    "raw",
    [
        b'{"browser": 7}',
        b'{"user": null, "browser": "a", "item": 7}',
        b'{"user": 8, "item": 7}',
        b'{"user": 77}',
        b'{"user": 17, "x',
        b'{"userId": 7.5}',
        b"",
        b"u7",
    ],
)
def test_a_line_of_somebody_else(raw: bytes) -> None:
    assert not belongs_to(raw, FIELDS, is_7)


def test_numbers_beyond_64_bits_keep_their_digits() -> None:
    assert ids_in(b'{"user": 123456789012345678901234567890}', ["user"]) == {
        ("user", "123456789012345678901234567890")
    }


@given(before=VALUES, after=VALUES)
def test_the_field_is_found_wherever_it_stands(before: object, after: object) -> None:
    raw = json.dumps([before, {"deep": {"user": 7}}, after]).encode()

    assert ("user", "7") in ids_in(raw, ["user"])


@given(raw=st.binary(max_size=200))
def test_any_bytes_are_judged(raw: bytes) -> None:
    belongs_to(raw, FIELDS, is_7, or_bytes=lambda line: mentions(line, "7"))


@pytest.mark.parametrize(
    ("text", "found"), [("a-7", True), ("x7", False), ("7_", False), ("7", True)]
)
def test_part_of_a_word_is_no_mention(text: str, found: bool) -> None:
    assert mentions(text.encode(), "7") is found
