"""What can go wrong between us and a Delta table."""

from scale_assets.errors import ScaleError


class LakeError(ScaleError):
    """Data that does not fit its table, or a table that does not fit the call."""


class MissingTable(LakeError):
    """No Delta table at this place yet."""


class StoreFault(LakeError):
    """The store refused a request for good, gave no answer, or holds other bytes than were sent."""


class ConcurrentCommit(LakeError):
    """Another writer committed to the table after our handle read it; start again from reading."""
