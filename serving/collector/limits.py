"""How much one request may hold: Segment's own limits, and how deep its JSON may nest."""

import re
import zlib

from serving.collector.errors import Refusal

MAX_EVENT_BYTES = 32 << 10
MAX_BATCH_BYTES = 500 << 10
MAX_BATCH_EVENTS = 2500
MAX_NESTING = 32

ESCAPE = re.compile(rb"\\.", re.DOTALL)
ALL_BUT_STRUCTURE = bytes(set(range(256)) - set(b'[]{}"'))
ONE_KIND = bytes.maketrans(b"{}", b"[]")
GZIP = 16 + zlib.MAX_WBITS


def too_large(max_bytes: int) -> Refusal:
    """Segment answers 400 where others say 413, and its clients know that it is final."""
    return Refusal(400, "payload_too_large", f"the body is larger than {max_bytes} bytes")


def check_nesting(body: bytes) -> None:
    """Refuse JSON that nests deeper than MAX_NESTING, before anything parses it.

    Brackets are taken away in pairs from the inside out, one level per pass; what is left over
    when they do not pair is not JSON, and for the parser to say.
    """
    if body.count(b"[") + body.count(b"{") <= MAX_NESTING:
        return
    structure = ESCAPE.sub(b"", body) if b"\\" in body else body
    outside_strings = structure.translate(ONE_KIND, ALL_BUT_STRUCTURE).split(b'"')[::2]
    brackets = b"".join(outside_strings)
    for _ in range(MAX_NESTING):
        brackets = brackets.replace(b"[]", b"")
    if b"[]" in brackets:
        raise Refusal(400, "nested_too_deep", f"the JSON nests deeper than {MAX_NESTING} levels")


def inflate(body: bytes, max_bytes: int) -> bytes:
    """One gzip member, never more than ``max_bytes`` of what it holds."""
    stream = zlib.decompressobj(GZIP)
    try:
        inflated = stream.decompress(body, max_bytes + 1)
    except zlib.error as error:
        raise Refusal(400, "invalid_gzip", f"the body is not gzip: {error}") from None
    if len(inflated) > max_bytes:
        raise too_large(max_bytes)
    if not stream.eof or stream.unused_data:
        raise Refusal(400, "invalid_gzip", "the body is not exactly one whole gzip member")
    return inflated
