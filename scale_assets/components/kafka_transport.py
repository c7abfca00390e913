"""A Kafka topic, as YAML says it; the cluster and its secrets are settings."""

from typing import TYPE_CHECKING, Literal

import dagster as dg
from pydantic import Field

from scale_assets.ingest.columns import OF_KAFKA
from scale_assets.settings import Settings

if TYPE_CHECKING:
    import pyarrow as pa

    from scale_assets.ingest.kafka.cluster import Cluster
    from scale_assets.ingest.kafka.registry import Registry
    from scale_assets.ingest.kafka.source import KafkaSource
    from scale_assets.ingest.values import ValueFormat


class KafkaTransport(dg.Resolvable, dg.Model):
    """A topic of the cluster that the SCALE_KAFKA_* settings name, read committed."""

    type: Literal["kafka"] = Field(description="How the rows arrive; 'kafka' is a topic.")
    topic: str = Field(description="Name of the topic.", examples=["clicks"])
    value: Literal["json", "avro", "json_schema"] = Field(
        default="json",
        description="What a message's value is: bare JSON; or Avro, or JSON, after the magic byte "
        "and schema id of a Schema Registry (SCALE_SCHEMA_REGISTRY_URL for Avro).",
    )

    def columns(self, settings: Settings) -> "pa.Schema":  # noqa: ARG002
        return OF_KAFKA

    def source(self, settings: Settings) -> "KafkaSource":
        from scale_assets.ingest.kafka.source import KafkaSource

        return KafkaSource(
            cluster=kafka_cluster(settings),
            topic=self.topic,
            values=self._values(settings),
            group_prefix=settings.kafka_group_prefix,
        )

    def _values(self, settings: Settings) -> "ValueFormat":
        from scale_assets.ingest.kafka.avro import AvroValues
        from scale_assets.ingest.kafka.registry import FramedJson
        from scale_assets.ingest.values import JsonValues

        if self.value == "avro":
            return AvroValues(schema_registry(settings))
        return FramedJson() if self.value == "json_schema" else JsonValues()


def kafka_cluster(settings: Settings) -> "Cluster":
    """The cluster that the settings describe, whether or not they name one yet."""
    from scale_assets.ingest.kafka.cluster import Cluster

    named = {
        "security.protocol": settings.kafka_security_protocol,
        "sasl.mechanism": settings.kafka_sasl_mechanism,
        "sasl.username": settings.kafka_username,
        "sasl.password": settings.kafka_password,
        "ssl.ca.location": settings.kafka_ca_path,
        "ssl.certificate.location": settings.kafka_certificate_path,
        "ssl.key.location": settings.kafka_key_path,
        "ssl.key.password": settings.kafka_key_password,
        **settings.kafka_properties,
    }
    properties = {
        name: value.get_secret_value() if hasattr(value, "get_secret_value") else str(value)
        for name, value in named.items()
        if value is not None
    }
    return Cluster(settings.kafka_bootstrap_servers or "", properties)


def schema_registry(settings: Settings) -> "Registry":
    from scale_assets.ingest.kafka.registry import Registry

    password = settings.schema_registry_password
    return Registry(
        url=settings.schema_registry_url or "",
        username=settings.schema_registry_username,
        password=password.get_secret_value() if password else None,
        ca_path=settings.schema_registry_ca_path,
    )
