"""What can be wrong with a captured database; every message names the way out."""

from scale_assets.ingest.errors import IngestError


class ProtocolError(IngestError):
    """Bytes that are not pgoutput as PostgreSQL writes it."""


class NotPrepared(IngestError):
    """The database is not set up for capture: which setting, what it is, what it must be."""


class CannotConnect(IngestError):
    """The database does not answer, or does not let us in."""


class SlotBusy(IngestError):
    """Another process reads from the slot, or captures into the same tables."""


class SlotLost(IngestError):
    """Changes are gone for good: the slot was dropped, invalidated, recreated or moved on."""


class OtherServer(SlotLost):
    """The slot's server is not the one that the tables came from, or went back in time."""


class Disturbed(IngestError):
    """A table was rewritten or truncated while its snapshot was being prepared."""
