"""Write keys in every form that Segment's libraries have sent them."""

import base64

import pytest

from serving.collector.auth import WriteKeys
from serving.collector.errors import Refusal

KEYS = WriteKeys({"web": "abc", "backend": "d:f"})


def basic(text: str, scheme: str = "Basic") -> bytes:
    return f"{scheme} ".encode() + base64.b64encode(text.encode())


@pytest.mark.parametrize(
    ("header", "in_body", "source"),
    [
        pytest.param(basic("abc:"), None, "web", id="the key is the user name"),
        pytest.param(basic("abc"), None, "web", id="without its colon"),
        pytest.param(basic("abc:ignored"), None, "web", id="any password"),
        pytest.param(basic("abc:", "basic"), None, "web", id="any case"),
        pytest.param(basic("d:f:"), None, "backend", id="a key with a colon, as clients send it"),
        pytest.param(None, "abc", "web", id="in the body"),
        pytest.param(basic("abc:"), "d:f", "web", id="the header decides"),
    ],
)
def test_a_known_key_names_its_source(header: bytes | None, in_body: object, source: str) -> None:
    assert KEYS.source(header, in_body) == source


@pytest.mark.parametrize(
    ("header", "in_body"),
    [
        (None, None),
        (None, ""),
        (None, ["abc"]),
        (None, "ABC"),
        (basic("abd:"), "abc"),
        (b"", "abc"),
        (b"Basic", None),
        (b"Basic !!!", None),
        (b"Basic /w==", None),
        (b"Bearer YWJjOg==", None),
    ],
)
def test_anything_else_is_refused(header: bytes | None, in_body: object) -> None:
    with pytest.raises(Refusal) as refused:
        KEYS.source(header, in_body)

    assert refused.value.status == 401
