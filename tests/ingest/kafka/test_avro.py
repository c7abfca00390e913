"""Avro values become the rows that the same values in JSON would; what cannot be read is kept."""

import io
import json
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from fastavro import parse_schema, schemaless_writer
from hypothesis import given
from hypothesis import strategies as st

from scale_assets.ingest.account import account
from scale_assets.ingest.errors import IngestError, SourceUnavailable
from scale_assets.ingest.events import EventFeed
from scale_assets.ingest.ingestion import ingest
from scale_assets.ingest.kafka.avro import AvroValues, Undecodable, as_json, decode, parse
from scale_assets.ingest.kafka.registry import FramedJson, Registry
from scale_assets.lake import Lake
from tests.ingest.conftest import rows
from tests.ingest.kafka.conftest import with_source
from tests.ingest.kafka.mock import send
from tests.ingest.kafka.registry import registry

VIEW = {
    "type": "record",
    "name": "View",
    "fields": [
        {"name": "event_id", "type": "string"},
        {"name": "event_time", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {"name": "num_clicks", "type": "int"},
        {"name": "score", "type": ["null", "double"], "default": None},
    ],
}
NOON = datetime(2013, 1, 2, 12, tzinfo=UTC)


def framed(schema_id: int, schema: dict[str, Any], value: Any) -> bytes:
    body = io.BytesIO()
    schemaless_writer(body, parse_schema(schema), value)
    return b"\0" + schema_id.to_bytes(4) + body.getvalue()


def view(number: int, **others: Any) -> dict[str, Any]:
    return {"event_id": f"e{number}", "event_time": NOON, "num_clicks": 1, "score": 0.5} | others


def test_avro_events_are_rows_and_unreadable_ones_keep_their_bytes(
    lake: Lake, kafka_feed: EventFeed, broker: str, topic: str
) -> None:
    bad = [b"{}", framed(9, VIEW, view(3)), framed(7, VIEW, view(4)) + b"x", b"\0\0\0\0\7\x02"]
    invalid = framed(7, VIEW, view(5, num_clicks=0))
    nan = framed(7, VIEW, view(6, score=float("nan")))
    send(broker, topic, [framed(7, VIEW, view(1)), *bad, invalid, nan, None])

    with registry({7: {"schema": json.dumps(VIEW)}}) as url:
        feed = with_source(kafka_feed, values=AvroValues(Registry(url)))
        report = ingest(lake, feed)

    assert (report.num_received, report.num_accepted, report.num_quarantined) == (8, 1, 7)
    (kept,) = rows(lake)
    assert (kept["event_id"], kept["event_time"], kept["score"]) == ("e1", NOON, 0.5)
    refused = rows(lake, feed.quarantine_table)
    assert [row["raw"] for row in refused[:4]] == bad
    assert [row["rule"] for row in refused] == [
        *["unreadable"] * 4,
        *("out_of_range", "not_json", "not_an_object"),
    ]
    assert "has no schema 9" in refused[1]["reason"]
    assert "1 bytes are left over" in refused[2]["reason"]
    assert account(lake, feed).is_exact


def test_a_registry_that_is_not_there_stops_before_any_row(
    lake: Lake, kafka_feed: EventFeed, broker: str, topic: str
) -> None:
    send(broker, topic, [framed(7, VIEW, view(1))])
    gone = with_source(kafka_feed, values=AvroValues(Registry("http://127.0.0.1:1")))
    with pytest.raises(SourceUnavailable, match=r"SCALE_SCHEMA_REGISTRY_URL=http://127\.0\.0\.1:1"):
        ingest(lake, gone)
    with pytest.raises(IngestError, match="set SCALE_SCHEMA_REGISTRY_URL"):
        ingest(lake, with_source(kafka_feed, values=AvroValues(Registry(""))))
    assert lake.num_rows(kafka_feed.table) == 0


def test_a_schema_is_loaded_with_what_it_refers_to() -> None:
    outer = {
        "type": "record",
        "name": "Order",
        "fields": [{"name": "view", "type": "View"}],
    }
    reference = {"name": "View", "subject": "views", "version": 1}
    schemas = {
        1: {"schema": json.dumps(VIEW)},
        2: {"schema": json.dumps(outer), "references": [reference]},
    }
    whole = {**outer, "fields": [{"name": "view", "type": VIEW}]}
    with registry(schemas, subjects={"views": 1}) as url:
        lines, refused = AvroValues(Registry(url)).lines([framed(2, whole, {"view": view(1)})])
    assert refused == {}
    assert json.loads(lines[0])["view"]["event_id"] == "e1"


@pytest.mark.parametrize(
    ("logical", "value", "text"),
    [
        ({"type": "int", "logicalType": "date"}, date(2013, 1, 2), '"2013-01-02"'),
        ({"type": "long", "logicalType": "timestamp-millis"}, NOON, '"2013-01-02T12:00:00Z"'),
        (
            {"type": "bytes", "logicalType": "decimal", "precision": 20, "scale": 2},
            Decimal("123456789012345678.90"),
            "123456789012345678.90",
        ),
        ("bytes", b"\0\xff", '"AP8="'),
        ({"type": "enum", "name": "E", "symbols": ["A", "B"]}, "B", '"B"'),
        (["null", "long"], None, "null"),
        (["null", "long"], 2**53 + 1, "9007199254740993"),
    ],
)
def test_types_are_written_as_contracts_read_them(logical: Any, value: Any, text: str) -> None:
    schema = {"type": "record", "name": "R", "fields": [{"name": "x", "type": logical}]}
    body = framed(0, schema, {"x": value})[5:]
    assert as_json(decode(parse([json.dumps(schema)]), body)).decode() == f'{{"x":{text}}}'


@given(body=st.binary(max_size=60))
def test_any_bytes_are_decoded_whole_or_refused(body: bytes) -> None:
    parsed = parse([json.dumps(VIEW)])
    try:
        value = decode(parsed, body)
    except Undecodable:
        return
    assert set(value) == {field["name"] for field in VIEW["fields"]}
    as_json(value)


def test_framed_json_is_unwrapped() -> None:
    frame = b"\0\0\0\0\7"
    lines, refused = FramedJson().lines([frame + b'{"a":1}', b'{"a":1}', None, b"", frame + b" "])
    assert lines == [b'{"a":1}', b'{"a":1}', b"null", b"null", b"null"]
    assert list(refused) == [1]
