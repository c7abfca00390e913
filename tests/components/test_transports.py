"""One declaration of a feed, moved by settings alone."""

from pathlib import Path
from typing import Literal

import pytest

from scale_assets.components.transports import (
    FeedTransport,
    FilesTransport,
    KafkaTransport,
    KinesisTransport,
)
from scale_assets.ingest.errors import IngestError
from scale_assets.ingest.file_source import FilesSource
from scale_assets.ingest.kafka.source import KafkaSource
from scale_assets.settings import Settings

CLICKS = FeedTransport(type="feed", name="clicks")


def test_a_feed_is_a_folder_unless_a_setting_says_otherwise(tmp_path: Path) -> None:
    source = CLICKS.source(Settings(data_dir=tmp_path))

    assert isinstance(source, FilesSource)
    assert source.folder == tmp_path / "feeds" / "clicks"


def test_a_feed_is_a_topic_where_the_settings_say_kafka(tmp_path: Path) -> None:
    settings = Settings(
        data_dir=tmp_path,
        feeds="kafka",
        kafka_topic_prefix="shop.",
        kafka_bootstrap_servers="127.0.0.1:9092",
    )
    source = CLICKS.source(settings)

    assert isinstance(source, KafkaSource)
    assert (source.topic, source.cluster.bootstrap_servers) == ("shop.clicks", "127.0.0.1:9092")


def test_a_topic_without_a_cluster_is_said_when_it_is_read(tmp_path: Path) -> None:
    source = CLICKS.source(Settings(data_dir=tmp_path, feeds="kafka"))

    with pytest.raises(IngestError, match="SCALE_KAFKA_BOOTSTRAP_SERVERS"), source.reading():
        pass


@pytest.mark.parametrize(
    ("transport", "feeds"),
    [
        pytest.param(FilesTransport(type="files", path="clicks"), "files", id="files"),
        pytest.param(KafkaTransport(type="kafka", topic="clicks"), "files", id="kafka"),
        pytest.param(KinesisTransport(type="kinesis", stream="clicks"), "files", id="kinesis"),
        pytest.param(CLICKS, "files", id="a feed in files"),
        pytest.param(CLICKS, "kafka", id="a feed in a topic"),
    ],
)
def test_definitions_show_the_columns_that_the_source_has(
    transport: FeedTransport | FilesTransport | KafkaTransport | KinesisTransport,
    feeds: Literal["files", "kafka"],
    tmp_path: Path,
) -> None:
    settings = Settings(data_dir=tmp_path, feeds=feeds, kafka_bootstrap_servers="127.0.0.1:9092")

    assert transport.columns(settings) == transport.source(settings).columns
