"""What a collector is told when it starts: one JSON document, from a file or a pipe.

It holds secrets, so it comes neither on the command line nor from this process's environment.
"""

from pathlib import Path
from typing import Annotated, Literal

import msgspec

from serving.collector.errors import CollectorError

Positive = Annotated[float, msgspec.Meta(gt=0)]
PositiveInt = Annotated[int, msgspec.Meta(gt=0)]


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`scale collect` writes it from its settings; see scale_assets/settings.py for the meaning."""

    host: str
    port: Annotated[int, msgspec.Meta(ge=0, le=65535)]
    streams: str
    feeds_dir: str
    write_keys: dict[str, str]
    pii_key: str | None = None
    pii_key_id: str = "1"
    on_breach: Literal["quarantine", "refuse"] = "quarantine"
    cors_origins: list[str] = []
    trusted_proxies: list[str] = []
    events_per_second: Positive = 10_000
    queue_mib: PositiveInt = 64
    seal_seconds: Positive = 60
    seal_mib: PositiveInt = 64
    kafka: dict[str, str] | None = None
    topic_prefix: str = ""  # of the topics, before their streams' names

    def __repr__(self) -> str:
        return f"Config(port={self.port}, streams={self.streams!r})"  # the rest may be secret


def read_config(path: Path) -> Config:
    """Decode the document.

    Raises:
        CollectorError: It cannot be read, or a value is not what it must be.
    """
    try:
        config = msgspec.json.decode(path.read_bytes(), type=Config)
    except OSError as error:
        raise CollectorError(f"{path} cannot be read: {error.strerror}") from None
    except msgspec.DecodeError as error:
        raise CollectorError(f"{path}: {error}") from None
    if not config.write_keys:
        raise CollectorError(
            "there is no write key, so nobody could send; set SCALE_COLLECT_WRITE_KEYS to "
            "<source>=<key>, several with commas"
        )
    if len(set(config.write_keys.values())) < len(config.write_keys):
        raise CollectorError(
            f"two of the sources {sorted(config.write_keys)} have the same write key in "
            "SCALE_COLLECT_WRITE_KEYS; give each its own"
        )
    return config
