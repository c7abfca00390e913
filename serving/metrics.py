"""What Prometheus scrapes: requests, latency, and the quality of the features behind answers."""

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from starlette.requests import Request
from starlette.responses import Response

LATENCY_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class Metrics:
    """The server's counters, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "scale_requests", "HTTP requests.", ["route", "status"], registry=self.registry
        )
        self.latency = Histogram(
            "scale_request_seconds",
            "Seconds from request to answer.",
            ["route"],
            buckets=LATENCY_BUCKETS_S,
            registry=self.registry,
        )
        self.answers = Counter(
            "scale_answers",
            "Predictions by the state of their features: fresh, stale, default, popular.",
            ["model", "features"],
            registry=self.registry,
        )
        self.vectors = Counter(
            "scale_vectors",
            "Served vectors in the sample: logged, dropped because too many waited, failed.",
            ["outcome"],
            registry=self.registry,
        )

    def served(self, model: str, features: str) -> None:
        self.answers.labels(model, features).inc()

    def logged(self, outcome: str) -> None:
        self.vectors.labels(outcome).inc()


async def metrics(request: Request) -> Response:
    """GET /metrics in Prometheus' text format."""
    body = generate_latest(request.app.state.metrics.registry)
    return Response(body, media_type="text/plain; version=0.0.4; charset=utf-8")
