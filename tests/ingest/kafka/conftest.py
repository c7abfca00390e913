"""A feed of events from a topic of the mock broker."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from scale_assets.ingest.events import EventFeed
from scale_assets.ingest.kafka.cluster import Cluster
from tests.ingest.kafka.mock import MockSource, mock_broker


@pytest.fixture(scope="session")
def broker() -> Iterator[str]:
    with mock_broker() as address:
        yield address


@pytest.fixture
def topic(request: pytest.FixtureRequest) -> str:
    """A topic of the test's own."""
    return "".join(each if each.isalnum() else "-" for each in request.node.name)[:200]


@pytest.fixture
def kafka_feed(feed: EventFeed, broker: str, topic: str) -> EventFeed:
    return replace(feed, source=MockSource(cluster=Cluster(broker), topic=topic))


def with_source(feed: EventFeed, **changes: Any) -> EventFeed:
    source: Any = feed.source
    return replace(feed, source=replace(source, **changes))
