"""Changes of a slot as typed Arrow, against the server's own rate of writing them down.

python -m benchmarks.pgoutput [--quick] [--json] [--dsn DSN]

One log of inserts, updates and deletes is read by pg_logical_slot_peek_binary_changes, which sends
nothing; by our stream, from START_REPLICATION to columns of the contract's types; and by our
decoder alone, from frames in memory. Interleaved, medians of five. Nothing is acknowledged, so each
reads the same log. Without a DSN a server of its own is started.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from benchmarks.measure import Comparison, machine
from scale_assets.contracts import parse_contract
from scale_assets.ingest.postgres.chunks import Frames
from scale_assets.ingest.postgres.connection import Database
from scale_assets.ingest.postgres.decoder import Decoder
from scale_assets.ingest.postgres.frames import Frame
from scale_assets.ingest.postgres.replication import Stream
from scale_assets.ingest.postgres.rows import judge
from scale_assets.ingest.postgres.standing import parse_lsn

GOAL = 0.25
ROUNDS = 5
NUM_CHANGES, QUICK_CHANGES = 1_000_000, 150_000
WINDOW_BYTES = 16 << 20
SLOT = PUBLICATION = "scale_benchmark"
RELATION = "public.bookings"
KEYS = {RELATION: ("id",)}
TABLE = """
    drop table if exists bookings;
    create table bookings (
        id bigint primary key, customer text, seats int, price numeric(10, 2),
        booked_at timestamptz, note text
    )
"""
CONTRACT = """
apiVersion: v3.1.0
kind: DataContract
id: bookings
name: bookings
version: 1.0.0
status: active
schema:
  - name: bookings
    properties:
      - {name: id, logicalType: integer, primaryKey: true}
      - {name: customer, logicalType: string, required: true}
      - {name: seats, logicalType: integer, logicalTypeOptions: {minimum: 0}}
      - {name: price, logicalType: number}
      - {name: booked_at, logicalType: timestamp, required: true}
      - {name: note, logicalType: string}
"""
PEEK = """
    select count(*) from pg_logical_slot_peek_binary_changes(
        %s, null, null, 'proto_version', '1', 'publication_names', %s
    )
"""


def main() -> None:
    """Print one line per comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="A shorter log, for a look.")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--dsn", help="A database of a superuser, on a server to be measured.")
    options = parser.parse_args()
    num_changes = QUICK_CHANGES if options.quick else NUM_CHANGES
    with _database(options.dsn) as database, _log(database, num_changes):
        results = list(compare(database))
    if options.json:
        print(json.dumps(machine()))
    for result in results:
        print(result.as_json() if options.json else result.as_text())


def compare(database: Database) -> Iterator[Comparison]:
    """Our rates beside the server's, in changes per second."""
    frames = _frames(database)
    rates: dict[str, list[float]] = {"peek": [], "stream": [], "decoder": []}
    runs: dict[str, Callable[[], int]] = {
        "peek": lambda: _peek(database),
        "stream": lambda: _stream(database),
        "decoder": lambda: _decode(frames),
    }
    for _ in range(ROUNDS):
        for name, run in runs.items():
            started = time.perf_counter()
            num_changes = run()
            rates[name].append(num_changes / (time.perf_counter() - started))
    medians = {name: statistics.median(each) for name, each in rates.items()}
    for name, what in (("stream", "replication stream to Arrow"), ("decoder", "pgoutput to Arrow")):
        yield Comparison(
            what,
            medians[name],
            "changes/s",
            "pg_logical_slot_peek_binary_changes",
            medians["peek"],
            f"at least {GOAL} times",
            medians[name] >= GOAL * medians["peek"],
        )


def _peek(database: Database) -> int:
    with database.connect() as connection:
        row = connection.execute(PEEK, [SLOT, PUBLICATION]).fetchone()
    assert row is not None
    return int(row[0])


def _stream(database: Database) -> int:
    decode = _Decoding()
    return sum(decode(frames) for frames in _windows(database))


def _decode(frames: list[Frame]) -> int:
    decode = _Decoding()
    waiting = Frames(WINDOW_BYTES)
    num_changes = 0
    for frame in frames:
        waiting.add([frame])
        if not waiting.room:
            num_changes += decode(waiting.take())
    return num_changes + decode(waiting.take())


class _Decoding:
    """Frames to tables of the contract's types, one stream from its start."""

    def __init__(self) -> None:
        self._decoder = Decoder(KEYS)
        self._contract = parse_contract(CONTRACT, source="benchmark")

    def __call__(self, frames: list[Frame]) -> int:
        decoded = self._decoder.decode(frames)
        for block in decoded.blocks:
            judged = judge(self._contract, block, first_position=0)
            assert judged.accepted.num_rows == len(block)
        return decoded.num_changes


def _windows(database: Database) -> Iterator[list[Frame]]:
    with database.connect() as connection:
        row = connection.execute("select pg_current_wal_flush_lsn()::text").fetchone()
    assert row is not None
    end = parse_lsn(row[0])
    with database.replicate() as connection:
        stream = Stream(connection, SLOT)
        stream.start(SLOT, after=0, publication=PUBLICATION)
        waiting = Frames(WINDOW_BYTES)
        while stream.wal_end < end or len(waiting):
            waiting.add(stream.read(max_bytes=waiting.room, wait_s=0.05))
            if not waiting.room or stream.wal_end >= end:
                yield waiting.take()
            stream.ask()


def _frames(database: Database) -> list[Frame]:
    return [bytes(frame) for frames in _windows(database) for frame in frames]


@contextmanager
def _log(database: Database, num_changes: int) -> Iterator[None]:
    """A slot with this many changes before it: six inserts to three updates to one delete."""
    with database.connect() as connection:
        connection.execute(TABLE)
        connection.execute(f"drop publication if exists {PUBLICATION}")
        connection.execute(f"create publication {PUBLICATION} for table bookings")
        connection.execute("select pg_create_logical_replication_slot(%s, 'pgoutput')", [SLOT])
        try:
            for first in range(0, num_changes * 6 // 10, 600):
                _change(connection, first)
            yield
        finally:
            connection.execute("select pg_drop_replication_slot(%s)", [SLOT])


def _change(connection: object, first: int) -> None:
    """Three transactions of a thousand changes together."""
    execute = connection.execute  # type: ignore[attr-defined]
    execute(
        "insert into bookings select n, 'customer ' || n, mod(n, 9), n / 4.0, "
        "timestamptz '2013-02-01' + n * interval '1 second', repeat('note ', mod(n, 12)) "
        "from generate_series(%s::int, %s::int) n",
        [first, first + 599],
    )
    execute(
        "update bookings set seats = seats + 1 where id between %s and %s", [first, first + 299]
    )
    execute("delete from bookings where id between %s and %s", [first + 500, first + 599])


@contextmanager
def _database(dsn: str | None) -> Iterator[Database]:
    if dsn is not None:
        yield Database("benchmark", dsn)
        return
    from tests.ingest.postgres.server import running_server

    with running_server() as server:
        yield Database("benchmark", server.dsn())


if __name__ == "__main__":
    main()
