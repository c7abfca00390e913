"""What a server says of itself and of a slot, and whether it can be captured from."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from scale_assets.ingest.postgres.errors import NotPrepared
from scale_assets.ingest.postgres.replication import command
from scale_assets.ingest.postgres.standing import parse_lsn

if TYPE_CHECKING:
    import psycopg
    from psycopg.pq.abc import PGconn

OLDEST_VERSION = 140000  # the first whose pgoutput sends logical messages


@dataclass(frozen=True, kw_only=True)
class Server:
    """One run's view of the server."""

    system: str
    timeline: int
    version: int
    database: str
    wal_end: int
    wal_limit: int | None  # bytes of log that a slot may hold back; None without a limit


@dataclass(frozen=True, kw_only=True)
class Slot:
    """A replication slot as the server keeps it."""

    name: str
    plugin: str
    database: str
    restart_lsn: int | None
    confirmed_lsn: int | None
    why_lost: str | None

    def held_back(self, wal_end: int) -> int | None:
        """Bytes of log that the server keeps for this slot."""
        return None if self.restart_lsn is None else max(0, wal_end - self.restart_lsn)


@dataclass(frozen=True, kw_only=True)
class Health:
    """How much log the slot holds back, of how much it may."""

    held_back: int
    limit: int | None

    @property
    def is_alarming(self) -> bool:
        """Half of what it may: beyond the whole, the server gives the slot up."""
        return self.limit is not None and self.held_back > self.limit / 2


def look_at(connection: "psycopg.Connection[Any]", replication: "PGconn") -> Server:
    """Read the server's identity and settings.

    Raises:
        NotPrepared: A setting keeps it from logical decoding.
    """
    system = command(replication, "IDENTIFY_SYSTEM")
    row = connection.execute(
        """
        select current_setting('server_version_num')::int, current_setting('wal_level'),
            pg_size_bytes(current_setting('max_slot_wal_keep_size')), pg_is_in_recovery()
        """
    ).fetchone()
    assert row is not None
    version, wal_level, wal_limit, is_standby = row
    if version < OLDEST_VERSION:
        raise NotPrepared(
            f"server_version_num is {version}; capture needs PostgreSQL 14 ({OLDEST_VERSION})"
        )
    if wal_level != "logical":
        raise NotPrepared(
            f"wal_level is {wal_level!r}; run ALTER SYSTEM SET wal_level = 'logical' and restart "
            "the server"
        )
    if is_standby:
        raise NotPrepared("the server is a standby; capture from its primary")
    return Server(
        system=str(system["systemid"]),
        timeline=int(system["timeline"] or 0),
        version=version,
        database=str(system["dbname"]),
        wal_end=parse_lsn(str(system["xlogpos"])),
        wal_limit=wal_limit if wal_limit >= 0 else None,
    )


def find_slot(connection: "psycopg.Connection[Any]", name: str) -> Slot | None:
    """The slot of this name, if there is one."""
    from psycopg.rows import dict_row

    with connection.cursor(row_factory=dict_row) as cursor:
        cursor.execute("select * from pg_replication_slots where slot_name = %s", [name])
        found = cursor.fetchone()
    if found is None:
        return None
    positions = {
        name: None if found[name] is None else parse_lsn(found[name])
        for name in ("restart_lsn", "confirmed_flush_lsn")
    }
    return Slot(
        name=name,
        plugin=str(found["plugin"]),
        database=str(found["database"]),
        restart_lsn=positions["restart_lsn"],
        confirmed_lsn=positions["confirmed_flush_lsn"],
        why_lost=_why_lost(found),
    )


def _why_lost(found: dict[str, Any]) -> str | None:
    if found.get("invalidation_reason"):  # since 17
        return str(found["invalidation_reason"])
    if found.get("conflicting"):
        return "conflicting"
    return "wal_status is lost" if found["wal_status"] == "lost" else None
