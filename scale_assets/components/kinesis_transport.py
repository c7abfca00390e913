"""A Kinesis stream, as YAML says it; the account and its secrets are settings."""

from typing import TYPE_CHECKING, Literal

import dagster as dg
from pydantic import Field

from scale_assets.ingest.columns import OF_KINESIS
from scale_assets.settings import Settings

if TYPE_CHECKING:
    import pyarrow as pa

    from scale_assets.ingest.kinesis.source import KinesisSource


class KinesisTransport(dg.Resolvable, dg.Model):
    """A stream whose records are JSON, in the account that the SCALE_KINESIS_* settings name."""

    type: Literal["kinesis"] = Field(description="How the rows arrive; 'kinesis' is a stream.")
    stream: str = Field(description="Name of the stream.", examples=["clicks"])

    def columns(self, settings: Settings) -> "pa.Schema":  # noqa: ARG002
        return OF_KINESIS

    def source(self, settings: Settings) -> "KinesisSource":
        from scale_assets.ingest.kinesis.client import Account
        from scale_assets.ingest.kinesis.source import KinesisSource

        secret = settings.kinesis_secret_access_key
        account = Account(
            region=settings.kinesis_region,
            endpoint_url=settings.kinesis_endpoint_url,
            access_key_id=settings.kinesis_access_key_id,
            secret_access_key=secret.get_secret_value() if secret else None,
        )
        return KinesisSource(account=account, stream_name=self.stream)
