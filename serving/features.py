"""Reads the vectors that a release asks for, and says how fresh they are."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from scale_assets.features.reader import OnlineReader, OnlineRow
from serving.release import Manifest


@dataclass(frozen=True)
class Lookup:
    """The rows of one entity by view, and the state that the answer must declare."""

    rows: dict[str, OnlineRow]
    state: str
    feature_time: datetime | None

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
        found: dict[str, OnlineRow] = {}
        expired = False
        for view, (row,) in self._reader.read_views({view: [key] for view in views}).items():
            max_age_s = manifest.views[view].max_age_seconds
            if row is None:
                continue
            if row.is_expired or (max_age_s and row.age > timedelta(seconds=max_age_s)):
                expired = True
            else:
                found[view] = row
        newest = max((row.feature_time for row in found.values()), default=None)
        state = "fresh" if len(found) == len(views) else "stale" if found or expired else "default"
        return Lookup(found, state, newest)
