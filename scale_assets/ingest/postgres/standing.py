"""Where a table stands in a slot, and which slot of which server that is.

The position is ``<system identifier>/<timeline>/<slot>/<point>``, its version the last log position
of which the table has everything. ``point`` is where the table's snapshot was taken, so it tells
one life of a slot from the next.

A log position is the commit's, until a server turns out to count lower than what the table holds
(a restored backup, another server): from then on 2^56 is added, once more each time, so that what
comes later always sorts later.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

AGE_BITS = 56  # 64 PiB of log in one age, and 127 ages
LSN_MASK = (1 << AGE_BITS) - 1
NAME = re.compile(r"^(\d+)/(\d+)/([a-z0-9_]+)/([0-9A-F]{16})$")


@dataclass(frozen=True, kw_only=True)
class Incarnation:
    """One snapshot of one table, and the slot that carries on from it."""

    system: str
    timeline: int
    slot: str
    point: int  # the snapshot holds every commit up to here

    @property
    def name(self) -> str:
        return f"{self.system}/{self.timeline}/{self.slot}/{self.point:016X}"

    @property
    def age(self) -> int:
        return self.point >> AGE_BITS

    def lifted(self, lsn: int) -> int:
        return self.age << AGE_BITS | lsn


@dataclass(frozen=True)
class Standing:
    """A table has every commit up to ``at`` of this incarnation."""

    incarnation: Incarnation
    at: int

    @property
    def lsn(self) -> int:
        """``at`` as the server counts."""
        return self.at & LSN_MASK


def standing_of(taken: Mapping[str, int]) -> Standing | None:
    """The newest incarnation among a table's positions; None before its first snapshot."""
    found = [Standing(read, at) for name, at in taken.items() if (read := _read(name))]
    return max(found, key=lambda each: each.incarnation.point, default=None)


def point_after(newest: int, lsn: int) -> int:
    """The point of a snapshot that holds every commit up to ``lsn``, above all that the table has."""
    age = newest >> AGE_BITS
    in_this_age = age << AGE_BITS | lsn
    return in_this_age if in_this_age > newest else (age + 1) << AGE_BITS | lsn


def _read(name: str) -> Incarnation | None:
    found = NAME.match(name)
    if not found:
        return None
    system, timeline, slot, point = found.groups()
    return Incarnation(system=system, timeline=int(timeline), slot=slot, point=int(point, 16))


def parse_lsn(text: str) -> int:
    """PostgreSQL's 16/B374D848 as a number."""
    high, low = text.split("/")
    return int(high, 16) << 32 | int(low, 16)


def show_lsn(lsn: int) -> str:
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"
