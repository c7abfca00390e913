"""Starts the collector with what the settings say, its secrets out of the command line."""

import json
import sys
from typing import Any

from scale_assets.errors import ScaleError
from scale_assets.handover import through_pipe
from scale_assets.settings import Settings


def collect_command(settings: Settings, *, host: str, port: int) -> list[str]:
    """How to become the collector: its process holds neither torch nor Dagster."""
    document = json.dumps(collector_config(settings, host=host, port=port))
    return [sys.executable, "-m", "serving.collector", "--config", through_pipe(document)]


def collector_config(settings: Settings, *, host: str, port: int) -> dict[str, Any]:
    """The document that serving/collector/config.py reads."""
    pii_key = settings.collect_pii_key
    return {
        "host": host,
        "port": port,
        "streams": str(settings.collect_streams),
        "feeds_dir": str(settings.feeds_dir),
        "write_keys": _write_keys(settings.collect_write_keys.get_secret_value()),
        "pii_key": None if pii_key is None else pii_key.get_secret_value(),
        "pii_key_id": settings.collect_pii_key_id,
        "on_breach": settings.collect_on_breach,
        "cors_origins": settings.collect_cors_origins,
        "trusted_proxies": settings.collect_trusted_proxies,
        "events_per_second": settings.collect_events_per_second,
        "queue_mib": settings.collect_queue_mib,
        "seal_seconds": settings.collect_seal_seconds,
        "seal_mib": settings.collect_seal_mib,
        "kafka": _kafka_properties(settings),
        "topic_prefix": settings.kafka_topic_prefix,
    }


def _write_keys(text: str) -> dict[str, str]:
    """Source name to key, from ``web=abc,backend=def``."""
    keys: dict[str, str] = {}
    for part in filter(None, (each.strip() for each in text.split(","))):
        source, separator, key = part.partition("=")
        if not (separator and source and key):
            raise ScaleError(
                "SCALE_COLLECT_WRITE_KEYS: an entry is not <source>=<write key>; write "
                "web=<key>, several with commas"
            )
        if source in keys:
            raise ScaleError(f"SCALE_COLLECT_WRITE_KEYS: source {source!r} is given twice")
        keys[source] = key
    return keys


def _kafka_properties(settings: Settings) -> dict[str, str] | None:
    """Properties of librdkafka where the feeds are topics; None where they are files."""
    if settings.feeds == "files":
        return None
    from scale_assets.components.kafka_transport import kafka_cluster

    return dict(kafka_cluster(settings).client_properties())
