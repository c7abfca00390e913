"""The paths, as a Segment client sees them."""

import asyncio
import base64
import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
from starlette.testclient import TestClient

from serving.collector import app as app_module
from serving.collector.build import build
from serving.collector.config import Config
from serving.collector.segment import ROUTES
from tests.serving.collector.conftest import KEY, click

Written = Callable[..., list[dict[str, Any]]]
BASIC = {"authorization": "Basic " + base64.b64encode(f"{KEY}:".encode()).decode()}


def test_the_routes_are_frozen() -> None:
    assert ROUTES == {
        "/v1/track": "track",
        "/v1/t": "track",
        "/v1/page": "page",
        "/v1/p": "page",
        "/v1/screen": "screen",
        "/v1/s": "screen",
        "/v1/identify": "identify",
        "/v1/i": "identify",
        "/v1/group": "group",
        "/v1/g": "group",
        "/v1/alias": "alias",
        "/v1/a": "alias",
        "/v1/batch": "batch",
        "/v1/b": "batch",
        "/v1/import": "batch",
    }


@pytest.mark.parametrize("path", ["/v1/track", "/v1/t", "/v1/track/"])
def test_a_message_is_on_the_disk_when_it_is_answered(
    client: TestClient, written: Written, path: str
) -> None:
    answer = client.post(path, json=click(properties={"count": 3}), headers=BASIC)

    assert (answer.status_code, answer.json()) == (200, {"success": True})
    assert [(row["event_id"], row["count"]) for row in written()] == [("m1", 3)]


def test_a_batch_goes_to_the_stream_of_each_message(client: TestClient, written: Written) -> None:
    batch = [click(1), {"messageId": "m2", "type": "identify", "userId": "ada"}, click(3)]

    answer = client.post("/v1/batch", json={"batch": batch, "writeKey": KEY})

    assert answer.status_code == 200
    assert [row["event_id"] for row in written("clicks")] == ["m1", "m3"]
    assert [row["event_id"] for row in written("people")] == ["m2"]


def test_a_message_that_no_stream_takes_is_answered_and_counted(
    client: TestClient, written: Written
) -> None:
    answer = client.post("/v1/track", json=click(event="Scrolled"), headers=BASIC)

    assert answer.status_code == 200
    assert written() == []
    text = client.get("/metrics").text
    assert 'scale_collector_ignored_events_total{type="track"} 1.0' in text


def test_a_message_without_an_id_gets_one(client: TestClient, written: Written) -> None:
    for _ in range(2):
        client.post("/v1/page", json={"userId": "ada"}, headers=BASIC)

    ids = [row["event_id"] for row in written()]
    assert len(set(ids)) == 2
    assert all(each.startswith("collector-") for each in ids)


def test_gzip_is_inflated(client: TestClient, written: Written) -> None:
    body = gzip.compress(json.dumps({"batch": [click(1), click(2)]}).encode())

    answer = client.post("/v1/batch", content=body, headers={**BASIC, "content-encoding": "gzip"})

    assert answer.status_code == 200
    assert len(written()) == 2


@dataclass(frozen=True)
class Bad:
    """A request, and how it ends."""

    path: str
    body: bytes
    status: int
    code: str
    headers: dict[str, str] | None = None


def nested(depth: int) -> bytes:
    return b'{"a":' * (depth - 1) + b"{}" + b"}" * (depth - 1)


def batch_of(*messages: Any) -> bytes:
    return json.dumps({"batch": messages}).encode()


GZIPPED = {**BASIC, "content-encoding": "gzip"}
BAD = {
    "no write key": Bad("/v1/track", b"{}", 401, "invalid_write_key", {}),
    "an unknown write key": Bad("/v1/t", b'{"writeKey":"x"}', 401, "invalid_write_key", {}),
    "not JSON": Bad("/v1/track", b"{", 400, "invalid_json"),
    "not UTF-8": Bad("/v1/track", b'{"a":"\xff"}', 400, "invalid_json"),
    "NaN": Bad("/v1/track", b'{"a":NaN}', 400, "invalid_json"),
    "an empty body": Bad("/v1/track", b"", 400, "invalid_json"),
    "not an object": Bad("/v1/track", b"[]", 400, "invalid_request"),
    "a batch that is none": Bad("/v1/batch", b'{"batch":{}}', 400, "invalid_request"),
    "a message without a type": Bad("/v1/batch", batch_of({}), 400, "invalid_request"),
    "a message of no type": Bad("/v1/batch", batch_of({"type": []}), 400, "invalid_request"),
    "a message that is none": Bad("/v1/batch", batch_of(1), 400, "invalid_request"),
    "too many messages": Bad(
        "/v1/batch", batch_of(*[{"type": "page"}] * 2501), 400, "batch_too_large"
    ),
    "too large an event": Bad(
        "/v1/track", json.dumps({"a": "x" * (32 << 10)}).encode(), 400, "payload_too_large"
    ),
    "too large an event in a batch": Bad(
        "/v1/batch", batch_of(click(), click(a="x" * (32 << 10))), 400, "payload_too_large"
    ),
    "too large a batch": Bad(
        "/v1/batch", batch_of(*[click(a="x" * 30_000)] * 18), 400, "payload_too_large"
    ),
    "nested too deep": Bad("/v1/track", nested(33), 400, "nested_too_deep"),
    "nested far too deep": Bad("/v1/batch", b"[" * 200_000, 400, "invalid_json"),
    "not gzip": Bad("/v1/track", b"{}", 400, "invalid_gzip", GZIPPED),
    "gzip cut short": Bad("/v1/t", gzip.compress(b"{}")[:-1], 400, "invalid_gzip", GZIPPED),
    "gzip with more behind": Bad(
        "/v1/t", gzip.compress(b"{}") + b"{}", 400, "invalid_gzip", GZIPPED
    ),
    "a gzip bomb": Bad(
        "/v1/batch", gzip.compress(bytes(100_000_000)), 400, "payload_too_large", GZIPPED
    ),
    "another encoding": Bad(
        "/v1/track", b"{}", 415, "unsupported_encoding", {**BASIC, "content-encoding": "br"}
    ),
    "an unknown path": Bad("/v1/tracks", b"{}", 404, "not_found"),
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_bad_requests_are_told_what_is_wrong(
    client: TestClient, written: Written, bad: Bad
) -> None:
    headers = BASIC if bad.headers is None else bad.headers
    answer = client.post(bad.path, content=bad.body, headers=headers)

    assert answer.status_code == bad.status
    assert answer.json()["success"] is False
    assert answer.json()["code"] == bad.code
    assert answer.json()["message"]
    assert written() == []


def test_what_is_just_within_the_limits_is_taken(client: TestClient) -> None:
    padding = (32 << 10) - len(json.dumps(click(a="")))
    largest = [click(a="x" * padding)]

    assert client.post("/v1/track", content=nested(32), headers=BASIC).status_code == 200
    assert client.post("/v1/track", json=largest[0], headers=BASIC).status_code == 200
    assert client.post("/v1/batch", json={"batch": largest}, headers=BASIC).status_code == 200
    many = {"batch": [{"type": "page"}] * 2500}
    assert client.post("/v1/batch", json=many, headers=BASIC).status_code == 200
    assert client.post("/v1/batch", json={"batch": []}, headers=BASIC).status_code == 200


def test_a_chunked_body_is_counted_as_it_arrives(client: TestClient, written: Written) -> None:
    answer = client.post("/v1/track", content=iter([b" " * 10_000] * 4), headers=BASIC)

    assert (answer.status_code, answer.json()["code"]) == (400, "payload_too_large")
    assert client.post("/v1/t", content=iter([b'{"type":', b'"track"}']), headers=BASIC).is_success


def test_other_methods_are_refused(client: TestClient) -> None:
    assert client.get("/v1/track", headers=BASIC).status_code == 405


def test_a_breach_of_the_contract_is_accepted_for_quarantine(
    client: TestClient, written: Written
) -> None:
    answer = client.post("/v1/track", json=click(properties={"count": 0}), headers=BASIC)

    assert answer.status_code == 200
    assert [row["count"] for row in written()] == [0]
    text = client.get("/metrics").text
    breach = '{field="count",rule="out_of_range",stream="clicks"}'
    assert f"scale_collector_contract_breaches_total{breach} 1.0" in text


def test_or_refused_with_its_whole_batch_naming_field_and_rule(
    config: Config, written: Written
) -> None:
    batch = [click(1), click(2, properties={"country": "nl"})]
    with TestClient(build(msgspec.structs.replace(config, on_breach="refuse"))) as client:
        refused = client.post("/v1/batch", json={"batch": batch}, headers=BASIC)
        taken = client.post("/v1/batch", json={"batch": batch[:1]}, headers=BASIC)

    assert refused.status_code == 400
    assert refused.json()["code"] == "bad_pattern"
    assert "message 1, field country: country must match" in refused.json()["message"]
    assert taken.status_code == 200
    assert [row["event_id"] for row in written()] == ["m1"]


def test_more_than_the_rate_is_told_when_to_come_again(config: Config) -> None:
    slow = msgspec.structs.replace(config, events_per_second=2)
    batch = {"batch": [click(number) for number in range(6)]}
    with TestClient(build(slow)) as client:
        answers = [client.post("/v1/batch", json=batch, headers=BASIC) for _ in range(2)]
        other = client.post("/v1/track", json=click(), auth=("backend-key", ""))

    assert [answer.status_code for answer in answers] == [200, 429]
    assert int(answers[1].headers["retry-after"]) == 2
    assert other.status_code == 200


def test_a_full_queue_is_told_so(config: Config) -> None:
    app = build(msgspec.structs.replace(config, queue_mib=1))
    app._commits._max_queue_bytes = 100  # type: ignore[attr-defined] # a record is larger
    with TestClient(app) as client:
        answer = client.post("/v1/track", json=click(), headers=BASIC)

    assert (answer.status_code, answer.json()["code"]) == (503, "overloaded")
    assert answer.headers["retry-after"] == "1"


def test_a_full_disk_acknowledges_nothing_until_there_is_room(
    config: Config, small_disk: Path
) -> None:
    ballast = small_disk / "ballast"
    full = msgspec.structs.replace(config, feeds_dir=str(small_disk / "feeds"))
    large = {"batch": [click(2, context={"page": {"path": "x" * 30_000}})] * 5}
    with TestClient(build(full)) as client:
        assert client.post("/v1/track", json=click(1), headers=BASIC).is_success
        ballast.write_bytes(bytes(950 << 10))
        refused = client.post("/v1/batch", json=large, headers=BASIC)
        sick = client.get("/healthz").json()
        ballast.unlink()
        taken = client.post("/v1/track", json=click(3), headers=BASIC)
        well = client.get("/healthz").json()

    assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
    assert refused.headers["retry-after"] == "1"
    assert sick == {"live": True, "failing": ["clicks"]}
    assert taken.status_code == 200
    assert well == {"live": True, "failing": []}
    files = sorted((small_disk / "feeds" / "clicks").iterdir())
    ids = [json.loads(line)["event_id"] for path in files for line in path.read_text().splitlines()]
    assert ids == ["m1", "m3"]


def test_a_body_that_does_not_come_is_given_up(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(30)
        return {}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "path": "/v1/track", "method": "POST", "headers": []}
    monkeypatch.setattr(app_module, "BODY_TIMEOUT_S", 0.05)
    asyncio.run(build(config)(scope, receive, send))

    assert sent[0]["status"] == 408


def test_pages_of_the_origins_named_may_send(config: Config) -> None:
    shop = "https://shop.example"
    preflight = {
        "origin": shop,
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,content-type,x-retry-count",
    }
    with TestClient(build(msgspec.structs.replace(config, cors_origins=[shop]))) as client:
        allowed = client.options("/v1/t", headers=preflight)
        other = client.options("/v1/t", headers={**preflight, "origin": "https://other.example"})
        sent = client.post("/v1/t", json=click(), headers={**BASIC, "origin": shop})

    assert allowed.status_code == 200
    assert allowed.headers["access-control-allow-origin"] == shop
    assert "authorization" in allowed.headers["access-control-allow-headers"]
    assert other.status_code == 400
    assert "access-control-allow-origin" not in other.headers
    assert sent.headers["access-control-allow-origin"] == shop


def test_without_origins_no_page_may(client: TestClient) -> None:
    answer = client.options(
        "/v1/t", headers={"origin": "https://a.example", "access-control-request-method": "POST"}
    )

    assert answer.status_code == 405
    assert "access-control-allow-origin" not in answer.headers


def test_health_and_metrics(client: TestClient) -> None:
    client.post("/v1/track", json=click(), headers=BASIC)

    assert client.get("/healthz").json() == {"live": True, "failing": []}
    text = client.get("/metrics").text
    assert 'scale_collector_requests_total{kind="track",status="200"} 1.0' in text
    assert 'scale_collector_events_total{stream="clicks"} 1.0' in text
    assert "scale_collector_commit_requests_count 1.0" in text


def test_leaving_seals_the_file(config: Config) -> None:
    with TestClient(build(config)) as client:
        client.post("/v1/track", json=click(), headers=BASIC)
        names = [path.name for path in Path(config.feeds_dir, "clicks").iterdir()]
        assert [name.startswith(".") for name in names] == [True]

    names = [path.name for path in Path(config.feeds_dir, "clicks").iterdir()]
    assert [name.startswith(".") for name in names] == [False]
