"""The columns that ingestion adds to a contract's, table by table.

Definitions show them when they load, so nothing here needs the lake or a source's client.
"""

import pyarrow as pa

from scale_assets.contracts import QUARANTINE_SCHEMA, Contract, change_schema
from scale_assets.contracts.change_schema import UNCHANGED, moved_from
from scale_assets.contracts.model import TIMESTAMP

SOURCE_FILE = pa.field("_source_file", pa.string())
SOURCE_FIELDS = (SOURCE_FILE, pa.field("_position", pa.int64()))
EVENT_DATE = pa.field("event_date", pa.date32())
LSN = pa.field("lsn", pa.int64())
TX_ORDINAL = pa.field("tx_ordinal", pa.int64())
UNAVAILABLE = pa.field("_unavailable", UNCHANGED.type)  # fields whose value was never sent
SEGMENT = pa.field("_segment", pa.int32())  # of a history; null: the row is closed

# What a source knows of a record besides its value.
OF_FILES = pa.schema([])
HEADERS = pa.list_(pa.field("element", pa.struct([("name", pa.string()), ("value", pa.binary())])))
OF_KAFKA = pa.schema(
    [
        pa.field("_key", pa.binary()),
        pa.field("_headers", HEADERS),
        pa.field("_timestamp", TIMESTAMP),  # the producer's or the broker's
    ]
)
OF_KINESIS = pa.schema(
    [
        pa.field("_partition_key", pa.string()),
        pa.field("_sequence_number", pa.string()),  # more digits than any integer column holds
        pa.field("_arrived_at", TIMESTAMP),  # as Kinesis says, approximately
    ]
)


def event_schema(contract: Contract, of_source: pa.Schema) -> pa.Schema:
    """Accepted events."""
    return pa.schema([*contract.arrow_schema, *of_source, EVENT_DATE, *SOURCE_FIELDS])


def quarantine_schema(of_source: pa.Schema) -> pa.Schema:
    """Lines set aside, of events as of changes."""
    columns = [f for f in QUARANTINE_SCHEMA if f.name != "_position"]
    version = pa.field("contract_version", pa.string())
    return pa.schema([*columns, *of_source, *SOURCE_FIELDS, version, EVENT_DATE])


def changes_schema(contract: Contract, of_source: pa.Schema) -> pa.Schema:
    """Accepted changes."""
    given = (TX_ORDINAL.name, "_position")
    columns = [f for f in change_schema(contract) if f.name not in given]
    return pa.schema([*columns, *of_source, TX_ORDINAL, *SOURCE_FIELDS])


def captured_schema(contract: Contract) -> pa.Schema:
    """Accepted changes of a captured table."""
    fields = [*changes_schema(contract, OF_FILES), UNCHANGED, moved_from(contract)]
    return pa.schema({field.name: field for field in fields}.values())


def current_schema(contract: Contract) -> pa.Schema:
    """The current rows. ``_unavailable`` names fields whose value was never sent."""
    times = [pa.field(name, TIMESTAMP) for name in ("event_time", "received_at")]
    return pa.schema([*contract.arrow_schema, *times, UNAVAILABLE])


def history_schema(contract: Contract) -> pa.Schema:
    """Their history. ``_unavailable`` names fields whose value was never sent."""
    times = [pa.field(name, TIMESTAMP) for name in ("valid_from", "valid_to", "received_at")]
    columns = [pa.field("op", pa.string()), *times, UNAVAILABLE, SEGMENT]
    return pa.schema([*contract.arrow_schema, *columns])


def snapshot_schema(contract: Contract) -> pa.Schema:
    """Rows of the newest copy."""
    return pa.schema([*contract.arrow_schema, SOURCE_FILE])
