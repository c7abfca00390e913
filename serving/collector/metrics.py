"""What Prometheus scrapes: requests, events by what became of them, and the commits behind them."""

from functools import lru_cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from serving.metrics import LATENCY_BUCKETS_S

GROUP_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Metrics:
    """The collector's counters, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter(
            "scale_collector_requests", "HTTP requests.", ["kind", "status"], registry=registry
        )
        self.latency = Histogram(
            "scale_collector_request_seconds",
            "Seconds from request to answer.",
            ["kind"],
            buckets=LATENCY_BUCKETS_S,
            registry=registry,
        )
        self.events = Counter(
            "scale_collector_events", "Events made durable.", ["stream"], registry=registry
        )
        self.ignored = Counter(
            "scale_collector_ignored_events",
            "Messages that no stream takes; answered 200 and not kept.",
            ["type"],
            registry=registry,
        )
        self.breaches = Counter(
            "scale_collector_contract_breaches",
            "Events that break their contract, by rule and field; ingestion quarantines them.",
            ["stream", "rule", "field"],
            registry=registry,
        )
        self.failures = Counter(
            "scale_collector_sink_failures",
            "Writes that failed, so that nothing in them was acknowledged.",
            ["stream"],
            registry=registry,
        )
        self.group = Histogram(
            "scale_collector_commit_requests",
            "Requests made durable together.",
            buckets=GROUP_BUCKETS,
            registry=registry,
        )
        self.commit = Histogram(
            "scale_collector_commit_seconds",
            "Seconds that one commit took to write and sync.",
            buckets=LATENCY_BUCKETS_S,
            registry=registry,
        )
        self.queue = Gauge(
            "scale_collector_queue_bytes", "Bytes that wait to be made durable.", registry=registry
        )

        # Finding the child of some labels costs more than counting it.
        self._requests_of = lru_cache(self.requests.labels)
        self._latency_of = lru_cache(self.latency.labels)

    def answered(self, kind: str, status: int, seconds: float) -> None:
        self._requests_of(kind, status).inc()
        self._latency_of(kind).observe(seconds)

    def text(self) -> bytes:
        """Prometheus' text format."""
        return generate_latest(self.registry)
