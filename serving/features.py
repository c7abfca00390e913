"""Reads the vectors that a release asks for, and says how fresh they are."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from scale_assets.features.codec import to_micros
from scale_assets.features.reader import OnlineReader, OnlineRow
from serving.release import Manifest


@dataclass(frozen=True)
class Lookup:
    """The rows of one entity by view, and the state that the answer must declare."""

    key: str
    rows: dict[str, OnlineRow]
    state: str
    feature_time: datetime | None
    read: dict[str, OnlineRow | None]  # of every view, with those that are too old
    now_us: int  # what ages were counted to; -1 while a replayed world has no time
    is_replayed: bool  # the store's clock is that of its data

    def as_of_us(self, view: str) -> int:
        """The instant as of which the view's row was the latest.

        A replayed world's clock is the newest arrival of one stream. Where that stream is silent, a
        table's rows of a day that is over may describe a later instant: then it is at least that.
        """
        row = self.read[view]
        if row is None or not self.is_replayed:
            return self.now_us
        return max(self.now_us, to_micros(row.feature_time))

    def value(self, view: str, feature: str) -> Any:
        """The value, or None where the row is absent or the feature is null."""
        row = self.rows.get(view)
        return None if row is None else row.values.get(feature)


class OnlineFeatures:
    """Feature rows with their age enforced: that of the view, and what the release allows."""

    def __init__(self, reader: OnlineReader) -> None:
        self._reader = reader

    def lookup(self, manifest: Manifest, views: list[str], key: str) -> Lookup:
        """Rows of ``key`` in ``views``; those that are too old are left out."""
        answer = self._reader.read_rows({view: [key] for view in views})
        read = {view: row for view, (row,) in answer.rows.items()}
        found: dict[str, OnlineRow] = {}
        expired = False
        for view, row in read.items():
            max_age_s = manifest.views[view].max_age_seconds
            if row is None:
                continue
            if row.is_expired or (max_age_s and row.age > timedelta(seconds=max_age_s)):
                expired = True
            else:
                found[view] = row
        newest = max((row.feature_time for row in found.values()), default=None)
        state = "fresh" if len(found) == len(views) else "stale" if found or expired else "default"
        is_replayed = self._reader.backend.clock == "data"
        return Lookup(key, found, state, newest, read, answer.now, is_replayed)
