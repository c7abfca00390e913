"""A message as the flat record of its stream: selected, enriched, personal data hidden."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from scale_assets.contracts import Pseudonyms
from serving.collector.addresses import truncated
from serving.collector.clock import event_time, utc_text
from serving.collector.segment import Message
from serving.collector.streams import Stream

CLIENT_ADDRESS_PATH = "context.ip"  # as server libraries tell it: never stored in full

encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Arrival:
    """What the request says about all of its messages."""

    received_at: datetime
    source: str
    user_agent: str | None
    client_address: str | None  # truncated
    sent_at: Any


Reader = Callable[[Message, Arrival], Any]


@dataclass(frozen=True, slots=True)
class Record:
    """One line to be written, its values, and the key that orders it among others."""

    stream: Stream
    values: dict[str, Any]
    line: bytes
    key: bytes | None


class RecordMaker:
    """Makes the records of one stream."""

    def __init__(self, stream: Stream, pseudonyms: Pseudonyms | None) -> None:
        self.stream = stream
        hidden = stream.contract.pii_fields()
        self._readers = [
            (column, _hiding(_reader(source), pseudonyms) if column in hidden else _reader(source))
            for column, source in stream.columns.items()
        ]

    def record(self, message: Message, arrival: Arrival) -> Record:
        """The stream's record; what a message lacks or gives as null is left out."""
        values = {}
        for column, read in self._readers:
            value = read(message, arrival)
            if value is not None:
                values[column] = value
        return Record(self.stream, values, encode(values) + b"\n", self._key(values))

    def _key(self, values: Mapping[str, Any]) -> bytes | None:
        column = self.stream.partition_by
        value = None if column is None else values.get(column)
        return None if value is None else str(value).encode()


def _hiding(read: Reader, pseudonyms: Pseudonyms | None) -> Reader:
    assert pseudonyms is not None, "loading the streams demands a key"
    return lambda message, arrival: pseudonyms.of(read(message, arrival))


def _reader(source: str) -> Reader:
    root, _, rest = source.partition(".")
    if root == "collector":
        return FACT_READERS[rest]
    if not rest:
        return lambda message, _: message.get(source)
    at_path = _path_reader(source.split("."))
    if source == CLIENT_ADDRESS_PATH:
        return lambda message, arrival: truncated(at_path(message, arrival))
    return at_path


def _path_reader(path: list[str]) -> Reader:
    *parents, last = path

    def read(message: Message, _: Arrival) -> Any:
        inner: Any = message
        for name in parents:
            inner = inner.get(name)
            if type(inner) is not dict:
                return None
        return inner.get(last)

    return read


def _event_time(message: Message, arrival: Arrival) -> Any:
    sent_at = message.get("sentAt") or arrival.sent_at
    return event_time(message.get("timestamp"), sent_at, arrival.received_at)


def _user_agent(message: Message, arrival: Arrival) -> Any:
    """That of the person: browsers' libraries copy it, servers' pass it on under context."""
    context = message.get("context")
    given = context.get("userAgent") if type(context) is dict else None
    return given or arrival.user_agent


FACT_READERS: dict[str, Reader] = {
    "received_at": lambda _, arrival: utc_text(arrival.received_at),
    "event_time": _event_time,
    "source": lambda _, arrival: arrival.source,
    "user_agent": _user_agent,
    "client_address": lambda _, arrival: arrival.client_address,
}
