"""What of a message is kept, and what never reaches the disk."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from scale_assets.contracts import Pseudonyms
from serving.collector.config import Config
from serving.collector.records import Arrival, RecordMaker
from serving.collector.streams import load_streams
from tests.serving.collector.conftest import PII_KEY, click

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
ARRIVAL = Arrival(
    received_at=NOON,
    received_text="2026-01-02T12:00:00.000000Z",
    source="web",
    user_agent="curl/8",
    client_address="203.0.113.0",
    sent_at="2026-01-01T00:00:10Z",
)
PSEUDONYMS = Pseudonyms(key=PII_KEY, key_id="k1")


@pytest.fixture
def clicks(config: Config) -> RecordMaker:
    return RecordMaker(load_streams(Path(config.streams), PSEUDONYMS)[0], PSEUDONYMS)


def test_columns_are_selected_and_enriched(clicks: RecordMaker) -> None:
    message = click(
        timestamp="2026-01-01T00:00:00Z",
        properties={"count": 2, "secret": "x"},
        context={"page": {"path": "/a", "url": "/a?token=x"}, "ip": "198.51.100.23"},
    )

    record = clicks.record(message, ARRIVAL)

    assert record.values == {
        "event_id": "m1",
        "event_time": "2026-01-02T11:59:50.000000Z",
        "received_at": "2026-01-02T12:00:00.000000Z",
        "source": "web",
        "user": PSEUDONYMS.of("ada"),
        "count": 2,
        "path": "/a",
        "agent": "curl/8",
        "network": "203.0.113.0",
        "ip": "198.51.100.0",
    }
    assert json.loads(record.line) == record.values
    assert record.line.endswith(b"\n")
    assert record.key == PSEUDONYMS.of("ada").encode()


def test_a_message_cannot_say_what_only_the_collector_knows(clicks: RecordMaker) -> None:
    message = click(collector={"source": "backend", "client_address": "192.0.2.1"})

    values = clicks.record(message, ARRIVAL).values

    assert (values["source"], values["network"]) == ("web", "203.0.113.0")


def test_a_messages_own_sent_at_and_user_agent_come_first(clicks: RecordMaker) -> None:
    message = click(
        timestamp="2026-01-01T00:00:00Z",
        sentAt="2026-01-01T00:01:00Z",
        context={"userAgent": "Firefox"},
    )

    values = clicks.record(message, ARRIVAL).values

    assert values["event_time"] == "2026-01-02T11:59:00.000000Z"
    assert values["agent"] == "Firefox"


@pytest.mark.parametrize("context", [None, "x", [], {"page": "x"}, {"page": None}, {"ip": 7}])
def test_a_path_that_is_not_there_gives_nothing(clicks: RecordMaker, context: Any) -> None:
    values = clicks.record(click(context=context), ARRIVAL).values

    assert not values.keys() & {"path", "ip"}


@pytest.mark.parametrize("value", ["ada@example.org", {"a": "ada@example.org"}, ["ada"], 170372])
def test_personal_data_is_never_written(config: Config, value: Any) -> None:
    people = RecordMaker(load_streams(Path(config.streams), PSEUDONYMS)[1], PSEUDONYMS)
    message = {"messageId": "m1", "type": "identify", "userId": value, "traits": {"email": value}}

    line = people.record(message, ARRIVAL).line.decode()

    assert "ada" not in line
    assert "170372" not in line


def test_another_key_id_tells_its_pseudonyms_apart(config: Config) -> None:
    later = Pseudonyms(key=PII_KEY[::-1], key_id="k2")
    stream = load_streams(Path(config.streams), later)[0]

    values = RecordMaker(stream, later).record(click(), ARRIVAL).values

    assert values["user"].startswith("k2.")


def test_values_are_written_as_json_says_them(clicks: RecordMaker) -> None:
    message = msgspec.json.decode(
        b'{"messageId":"m\\u0000\\ud83d\\ude00","type":"page","properties":{"count":1e3}}'
    )

    line = clicks.record(message, ARRIVAL).line

    assert json.loads(line)["event_id"] == "m\0😀"
    assert line.count(b"\n") == 1
