"""What can be wrong with a source; every message names the file and the way out."""

from scale_assets.errors import ScaleError


class IngestError(ScaleError):
    """A source that cannot be read on from where the table stands."""


class BrokenFile(IngestError):
    """A file whose bytes cannot be read to their end; no row of it has been taken."""


class ChangedFile(IngestError):
    """A file that differs from the one ingested under its name."""


class SourceUnavailable(IngestError):
    """A source that does not answer now; it may later."""


class BrokenCompatibility(IngestError):
    """A contract that the feed's compatibility mode does not let follow the earlier ones."""
