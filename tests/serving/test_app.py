"""The routes, as a caller sees them."""

from pathlib import Path

import pytest
from redis import Redis
from starlette.testclient import TestClient

from scale_assets.features.reader import OnlineReader
from serving.app import create_app
from serving.errors import ServingError
from tests.features.redis_servers import redis_server, wait_until
from tests.serving.conftest import write_store, write_withdrawal

ROUTES = {
    "/v1/predict/{model}",
    "/v1/recommend",
    "/v2/health/live",
    "/v2/health/ready",
    "/metrics",
    "/openapi.json",
    "/docs",
}


def test_the_routes_are_frozen(releases_dir: Path, online_store: Path) -> None:
    app = create_app(releases_dir=releases_dir, online_store=OnlineReader(online_store))

    assert {route.path for route in app.routes} == ROUTES


@pytest.mark.parametrize(
    ("registration_id", "probability", "features"),
    [
        pytest.param("ada", 0.1192, "fresh", id="fresh features are used"),
        pytest.param("bob", 0.5, "stale", id="features past their age are not"),
        pytest.param("eve", 0.5, "default", id="unknown students get the declared default"),
    ],
)
def test_withdrawal(
    client: TestClient, registration_id: str, probability: float, features: str
) -> None:
    answer = client.post("/v1/predict/withdrawal", json={"registration_id": registration_id})

    assert answer.status_code == 200
    body = answer.json()
    assert body["probabilities"] == {"cancelled_within_7d": pytest.approx(probability, abs=1e-4)}
    assert body["features"] == features
    assert body["version"] == "1"


@pytest.mark.parametrize(
    ("query", "site_ids", "features"),
    [
        pytest.param({"registration_id": "ada", "k": 2}, [14, 13], "fresh", id="best first"),
        pytest.param(
            {"registration_id": "ada", "list": "discovery"}, [14, 13], "fresh", id="only new sites"
        ),
        pytest.param(
            {"registration_id": "eve", "presentation_id": "FFF-2013B", "k": 2},
            [13, 12],
            "popular",
            id="without a history the most popular",
        ),
    ],
)
def test_recommend(
    client: TestClient, query: dict[str, object], site_ids: list[int], features: str
) -> None:
    answer = client.post("/v1/recommend", json=query)

    assert answer.status_code == 200
    assert answer.json()["site_ids"] == site_ids
    assert answer.json()["features"] == features


@pytest.mark.parametrize(
    ("path", "body", "status", "says"),
    [
        ("/v1/predict/withdrawal", b"{", 400, "not JSON"),
        ("/v1/predict/withdrawal", b'{"registration_id": "\xff"}', 400, "not JSON"),
        ("/v1/predict/withdrawal", b"{}", 422, "registration_id"),
        ("/v1/predict/withdrawal", b'{"registration_id": 7}', 422, "registration_id"),
        ("/v1/predict/withdrawal", b'{"registration_id": "ada", "x": 1}', 422, "x"),
        ("/v1/predict/nothing", b'{"registration_id": "ada"}', 404, "nothing"),
        ("/v1/recommend", b'{"registration_id": "eve"}', 404, "presentation_id"),
        ("/v1/recommend", b'{"registration_id": "ada", "k": 0}', 422, "k"),
        ("/v1/recommend", b'{"registration_id": "ada", "list": "new"}', 422, "list"),
        ("/v1/recommend", b" " * 100_000, 413, "65536"),
    ],
)
def test_bad_requests_are_told_what_is_wrong(
    client: TestClient, path: str, body: bytes, status: int, says: str
) -> None:
    answer = client.post(path, content=body)

    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert says in answer.json()["detail"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/", 404), ("GET", "/v1/recommend", 405), ("POST", "/metrics", 405)],
)
def test_what_is_no_route_is_told_where_the_routes_are(
    client: TestClient, method: str, path: str, status: int
) -> None:
    answer = client.request(method, path)

    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert f"{method} {path}" in answer.json()["detail"]
    assert ("allow" in answer.headers) == (status == 405)


def test_a_model_of_another_kind_is_answered_with_those_that_the_route_serves(
    client: TestClient,
) -> None:
    answer = client.post("/v1/predict/next_site", json={"registration_id": "ada"})

    assert answer.status_code == 404
    assert answer.json()["detail"] == "model is 'next_site'; this route serves withdrawal"


def test_a_chunked_body_is_counted_though_no_header_says_its_size(client: TestClient) -> None:
    answer = client.post("/v1/recommend", content=iter([b" " * 10_000] * 10))

    assert answer.status_code == 413
    assert "65536" in answer.json()["detail"]
    text = client.get("/metrics").text
    assert 'scale_requests_total{route="/v1/recommend",status="413"} 1.0' in text


def test_a_swapped_release_serves_the_next_request(client: TestClient, releases_dir: Path) -> None:
    write_withdrawal(releases_dir, version="2", weight=0.0)

    body = client.post("/v1/predict/withdrawal", json={"registration_id": "ada"}).json()

    assert body["version"] == "2"
    assert body["probabilities"] == {"cancelled_within_7d": 0.5}
    assert client.get("/v2/health/ready").json()["models"]["withdrawal"] == "2"


def test_metrics_tell_how_answers_came_about(client: TestClient) -> None:
    client.post("/v1/predict/withdrawal", json={"registration_id": "bob"})

    text = client.get("/metrics").text

    assert 'scale_answers_total{features="stale",model="withdrawal"} 1.0' in text
    assert 'scale_requests_total{route="/v1/predict/{model}",status="200"} 1.0' in text


def test_the_openapi_document_describes_every_route(client: TestClient) -> None:
    document = client.get("/openapi.json").json()

    assert set(document["paths"]) == ROUTES - {"/openapi.json", "/docs"}
    assert "PredictRequest" in document["components"]["schemas"]


def test_without_a_release_the_server_says_how_to_get_one(
    tmp_path: Path, online_store: Path
) -> None:
    with pytest.raises(ServingError, match="make demo"):
        create_app(releases_dir=tmp_path / "none", online_store=OnlineReader(online_store))


def test_an_online_store_that_goes_and_comes_back(
    releases_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """503 meanwhile: the caller learns when to ask again, the log which store it is."""
    with redis_server(tmp_path / "first") as port, Redis(port=port) as redis:
        wait_until(redis.ping)
        url = f"redis://127.0.0.1:{port}/0"
        write_store(url)
        app = create_app(releases_dir=releases_dir, online_store=OnlineReader(url))
    query = {"registration_id": "ada"}
    with TestClient(app, raise_server_exceptions=False) as client:
        gone = [
            client.post("/v1/predict/withdrawal", json=query),
            client.post("/v1/recommend", json=query),
        ]
        with redis_server(tmp_path / "second", port=port), Redis(port=port) as redis:
            wait_until(redis.ping)
            write_store(url)
            back = client.post("/v1/predict/withdrawal", json=query)

    for answer in gone:
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["detail"] == "the online store does not answer; ask again later"
    assert (back.status_code, back.json()["features"]) == (200, "fresh")
    assert f"/v1/recommend: {url}: " in caplog.text
