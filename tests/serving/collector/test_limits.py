"""Depth and size are bounded before anything is parsed, whatever the strings hold."""

import gzip
import json
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import example, given

from serving.collector.errors import Refusal
from serving.collector.limits import MAX_NESTING, check_nesting, inflate

TEXT = st.text(alphabet='[]{}"\\a\n', max_size=6)


def wrapped(value: Any, levels: int, *, in_lists: bool) -> Any:
    for _ in range(levels):
        value = [value, "]["] if in_lists else {'{"': value}
    return value


def depth(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max((depth(each) for each in value.values()), default=0)
    if isinstance(value, list):
        return 1 + max((depth(each) for each in value), default=0)
    return 0


VALUES = st.recursive(
    TEXT, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner)
)


@given(value=VALUES, levels=st.integers(0, MAX_NESTING + 3), in_lists=st.booleans())
@example(value="\\", levels=MAX_NESTING, in_lists=True)
@example(value='"', levels=MAX_NESTING + 1, in_lists=False)
def test_depth_is_that_of_the_parsed_value(value: Any, levels: int, in_lists: bool) -> None:
    document = wrapped(value, levels, in_lists=in_lists)
    body = json.dumps(document).encode()

    if depth(document) <= MAX_NESTING:
        check_nesting(body)
    else:
        with pytest.raises(Refusal, match="nests deeper"):
            check_nesting(body)


@given(body=st.binary(max_size=2 * MAX_NESTING))
def test_any_bytes_are_looked_at_without_harm(body: bytes) -> None:
    check_nesting(body)  # too short to nest too deep, and closed as well


@pytest.mark.parametrize("size", [0, 99, 100])
def test_inflate_gives_what_was_packed(size: int) -> None:
    assert inflate(gzip.compress(b"x" * size), 100) == b"x" * size


def test_inflate_stops_at_the_limit() -> None:
    with pytest.raises(Refusal, match="larger than 100 bytes"):
        inflate(gzip.compress(b"x" * 101), 100)
