"""All servers there are, in the order in which they start, and their settings as a file."""

import shlex
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from scale_assets.errors import ScaleError
from scale_assets.servers.connect import Connect
from scale_assets.servers.errors import ServerFailed, ServerUnavailable
from scale_assets.servers.kafka import Kafka
from scale_assets.servers.postgres import Postgres
from scale_assets.servers.redis import Redis
from scale_assets.servers.s3 import ObjectStore
from scale_assets.servers.server import Server


def all_servers(folder: Path) -> dict[str, Server]:
    """Every server by name, each in its own folder below ``folder``."""
    jars_dir = folder / "jars"
    broker = Kafka(folder / "kafka", jars_dir=jars_dir)
    servers = (
        Postgres(folder / "postgres"),
        Redis(folder / "redis"),
        ObjectStore(folder / "s3"),
        broker,
        Connect(folder / "connect", jars_dir=jars_dir, broker=broker),
    )
    return {server.name: server for server in servers}


def chosen(folder: Path, names: list[str]) -> list[Server]:
    """The servers of these names, or all, in starting order.

    Raises:
        ScaleError: There is no such server.
    """
    servers = all_servers(folder)
    unknown = sorted(set(names) - set(servers))
    if unknown:
        raise ScaleError(f"no server {', '.join(unknown)}; there are {', '.join(servers)}")
    return [server for name, server in servers.items() if not names or name in names]


@dataclass
class Started:
    """What came of starting several servers."""

    addresses: dict[str, str] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)  # why, and the way out


def start_all(
    servers: Iterable[Server], *, working: Callable[[str], AbstractContextManager[None]]
) -> Started:
    """Start each that can be had; one that cannot keeps none of the others from it."""
    started = Started()
    for server in servers:
        try:
            with working(server.name):
                running = server.start()
        except (ServerUnavailable, ServerFailed) as error:
            started.failures.append(str(error))
            continue
        started.addresses[server.name] = running.address
        started.settings |= running.settings
    return started


def write_env_file(path: Path, settings: Mapping[str, str]) -> None:
    """Set these variables in the file; its other lines stay as they are."""
    lines = path.read_text().splitlines() if path.is_file() else []
    kept = [line for line in lines if line.partition("=")[0].strip() not in settings]
    path.touch(mode=0o600)  # they hold passwords
    path.write_text("\n".join([*kept, *env_lines(settings)]) + "\n")


def env_lines(settings: Mapping[str, str]) -> list[str]:
    return [f"{name}={shlex.quote(value)}" for name, value in settings.items()]
