"""What a capture is told: which database, through which slot and publication of it."""

import re
from dataclasses import dataclass

from scale_assets.ingest.feed import MAX_BATCH_BYTES
from scale_assets.ingest.postgres.connection import Database
from scale_assets.ingest.postgres.errors import NotPrepared

NAME = re.compile(r"^[a-z0-9_]{1,63}$")


@dataclass(frozen=True, kw_only=True)
class CaptureSpec:
    """One slot and what reads it.

    ``max_batch_bytes``: of the server's text, held at once. ``simulated_clock``: the database
    replays history, and its transactions say when they happened (see clock.py).
    """

    name: str
    database: Database
    slot: str
    publication: str
    max_batch_bytes: int = MAX_BATCH_BYTES
    simulated_clock: bool = False

    def __post_init__(self) -> None:
        if not NAME.match(self.slot):
            raise NotPrepared(
                f"capture {self.name}: slot {self.slot!r}; a slot's name has lower-case letters, "
                "digits and underscores, 63 at most"
            )
