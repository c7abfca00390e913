"""Puts a collector together from its configuration."""

from pathlib import Path

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from scale_assets.contracts import Pseudonyms
from serving.collector.addresses import ClientAddresses
from serving.collector.app import Collector
from serving.collector.auth import WriteKeys
from serving.collector.commit import GroupCommit
from serving.collector.config import Config
from serving.collector.log_sink import LogSink
from serving.collector.metrics import Metrics
from serving.collector.rate import TokenBucket
from serving.collector.records import RecordMaker
from serving.collector.sink import Sink
from serving.collector.streams import Stream, load_streams

PREFLIGHT_MAX_AGE_S = 7200


def build(config: Config) -> ASGIApp:
    """The application, with every file and every declaration checked.

    Raises:
        CollectorError, ContractError: Something that was declared cannot be used.
    """
    pseudonyms = None
    if config.pii_key is not None:
        pseudonyms = Pseudonyms(key=config.pii_key, key_id=config.pii_key_id)
    streams = load_streams(Path(config.streams), pseudonyms)
    metrics = Metrics()
    collector = Collector(
        makers=[RecordMaker(stream, pseudonyms) for stream in streams],
        commits=GroupCommit(
            {stream: _sink(config, stream) for stream in streams},
            refuses=config.on_breach == "refuse",
            max_queue_bytes=config.queue_mib << 20,
            metrics=metrics,
        ),
        keys=WriteKeys(config.write_keys),
        buckets={source: TokenBucket(config.events_per_second) for source in config.write_keys},
        addresses=ClientAddresses(config.trusted_proxies),
        metrics=metrics,
    )
    return _with_cors(collector, config.cors_origins)


def _sink(config: Config, stream: Stream) -> Sink:
    if config.kafka is not None:
        from serving.collector.kafka_sink import KafkaSink

        return KafkaSink(config.topic_prefix + stream.name, config.kafka)
    return LogSink(
        Path(config.feeds_dir) / stream.name,
        max_bytes=config.seal_mib << 20,
        max_age_s=config.seal_seconds,
    )


def _with_cors(app: ASGIApp, origins: list[str]) -> ASGIApp:
    """Without an origin, no page of another site may send with the headers that libraries use."""
    if not origins:
        return app
    return CORSMiddleware(
        app,
        allow_origins=origins,
        allow_methods=["POST"],
        allow_headers=["*"],  # no cookie is ever read, so a header gives nothing away
        expose_headers=["Retry-After"],
        max_age=PREFLIGHT_MAX_AGE_S,
    )
