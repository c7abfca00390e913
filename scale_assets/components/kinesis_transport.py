"""A Kinesis stream, as YAML says it; the account and its secrets are settings."""

from typing import Literal

import dagster as dg
from pydantic import Field

from scale_assets.ingest.kinesis.client import Account
from scale_assets.ingest.kinesis.source import KinesisSource
from scale_assets.settings import Settings


class KinesisTransport(dg.Resolvable, dg.Model):
    """A stream whose records are JSON, in the account that the SCALE_KINESIS_* settings name."""

    type: Literal["kinesis"] = Field(description="How the rows arrive; 'kinesis' is a stream.")
    stream: str = Field(description="Name of the stream.", examples=["clicks"])

    def source(self, settings: Settings) -> KinesisSource:
        secret = settings.kinesis_secret_access_key
        account = Account(
            region=settings.kinesis_region,
            endpoint_url=settings.kinesis_endpoint_url,
            access_key_id=settings.kinesis_access_key_id,
            secret_access_key=secret.get_secret_value() if secret else None,
        )
        return KinesisSource(account=account, stream_name=self.stream)
