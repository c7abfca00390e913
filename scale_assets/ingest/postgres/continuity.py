"""Whether a slot still carries on from where the tables stand; anything else stops loudly."""

from collections.abc import Sequence

from scale_assets.ingest.postgres.errors import NotPrepared, OtherServer, SlotLost
from scale_assets.ingest.postgres.server import Server, Slot
from scale_assets.ingest.postgres.spec import CaptureSpec
from scale_assets.ingest.postgres.standing import Standing, show_lsn
from scale_assets.ingest.postgres.table_capture import TableCapture


def require_own(spec: CaptureSpec, server: Server, slot: Slot) -> None:
    """Refuse a slot that something else made under this name.

    Raises:
        NotPrepared: It decodes another database, or with another plugin.
    """
    if (slot.plugin, slot.database) != ("pgoutput", server.database):
        raise NotPrepared(
            f"slot {slot.name} decodes database {slot.database!r} with {slot.plugin}; "
            f"capture {spec.name} needs pgoutput on {server.database!r}: give it another slot"
        )


def require_continuity(
    spec: CaptureSpec, server: Server, slot: Slot | None, tables: Sequence[TableCapture]
) -> None:
    """Refuse to go on where changes may be missing between a table and the slot.

    Raises:
        OtherServer: The tables came from elsewhere, or from a future that this server lost.
        SlotLost: The slot is gone, given up, made anew, or was read by somebody else.
    """
    for table in tables:
        standing = table.standing
        if standing is None:
            continue
        if problem := _server_problem(server, standing):
            raise OtherServer(_told(spec, table, problem))
        if problem := _slot_problem(slot, standing, spec.slot):
            raise SlotLost(_told(spec, table, problem))


def _server_problem(server: Server, standing: Standing) -> str | None:
    was = standing.incarnation
    if was.system != server.system:
        return f"it came from system {was.system}, this one is {server.system}"
    if was.timeline != server.timeline:
        return (
            f"it came from timeline {was.timeline}, the server is on {server.timeline}: it was "
            "restored or promoted"
        )
    if server.wal_end < standing.lsn:
        return (
            f"it stands at {show_lsn(standing.lsn)}, but the server's log ends at "
            f"{show_lsn(server.wal_end)}: an earlier state was restored"
        )
    return None


def _slot_problem(slot: Slot | None, standing: Standing, declared: str) -> str | None:
    was = standing.incarnation.slot
    if was != declared:
        return f"it came through slot {was}, and slot {declared} is declared now"
    if slot is None:
        return f"slot {was} is gone"
    if slot.why_lost or slot.confirmed_lsn is None:
        return f"the server gave slot {slot.name} up ({slot.why_lost or 'it was never ready'})"
    if slot.confirmed_lsn > standing.lsn + 1:
        return (
            f"it stands at {show_lsn(standing.lsn)}, but slot {slot.name} begins at "
            f"{show_lsn(slot.confirmed_lsn)}: it was made anew, or somebody else read from it"
        )
    return None


def _told(spec: CaptureSpec, table: TableCapture, problem: str) -> str:
    return (
        f"capture {spec.name}, table {table.relation}: {problem}; changes may be missing from then "
        f"on. `scale capture {spec.name} --resync` takes a new snapshot and reconciles it"
    )
