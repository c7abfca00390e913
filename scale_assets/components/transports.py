"""How records arrive, as YAML says it: one class per transport, chosen by ``type``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import dagster as dg
from pydantic import Discriminator, Field, Tag

from scale_assets.components.kafka_transport import KafkaTransport
from scale_assets.components.kinesis_transport import KinesisTransport
from scale_assets.ingest.columns import OF_FILES
from scale_assets.settings import Settings

if TYPE_CHECKING:
    import pyarrow as pa

    from scale_assets.ingest.file_source import FilesSource
    from scale_assets.ingest.kafka.source import KafkaSource


class FilesTransport(dg.Resolvable, dg.Model):
    """JSON-lines files, plain or gzipped, that a source drops into one folder."""

    type: Literal["files"] = Field(description="How the rows arrive; 'files' is a folder.")
    path: str = Field(
        description="The folder, relative to the feeds folder of the settings; absolute is kept.",
        examples=["clicks"],
    )

    def folder(self, settings: Settings) -> Path:
        return settings.feeds_dir / self.path

    def columns(self, settings: Settings) -> "pa.Schema":  # noqa: ARG002
        return OF_FILES

    def source(self, settings: Settings) -> "FilesSource":
        from scale_assets.ingest.file_source import FilesSource

        return FilesSource(self.folder(settings))


class FeedTransport(dg.Resolvable, dg.Model):
    """A folder of the feeds folder, or a topic of Kafka: the setting SCALE_FEEDS says which."""

    type: Literal["feed"] = Field(
        description="How the rows arrive; 'feed' leaves that to the setting SCALE_FEEDS."
    )
    name: str = Field(
        description="The folder's name; the topic's behind SCALE_KAFKA_TOPIC_PREFIX.",
        examples=["clicks"],
    )

    def columns(self, settings: Settings) -> "pa.Schema":
        return self._chosen(settings).columns(settings)

    def source(self, settings: Settings) -> "FilesSource | KafkaSource":
        return self._chosen(settings).source(settings)

    def _chosen(self, settings: Settings) -> FilesTransport | KafkaTransport:
        if settings.feeds == "files":
            return FilesTransport(type="files", path=self.name)
        return KafkaTransport(type="kafka", topic=settings.kafka_topic_prefix + self.name)


TRANSPORTS: dict[str, type[dg.Resolvable]] = {
    "feed": FeedTransport,
    "files": FilesTransport,
    "kafka": KafkaTransport,
    "kinesis": KinesisTransport,
}


def _type_of(declared: Any) -> str | None:
    kind = declared.get("type") if isinstance(declared, dict) else getattr(declared, "type", None)
    return kind if isinstance(kind, str) else None


def _resolve(context: dg.ResolutionContext, declared: Any) -> Any:
    return TRANSPORTS[declared.type].resolve_from_model(context, declared)


# Told apart by ``type`` before anything else, so that an error is about the transport that is meant.
Transport: TypeAlias = Annotated[
    FeedTransport | FilesTransport | KafkaTransport | KinesisTransport,
    dg.Resolver(
        _resolve,
        model_field_type=Annotated[
            Annotated[FeedTransport.model(), Tag("feed")]
            | Annotated[FilesTransport.model(), Tag("files")]
            | Annotated[KafkaTransport.model(), Tag("kafka")]
            | Annotated[KinesisTransport.model(), Tag("kinesis")],
            Discriminator(_type_of),
        ],
    ),
]
