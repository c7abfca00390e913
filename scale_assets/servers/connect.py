"""Kafka Connect with Debezium's PostgreSQL connector, from Maven artifacts."""

import urllib.error
import urllib.request
from pathlib import Path
from typing import ClassVar

from scale_assets.servers import kafka
from scale_assets.servers.errors import ServerUnavailable
from scale_assets.servers.java import fetch_jars, find_java
from scale_assets.servers.process import Launch
from scale_assets.servers.server import Server

RUNTIME = (
    f"org.apache.kafka:connect-runtime:{kafka.VERSION}",
    f"org.apache.kafka:connect-json:{kafka.VERSION}",
    kafka.LOGGING,
)
DEBEZIUM = "io.debezium:debezium-connector-postgres:3.6.0.Final"
TOPICS = ("config", "offset", "status")


class Connect(Server):
    """One worker; connectors are made over its REST interface."""

    name: ClassVar[str] = "connect"
    default_ports: ClassVar[tuple[int, ...]] = (8083,)

    def __init__(
        self, folder: Path, *, jars_dir: Path, broker: Server, any_port: bool = False
    ) -> None:
        super().__init__(folder, any_port=any_port)
        self.jars_dir = jars_dir
        self.broker = broker

    def launch(self) -> Launch:
        broker = self.broker.running()
        if broker is None:
            raise ServerUnavailable(
                self.name, why="it needs a broker", way_out="start kafka as well"
            )
        java = find_java(self.name)
        jars = fetch_jars(self.name, RUNTIME, self.jars_dir)
        plugins = fetch_jars(self.name, [DEBEZIUM], self.jars_dir / "plugins").parent
        config = self._write_properties(broker.address, plugins)
        url = f"http://127.0.0.1:{self.port}"
        program = "org.apache.kafka.connect.cli.ConnectDistributed"
        return Launch(
            command=[java, *kafka.JVM, "-cp", f"{jars}/*", program, str(config)],
            answers=lambda: answers(url),
            address=url,
            ready_seconds=240,
        )

    def _write_properties(self, broker: str, plugins: Path) -> Path:
        converter = "org.apache.kafka.connect.json.JsonConverter"
        properties = {
            "bootstrap.servers": broker,
            "group.id": "connect",
            "listeners": f"http://127.0.0.1:{self.port}",
            "rest.advertised.host.name": "127.0.0.1",
            "plugin.path": str(plugins),
            "key.converter": converter,
            "value.converter": converter,
            "offset.flush.interval.ms": "1000",
        }
        for topic in TOPICS:
            properties[f"{topic}.storage.topic"] = f"connect-{topic}"
            properties[f"{topic}.storage.replication.factor"] = "1"
        path = self.folder / "connect.properties"
        path.write_text("".join(f"{name}={value}\n" for name, value in properties.items()))
        return path


def answers(url: str) -> bool:
    try:
        urllib.request.urlopen(f"{url}/connectors", timeout=2).close()
    except (urllib.error.URLError, OSError):
        return False
    return True
