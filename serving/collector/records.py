"""A message as the flat record of its stream: selected, enriched, personal data hidden."""

from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from scale_assets.contracts import Pseudonyms
from serving.collector.addresses import truncated
from serving.collector.clock import event_time
from serving.collector.segment import Message
from serving.collector.streams import Stream

encode = msgspec.json.Encoder().encode


class Arrival(msgspec.Struct, frozen=True):
    """What the request says about all of its messages."""

    received_at: datetime
    received_text: str
    source: str
    user_agent: str | None
    client_address: str | None  # truncated
    sent_at: Any


class Record(msgspec.Struct, frozen=True):
    """One line to be written, its values, and the key that orders it among others."""

    stream: Stream
    values: dict[str, Any]
    line: bytes
    key: bytes | None


class RecordMaker:
    """Makes the records of one stream."""

    def __init__(self, stream: Stream, pseudonyms: Pseudonyms | None) -> None:
        self.stream = stream
        self._pseudonyms = pseudonyms
        self._hidden = [name for name in stream.contract.pii_fields() if name in stream.columns]
        self._selected = _by_parent(stream.columns)

    def record(self, message: Message, arrival: Arrival) -> Record:
        """The stream's record; what the message lacks or gives as null is left out."""
        enrich(message, arrival)
        values: dict[str, Any] = {}
        for parents, columns in self._selected:
            inner: Any = message
            for name in parents:
                inner = inner.get(name)
                if type(inner) is not dict:
                    break
            else:
                for column, name in columns:
                    value = inner.get(name)
                    if value is not None:
                        values[column] = value
        self._hide(values)
        return Record(self.stream, values, encode(values) + b"\n", self._key(values))

    def _hide(self, values: dict[str, Any]) -> None:
        for column in self._hidden:
            if column in values:
                assert self._pseudonyms is not None, "loading the streams demands a key"
                values[column] = self._pseudonyms.of(values[column])

    def _key(self, values: Mapping[str, Any]) -> bytes | None:
        column = self.stream.partition_by
        value = None if column is None else values.get(column)
        return None if value is None else str(value).encode()


def enrich(message: Message, arrival: Arrival) -> None:
    """Add what the collector knows of the message, and leave no client address in full."""
    context = message.get("context")
    context = context if type(context) is dict else {}
    sent_at = message.get("sentAt") or arrival.sent_at
    message["collector"] = {
        "received_at": arrival.received_text,
        "event_time": event_time(message.get("timestamp"), sent_at, arrival.received_at),
        "source": arrival.source,
        # That of the person: browsers' libraries copy it, servers' pass it on.
        "user_agent": context.get("userAgent") or arrival.user_agent,
        "client_address": arrival.client_address,
    }
    if "ip" in context:
        context["ip"] = truncated(context["ip"])


def _by_parent(
    columns: Mapping[str, str],
) -> list[tuple[tuple[str, ...], list[tuple[str, str]]]]:
    """The columns with the last names of their paths, by the path above them, walked once."""
    grouped: dict[tuple[str, ...], list[tuple[str, str]]] = defaultdict(list)
    for column, source in columns.items():
        *parents, name = source.split(".")
        grouped[tuple(parents)].append((column, name))
    return list(grouped.items())
