"""What is current and what was, by a loop over the changes that anybody can check."""

from dataclasses import dataclass, field
from typing import Any

Row = dict[str, Any]
Key = tuple[Any, ...]


@dataclass
class Life:
    """What is known of one row while it exists."""

    values: Row = field(default_factory=dict)


@dataclass
class Naive:
    """Replays changes in the order of the source's log."""

    key: tuple[str, ...]
    columns: tuple[str, ...]  # besides the key
    alive: dict[Key, Life] = field(default_factory=dict)
    ended: dict[Key, Life] = field(default_factory=dict)
    current: dict[Key, Row] = field(default_factory=dict)
    history: dict[Key, list[Row]] = field(default_factory=dict)

    def replay(self, changes: list[Row]) -> "Naive":
        for change in sorted(changes, key=log_order):
            if change["op"] == "t":
                for key in list(self.alive):
                    self._end(key, change)
                continue
            key = tuple(change[name] for name in self.key)
            if change["op"] == "d":
                self._end(key, change)
            else:
                self._put(key, change)
        return self

    def _end(self, key: Key, change: Row) -> None:
        self.ended[key] = self.alive.pop(key, Life())
        self.current.pop(key, None)
        self._record(key, change, dict.fromkeys(self.columns), None)

    def _put(self, key: Key, change: Row) -> None:
        life = self.alive.get(key)
        if life is None:
            moved = change["_moved_from"]
            old = self.ended.get(tuple(moved[name] for name in self.key)) if moved else None
            life = Life(dict(old.values) if old else {})
        unchanged = change["_unchanged"] or ()
        life.values |= {name: change[name] for name in self.columns if name not in unchanged}
        self.alive[key] = life
        values = {name: life.values.get(name) for name in self.columns}
        missing = sorted(name for name in self.columns if name not in life.values) or None
        self._record(key, change, values, missing)
        self.current[key] = {
            **dict(zip(self.key, key, strict=True)),
            **values,
            "event_time": change["event_time"],
            "received_at": change["received_at"],
            "_unavailable": missing,
        }

    def _record(self, key: Key, change: Row, values: Row, missing: list[str] | None) -> None:
        periods = self.history.setdefault(key, [])
        if periods:
            periods[-1]["valid_to"] = change["event_time"]
        periods.append(
            {
                **dict(zip(self.key, key, strict=True)),
                **values,
                "op": change["op"],
                "valid_from": change["event_time"],
                "valid_to": None,
                "received_at": change["received_at"],
                "_unavailable": missing,
            }
        )


def log_order(change: Row) -> tuple[Any, ...]:
    """By lsn, then as the source numbers them, then as they were read; nulls first."""
    order = ("lsn", "tx_ordinal", "_source_file", "_position")
    return tuple((change[name] is not None, change[name]) for name in order)
