"""Segment's HTTP tracking API: its paths, and what their bodies hold."""

from typing import Any
from uuid import uuid4

import msgspec

from serving.collector.errors import Refusal
from serving.collector.limits import MAX_BATCH_BYTES, MAX_BATCH_EVENTS, MAX_EVENT_BYTES

Message = dict[str, Any]

TYPES = ("alias", "group", "identify", "page", "screen", "track")
BATCH = "batch"
# analytics.js writes the first letter only; older server libraries call a batch an import.
ROUTES = {
    **{f"/v1/{kind}": kind for kind in (*TYPES, BATCH)},
    **{f"/v1/{kind[0]}": kind for kind in (*TYPES, BATCH)},
    "/v1/import": BATCH,
}
FIELDS = (  # what any of the six types may carry, beside the three objects
    *("messageId", "type", "timestamp", "sentAt", "originalTimestamp", "anonymousId", "userId"),
    *("previousId", "groupId", "event", "name", "category", "channel", "version"),
)
OBJECTS = ("context", "properties", "traits", "integrations")


class _RawBatch(msgspec.Struct):
    batch: list[msgspec.Raw]


class Envelope(msgspec.Struct, frozen=True):
    """One request's messages, each with its type and an id, and what it says of them all."""

    messages: list[Message]
    sent_at: Any
    write_key: Any


decode = msgspec.json.Decoder().decode
decode_raw_batch = msgspec.json.Decoder(_RawBatch).decode


def max_bytes(kind: str) -> int:
    return MAX_BATCH_BYTES if kind == BATCH else MAX_EVENT_BYTES


def read_envelope(kind: str, body: bytes) -> Envelope:
    """The messages of one request.

    Raises:
        Refusal: 400; the body is not what this path takes, or is larger than it may be.
    """
    document = _read_object(body)
    if kind == BATCH:
        messages = _batch_messages(document, body)
    else:
        document["type"] = kind
        messages = [document]
    for message in messages:
        if not message.get("messageId"):
            message["messageId"] = f"collector-{uuid4()}"
    return Envelope(messages, document.get("sentAt"), document.get("writeKey"))


def _read_object(body: bytes) -> Message:
    try:
        document = decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Refusal(400, "invalid_json", f"the body is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise Refusal(400, "invalid_request", "the body is not an object")
    return document


def _batch_messages(document: Message, body: bytes) -> list[Message]:
    messages = document.get("batch")
    if not isinstance(messages, list):
        raise Refusal(400, "invalid_request", "batch is not a list of messages")
    if len(messages) > MAX_BATCH_EVENTS:
        reason = f"batch has {len(messages)} messages; at most {MAX_BATCH_EVENTS} are taken"
        raise Refusal(400, "batch_too_large", reason)
    for at, message in enumerate(messages):
        if not isinstance(message, dict) or message.get("type") not in TYPES:
            raise Refusal(400, "invalid_request", f"batch[{at}] has no type of {', '.join(TYPES)}")
    if len(body) > MAX_EVENT_BYTES:
        _check_sizes(body)
    return messages


def _check_sizes(body: bytes) -> None:
    for at, raw in enumerate(decode_raw_batch(body).batch):
        size = memoryview(raw).nbytes
        if size > MAX_EVENT_BYTES:
            reason = f"batch[{at}] has {size} bytes; at most {MAX_EVENT_BYTES} are taken"
            raise Refusal(400, "payload_too_large", reason)
