"""Kafka in KRaft mode: one process that is broker and controller, from Maven artifacts."""

import base64
import subprocess
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from scale_assets.servers.errors import ServerFailed
from scale_assets.servers.java import fetch_jars, find_java
from scale_assets.servers.process import Launch
from scale_assets.servers.server import Server

VERSION = "4.3.1"
LOGGING = "org.slf4j:slf4j-simple:1.7.36"
ARTIFACTS = (f"org.apache.kafka:kafka_2.13:{VERSION}", LOGGING)
# Sized for one machine; the first compiler alone starts in half the time.
JVM = (
    "-Xms64m",
    "-Xmx768m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
)
PROPERTIES = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    # One broker: whatever a cluster keeps three times is kept once.
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "group.initial.rebalance.delay.ms": "0",
}


class Kafka(Server):
    """One broker without encryption, for clients of this machine."""

    name: ClassVar[str] = "kafka"
    default_ports: ClassVar[tuple[int, ...]] = (9092, 9093)

    def __init__(
        self,
        folder: Path,
        *,
        jars_dir: Path,
        any_port: bool = False,
        properties: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(folder, any_port=any_port)
        self.jars_dir = jars_dir
        self.properties = dict(properties or {})  # of the broker, on top of ours

    def launch(self) -> Launch:
        java = find_java(self.name)
        jars = fetch_jars(self.name, ARTIFACTS, self.jars_dir)
        program = [java, *JVM, "-cp", f"{jars}/*"]
        config = self._write_properties()
        if not (self.folder / "data" / "meta.properties").is_file():
            _format(program, config)
        address = f"127.0.0.1:{self.port}"
        return Launch(
            command=[*program, "kafka.Kafka", str(config)],
            answers=lambda: answers(address),
            address=address,
            settings={"SCALE_KAFKA_BOOTSTRAP_SERVERS": address},
            ready_seconds=180,
            stop_seconds=60,
        )

    def _write_properties(self) -> Path:
        clients, controller = (f"127.0.0.1:{port}" for port in self.ports)
        properties = {
            **PROPERTIES,
            "listeners": f"PLAINTEXT://{clients},CONTROLLER://{controller}",
            "advertised.listeners": f"PLAINTEXT://{clients}",
            "controller.quorum.voters": f"1@{controller}",
            "log.dirs": str(self.folder / "data"),
            **self.properties,
        }
        path = self.folder / "server.properties"
        path.touch(mode=0o600)
        path.write_text("".join(f"{name}={value}\n" for name, value in properties.items()))
        return path


def _format(program: list[str], config: Path) -> None:
    cluster_id = base64.urlsafe_b64encode(b"\0" + uuid.uuid4().bytes[1:]).decode().rstrip("=")
    command = [*program, "kafka.tools.StorageTool", "format", "-t", cluster_id, "-c", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ServerFailed(f"kafka: formatting its storage failed: {done.stdout}{done.stderr}")


def answers(address: str) -> bool:
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    client = AdminClient({"bootstrap.servers": address, "log_level": 0})
    try:
        client.list_topics(timeout=2)
    except KafkaException:
        return False
    return True
