"""How to reach a Kafka cluster, and what went wrong in words that name the setting."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from scale_assets.ingest.errors import IngestError, SourceUnavailable

if TYPE_CHECKING:
    from confluent_kafka import Consumer, KafkaError, Producer
    from confluent_kafka.admin import AdminClient

CONNECT_SECONDS = 15.0
# librdkafka's codes, the most telling first; those below zero are its own, not the broker's.
AUTHENTICATION, SASL_REFUSED, SSL, RESOLVE, TRANSPORT = -169, 58, -181, -193, -195
WAYS_OUT = {
    (AUTHENTICATION, SASL_REFUSED): (
        "check SCALE_KAFKA_SASL_MECHANISM, SCALE_KAFKA_USERNAME and SCALE_KAFKA_PASSWORD"
    ),
    (SSL,): "check SCALE_KAFKA_SECURITY_PROTOCOL and SCALE_KAFKA_CA_PATH",
    (RESOLVE,): "check the name",
    (TRANSPORT,): "is it up, and is the address right?",
}
TIMED_OUT, PARTITION_EOF, AUTO_OFFSET_RESET, LOG_TRUNCATION = -185, -191, -140, -139

# librdkafka's own words go here; a program that shows no logs is not disturbed by them.
log = logging.getLogger("scale_assets.kafka")
log.addHandler(logging.NullHandler())


@dataclass(frozen=True)
class Cluster:
    """A cluster as librdkafka's properties describe it; they hold secrets."""

    bootstrap_servers: str
    properties: Mapping[str, str] = field(default_factory=dict, repr=False)

    def admin(self, faults: "Faults") -> "AdminClient":
        from confluent_kafka.admin import AdminClient

        client: AdminClient = self._client(AdminClient, faults)
        return client

    def consumer(self, faults: "Faults", **properties: Any) -> "Consumer":
        from confluent_kafka import Consumer

        client: Consumer = self._client(Consumer, faults, **properties)
        return client

    def producer(self, faults: "Faults", **properties: Any) -> "Producer":
        from confluent_kafka import Producer

        client: Producer = self._client(Producer, faults, **properties)
        return client

    def client_properties(self) -> dict[str, str]:
        """Properties of librdkafka that every client has.

        Raises:
            IngestError: The settings name no cluster.
        """
        if not self.bootstrap_servers:
            raise IngestError("no Kafka cluster is named; set SCALE_KAFKA_BOOTSTRAP_SERVERS")
        return {
            "bootstrap.servers": self.bootstrap_servers,
            "client.id": "scale-assets",
            **self.properties,
        }

    def _client(self, kind: Any, faults: "Faults", **properties: Any) -> Any:
        from confluent_kafka import KafkaException

        named = {name.replace("_", "."): value for name, value in properties.items()}
        config = {**named, **self.client_properties(), "error_cb": faults}
        try:
            return kind(config, logger=log)
        except KafkaException as error:
            raise IngestError(
                f"Kafka at {self.bootstrap_servers}: {error.args[0].str()}; mend the setting "
                "SCALE_KAFKA_* that says so"
            ) from error


class Faults:
    """The latest thing of each kind that librdkafka said is wrong; it tells them in passing."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self._said: dict[int, str] = {}

    def __call__(self, error: "KafkaError") -> None:
        self._said[error.code()] = error.str()

    def forget(self) -> None:
        self._said.clear()

    def unavailable(self, error: "KafkaError") -> SourceUnavailable:
        """Why the cluster does not answer, as far as anything tells."""
        self(error)
        where = f"Kafka at SCALE_KAFKA_BOOTSTRAP_SERVERS={self.cluster.bootstrap_servers}"
        for codes, way_out in WAYS_OUT.items():
            for code in codes:
                if code in self._said:
                    return SourceUnavailable(f"{where}: {self._said[code]}; {way_out}")
        return SourceUnavailable(f"{where} does not answer: {error.str()}; is it up?")
