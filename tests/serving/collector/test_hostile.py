"""Whatever is sent, the answer is one that a client can act on, and the log stays readable."""

import json
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import example, given, settings
from starlette.testclient import TestClient

from scale_assets.contracts import load_contract, validate_lines
from serving.collector.build import build
from serving.collector.config import Config
from serving.collector.segment import ROUTES
from tests.serving.collector.conftest import KEY

NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.just(10**400)
SCALARS = st.none() | st.booleans() | NUMBERS | st.text(max_size=8)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner)
)
FIELDS = st.sampled_from(
    [
        *("messageId", "type", "event", "userId", "timestamp", "sentAt", "properties", "context"),
        *("traits", "collector", "writeKey", "batch"),
    ]
)
USUAL = st.fixed_dictionaries(
    {
        "messageId": st.text(max_size=5) | VALUES,
        "type": st.sampled_from(["track", "page", "identify", "track", "other"]) | VALUES,
        "event": st.just("Clicked") | VALUES,
        "properties": st.fixed_dictionaries(
            {"count": st.just(1) | VALUES, "country": st.just("NL") | VALUES}
        )
        | VALUES,
        "timestamp": st.just("2026-01-01T00:00:00Z") | VALUES,
    }
)
MESSAGES = USUAL | st.dictionaries(FIELDS, VALUES, max_size=6)
DOCUMENTS = MESSAGES | st.fixed_dictionaries(
    {"batch": st.lists(MESSAGES, max_size=4) | VALUES, "sentAt": VALUES}
)
BODIES = st.one_of(
    DOCUMENTS.map(lambda document: json.dumps(document).encode()),
    DOCUMENTS.map(lambda document: json.dumps(document)[:-3].encode()),
    st.binary(max_size=50),
    st.integers(1, 3000).map(lambda levels: b"[" * levels + b"]" * levels),
    st.sampled_from([b'{"a":1e999}', b'{"a":NaN}', b'{"a":"\\ud800"}', b'{"a":"\xff"}', b"\xff"]),
)


def lines_of(config: Config, stream: str) -> list[bytes]:
    files = Path(config.feeds_dir, stream).iterdir()
    return [line for path in files for line in path.read_bytes().splitlines(keepends=True)]


@pytest.mark.parametrize("num_bodies", [100, pytest.param(1000, marks=pytest.mark.slow)])
def test_any_body_is_answered_and_its_lines_can_be_read(config: Config, num_bodies: int) -> None:
    statuses: set[int] = set()
    client = TestClient(build(config))

    @settings(max_examples=num_bodies, deadline=None)
    @given(path=st.sampled_from(sorted(ROUTES)), body=BODIES, gzipped=st.booleans())
    @example(path="/v1/t", body=b'{"event":"Clicked","messageId":{"a":1e308}}', gzipped=False)
    @example(path="/v1/t", body=b'{"context":{"userAgent":["x"],"ip":{}}}', gzipped=False)
    # A hundred drawn bodies need not hold one for each stream, and each file is looked at below.
    @example(path="/v1/t", body=b'{"event":"Clicked","messageId":"1"}', gzipped=False)
    @example(path="/v1/i", body=b'{"userId":"ada","traits":{"email":{}}}', gzipped=False)
    def send(path: str, body: bytes, *, gzipped: bool) -> None:
        headers = {"content-encoding": "gzip"} if gzipped else {}
        answer = client.post(path, content=body, headers=headers, auth=(KEY, ""))
        statuses.add(answer.status_code)
        assert answer.status_code in {200, 400}, answer.text
        assert answer.json()["success"] is (answer.status_code == 200)

    with client:
        send()

    assert statuses == {200, 400}
    for stream in ("clicks", "people"):
        lines = lines_of(config, stream)
        contract = load_contract(Path(config.streams).with_name(f"{stream}.odcs.yaml"))
        found = validate_lines(contract, b"".join(lines))
        assert found.num_received == len(lines) > 0
        unreadable = {"not_json", "not_utf8", "not_an_object", "unknown_column", "duplicate_key"}
        assert not unreadable & set(found.quarantined["rule"].to_pylist()), stream
