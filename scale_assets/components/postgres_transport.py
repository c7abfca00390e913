"""Changes of one table through a replication slot of its own, as YAML says it."""

from typing import Literal

import dagster as dg
from pydantic import Field

SLOT = "Replication slot; it is made by the first run and belongs to this capture alone."
PUBLICATION = "Publication that tells of the tables; it is made by the first run if there is none."
CONNECTION = "Name of the database: its DSN is the setting SCALE_POSTGRES__<NAME>."
TABLE = "Schema and name of the table in the database."


class PostgresTransport(dg.Resolvable, dg.Model):
    """PostgreSQL's own changes, decoded by pgoutput; several tables share a DatabaseCapture."""

    type: Literal["postgres"] = Field(description="How the changes arrive; 'postgres' is a slot.")
    connection: str = Field(description=CONNECTION, examples=["shop"])
    slot: str = Field(description=SLOT, examples=["scale_customers"])
    publication: str = Field(description=PUBLICATION, examples=["scale_customers"])
    table: str = Field(description=TABLE, examples=["public.customers"])
