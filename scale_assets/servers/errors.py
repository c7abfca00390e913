"""Why a server cannot run here, and how to get it."""

from scale_assets.errors import ScaleError


class ServerUnavailable(ScaleError):
    """What a server needs is not on this machine."""

    def __init__(self, name: str, *, why: str, way_out: str) -> None:
        super().__init__(f"{name} cannot start: {why}; {way_out}")


class ServerFailed(ScaleError):
    """A server was started and does not answer; the message ends with what it said."""
