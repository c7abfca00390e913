"""Reads the vectors that a release asks for, and says how fresh they are."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from scale_assets.features.codec import FeatureRow
from scale_assets.features.reader import OnlineReader
from serving.release import Manifest


@dataclass(frozen=True)
class Lookup:
    """The rows of one entity by view, and the state that the answer must declare."""

    rows: dict[str, FeatureRow]
    state: str
    feature_time: datetime | None

    def value(self, view: str, feature: str) -> Any:
        """The value, or None where the row is absent or the feature is null."""
        row = self.rows.get(view)
        return None if row is None else row.values.get(feature)


class OnlineFeatures:
    """Feature rows with their age enforced.

    Age is counted on the store's own clock, the newest `received_at` that any load has seen,
    because history is replayed; where events arrive all the time that is the wall clock.
    """

    def __init__(self, path: Path) -> None:
        self._reader = OnlineReader(path)

    def lookup(self, manifest: Manifest, views: list[str], key: str) -> Lookup:
        """Rows of ``key`` in ``views``; those older than the release allows are left out."""
        found: dict[str, FeatureRow] = {}
        expired = False
        clock = self._reader.clock()
        for view, rows in self._reader.read_views({view: [key] for view in views}).items():
            row, max_age_s = rows[0], manifest.views[view].max_age_seconds
            if row is None:
                continue
            if clock and max_age_s and clock - row.feature_time > timedelta(seconds=max_age_s):
                expired = True
            else:
                found[view] = row
        newest = max((row.feature_time for row in found.values()), default=None)
        state = "fresh" if len(found) == len(views) else "stale" if found or expired else "default"
        return Lookup(found, state, newest)
