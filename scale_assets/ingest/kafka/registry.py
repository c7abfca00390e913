"""Confluent Schema Registry: schemas by the id that each message carries before its value."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from scale_assets.ingest.errors import IngestError, SourceUnavailable
from scale_assets.ingest.values import BLANK, NULL, ValueFormat

if TYPE_CHECKING:
    from confluent_kafka.schema_registry import Schema, SchemaRegistryClient

MAGIC = 0
PREFIX_BYTES = 5  # the magic byte and a schema id of four
NOT_FOUND = 404


class UnknownSchema(IngestError):
    """The registry has no schema of this id."""


@dataclass(frozen=True)
class Registry:
    """Where the schemas are."""

    url: str
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    ca_path: Path | None = None

    def load(self, schema_id: int) -> list[str]:
        """The text of a schema, after those of the schemas that it refers to.

        Raises:
            UnknownSchema: There is none of this id.
            SourceUnavailable: The registry does not answer, or refuses us.
        """
        from confluent_kafka.schema_registry import SchemaRegistryError

        where = f"schema registry SCALE_SCHEMA_REGISTRY_URL={self.url}"
        try:
            with self._connect() as client:
                return _with_references(client, client.get_schema(schema_id))
        except SchemaRegistryError as error:
            if error.http_status_code == NOT_FOUND:
                said = f"the registry at {self.url} has no schema {schema_id}"
                raise UnknownSchema(said) from error
            raise SourceUnavailable(
                f"{where}: {error}; check SCALE_SCHEMA_REGISTRY_USERNAME and _PASSWORD"
            ) from error
        except _http_errors() as error:
            raise SourceUnavailable(
                f"{where}: {error}; is it up, and is the address right?"
            ) from error

    def _connect(self) -> "SchemaRegistryClient":
        from confluent_kafka.schema_registry import SchemaRegistryClient

        if not self.url:
            raise IngestError("Avro values need a schema registry; set SCALE_SCHEMA_REGISTRY_URL")
        config: dict[str, object] = {"url": self.url}
        if self.username is not None:
            config["basic.auth.user.info"] = f"{self.username}:{self.password or ''}"
        if self.ca_path is not None:
            config["ssl.ca.location"] = str(self.ca_path)
        return SchemaRegistryClient(config)


def _http_errors() -> tuple[type[Exception], ...]:
    """What the client lets through; it uses whichever of the two libraries is there."""
    names = [name for name in ("httpx2", "httpx") if find_spec(name)]
    return tuple(import_module(name).HTTPError for name in names)


def _with_references(client: "SchemaRegistryClient", schema: "Schema") -> list[str]:
    texts = []
    for reference in schema.references or ():
        found = client.get_version(reference.subject or "", reference.version or "latest")
        texts += _with_references(client, found.schema)
    return [*texts, schema.schema_str or ""]


def unframed(value: bytes) -> tuple[int, bytes] | None:
    """The schema id and the bytes after it; None where a value is not framed so."""
    if len(value) < PREFIX_BYTES or value[0] != MAGIC:
        return None
    return int.from_bytes(value[1:PREFIX_BYTES]), value[PREFIX_BYTES:]


def not_framed(value: bytes) -> str:
    return f"expected a 0 byte and a schema id before the value, got {value[:PREFIX_BYTES]!r}"


@dataclass(frozen=True)
class FramedJson(ValueFormat):
    """JSON after a magic byte and schema id; the contract says what holds, not that schema."""

    def lines(self, values: Sequence[bytes | None]) -> tuple[list[bytes], Mapping[int, str]]:
        found: list[bytes] = []
        refused: dict[int, str] = {}
        for index, value in enumerate(values):
            if not value:
                found.append(NULL)
                continue
            framed = unframed(value)
            if framed is None:
                refused[index] = not_framed(value)
                found.append(value)
            else:
                found.append(framed[1] if framed[1].strip(BLANK) else NULL)
        return found, refused
