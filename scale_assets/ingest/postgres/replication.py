"""The replication protocol: commands, and the stream of frames that START_REPLICATION opens.

https://www.postgresql.org/docs/current/protocol-replication.html
"""

import select
import struct
import time
from typing import TYPE_CHECKING, Any

from scale_assets.ingest.postgres.errors import (
    CannotConnect,
    NotPrepared,
    ProtocolError,
    SlotBusy,
    SlotLost,
)
from scale_assets.ingest.postgres.frames import Frame
from scale_assets.ingest.postgres.standing import parse_lsn, show_lsn
from scale_assets.ingest.postgres.transactions import EPOCH_US

if TYPE_CHECKING:
    from psycopg.pq.abc import PGconn

DATA, KEEPALIVE = b"wk"
KEEPALIVE_BYTES = 18
STATUS = struct.Struct(">cQQQqB")
BREATH_S = 0.0002  # let the server write some more, instead of waking up for every message
SILENCE_S = 60.0  # without any word, though asked for one, the server counts as gone
PING_EVERY_S = 0.1
READ_S = 0.5

OBJECT_IN_USE = "55006"
NOT_IN_PREREQUISITE_STATE = "55000"
LIMIT_EXCEEDED = "53400"


def command(connection: "PGconn", text: str) -> dict[str, str | None]:
    """Run one replication command that answers with a row.

    Raises:
        NotPrepared: The server refuses it.
    """
    from psycopg import pq

    result = connection.exec_(text.encode())
    if result.status not in (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK):
        raise _refusal(result, text)
    names = [(result.fname(at) or b"").decode() for at in range(result.nfields)]
    values = [result.get_value(0, at) for at in range(result.nfields)]
    return {
        name: None if value is None else value.decode()
        for name, value in zip(names, values, strict=True)
    }


def create_slot(connection: "PGconn", slot: str, *, temporary: bool) -> tuple[int, str]:
    """Make a slot; its consistent point, and the snapshot that holds what came before it.

    The snapshot lives until the connection's next command. Waits for running transactions to end.
    """
    kind = "TEMPORARY LOGICAL" if temporary else "LOGICAL"
    export = "(SNAPSHOT 'export')" if connection.server_version >= 150000 else "EXPORT_SNAPSHOT"
    made = command(connection, f'CREATE_REPLICATION_SLOT "{slot}" {kind} pgoutput {export}')
    point, snapshot = made["consistent_point"], made["snapshot_name"]
    assert point is not None
    assert snapshot is not None
    return parse_lsn(point), snapshot


class Stream:
    """Frames of one slot from a log position on. ``wal_end``: all before it has been sent."""

    def __init__(self, connection: "PGconn", name: str) -> None:
        self._connection = connection
        self._name = name
        self._confirmed = 0
        self._pinged = 0.0
        self._heard = time.monotonic()
        self.wal_end = 0

    def start(self, slot: str, *, after: int, publication: str) -> None:
        """Begin with the first transaction that commits after this log position.

        Raises:
            SlotBusy: Another process reads from the slot.
            SlotLost: The server no longer has what the slot needs.
        """
        from psycopg import pq

        quoted = publication.replace('"', '""').replace("'", "''")
        options = f"proto_version '1', publication_names '\"{quoted}\"', messages 'true'"
        text = f'START_REPLICATION SLOT "{slot}" LOGICAL {show_lsn(after + 1)} ({options})'
        result = self._connection.exec_(text.encode())
        if result.status != pq.ExecStatus.COPY_BOTH:
            raise _refusal(result, text)
        self._confirmed = self.wal_end = after
        self._heard = time.monotonic()

    def read(self, *, max_bytes: int, wait_s: float) -> list[Frame]:
        """What the server sends, up to about ``max_bytes``, until it pauses or half a second ends.

        Raises:
            CannotConnect: The server is gone, or ended the stream.
        """
        frames: list[Frame] = []
        room, give_up = max_bytes, time.monotonic() + READ_S
        while room > 0:
            size, frame = self._get()
            if size > KEEPALIVE_BYTES:
                frames.append(frame)
                room -= size
            elif size > 0:
                self._keepalive(bytes(frame))
            elif time.monotonic() > give_up or not self._wait(wait_s):
                break
        if frames:
            self._heard = time.monotonic()
        elif time.monotonic() - self._heard > SILENCE_S:
            raise CannotConnect(f"{self._name}: no word from the server for {SILENCE_S:.0f} s")
        return frames

    def confirm(self, lsn: int) -> None:
        """Say that everything before this log position is durable here: the server may forget it."""
        self._confirmed = max(self._confirmed, lsn)
        self._send(reply=False)

    def ask(self) -> None:
        """Ask how far the server is, ten times a second at most."""
        if time.monotonic() - self._pinged >= PING_EVERY_S:
            self._pinged = time.monotonic()
            self._send(reply=True)

    def close(self) -> None:
        """End the stream so that the server has read all that was confirmed."""
        import psycopg

        try:
            self._connection.put_copy_end()
            self._connection.flush()
            while self._get()[0] > 0 or self._wait(1.0):
                pass
        except (psycopg.Error, CannotConnect):
            return  # it is gone, and with it the need to take leave

    def _get(self) -> tuple[int, Any]:
        import psycopg

        try:
            size, frame = self._connection.get_copy_data(1)
        except psycopg.Error as error:
            raise CannotConnect(f"{self._name}: {error}") from error
        if size < 0:
            raise self._ended()
        return size, frame

    def _wait(self, wait_s: float) -> bool:
        """Take in what comes within this time; whether there was anything."""
        import psycopg

        time.sleep(BREATH_S)
        readable, _, _ = select.select([self._connection.socket], [], [], wait_s)
        if not readable:
            return False
        try:
            self._connection.consume_input()
        except psycopg.Error as error:
            raise CannotConnect(f"{self._name}: {error}") from error
        return True

    def _keepalive(self, message: bytes) -> None:
        if message[0] != KEEPALIVE or len(message) != KEEPALIVE_BYTES:
            raise ProtocolError(f"a replication message {message[:1]!r} of {len(message)} bytes")
        wal_end, _sent_at, wants_reply = struct.unpack_from(">QqB", message, 1)
        self.wal_end = max(self.wal_end, wal_end)
        self._heard = time.monotonic()
        if wants_reply:
            self._send(reply=False)

    def _send(self, *, reply: bool) -> None:
        """How far we have read and how far it is durable; as to the first, the second is safe."""
        import psycopg

        now_us = time.time_ns() // 1000 - EPOCH_US
        lsn = self._confirmed
        try:
            self._connection.put_copy_data(STATUS.pack(b"r", lsn, lsn, lsn, now_us, reply))
            self._connection.flush()
        except psycopg.Error as error:
            raise CannotConnect(f"{self._name}: {error}") from error

    def _ended(self) -> Exception:
        result = self._connection.get_result()
        why = "" if result is None else (result.error_message or b"").decode(errors="replace")
        return CannotConnect(f"{self._name}: the server ended the stream: {why.strip() or 'bye'}")


def _refusal(result: Any, text: str) -> Exception:
    """A refused command as the error that says what to do about it."""
    from psycopg import pq

    code = (result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode()
    primary = (result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or b"").decode()
    said = f"{text.split('(', maxsplit=1)[0].strip()}: {primary}"
    if code == OBJECT_IN_USE:
        return SlotBusy(f"{said}; stop the other reader, or give this capture a slot of its own")
    if code == NOT_IN_PREREQUISITE_STATE and "slot" in primary:
        return SlotLost(f"{said}; take a new snapshot with --resync")
    if code == LIMIT_EXCEEDED:
        return NotPrepared(f"{said}; drop slots that nobody reads, or raise max_replication_slots")
    return NotPrepared(said)
