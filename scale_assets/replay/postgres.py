"""Registrations and students as a university would write them: statements on a real database.

A day is one transaction. It says what day it was (a logical message that a capture with a simulated
clock reads), so one run up to a day or many leave the same changes.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from itertools import groupby
from typing import TYPE_CHECKING, Any

from scale_assets.replay.prepared import Prepared, prepare
from scale_assets.replay.source import Input, InputError
from scale_assets.replay.tables import EPOCH, load_tables

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]

KEY = ("presentation_id", "student_id")
DATES = ("registered_on", "unregistered_on")
TABLES = {
    "registrations": "presentation_id text, student_id bigint, registered_on date, "
    "unregistered_on date",
    "students": "presentation_id text, student_id bigint, gender text, region text, "
    "highest_education text, imd_band text, age_band text, num_of_prev_attempts int, "
    "studied_credits int, disability text, final_result text",
}
CLOCK = """
    create table if not exists scale_clock (
        only_row bool primary key default true check (only_row), day date, input text not null
    )
"""
TICK = "select pg_logical_emit_message(true, 'scale.clock', %s)"

Change = dict[str, Any]


@dataclass(frozen=True)
class PostgresReplay:
    """What one run wrote, and the day that the database has reached."""

    num_changes: int
    num_days: int
    last_day: date | None


def replay_to_postgres(
    source: Input, dsn: str, *, until: date | None = None, modules: Sequence[str] | None = None
) -> PostgresReplay:
    """Write the changes of the days after the database's last, up to and including ``until``.

    Raises:
        InputError: The database holds another input, or the input is broken.
    """
    import psycopg

    tables = load_tables(source, modules=modules, presentations=None)
    chosen = tables.presentations["presentation_id"].to_pylist()
    prepared = prepare(source, tables)
    num_changes = num_days = 0
    with psycopg.connect(dsn, autocommit=True) as connection:
        last = _last_day(connection, json.dumps([source.fingerprint(), chosen]))
        for day in _days(prepared, after=last, until=until):
            num_changes += _write_day(connection, prepared, day)
            num_days += 1
            last = day
    return PostgresReplay(num_changes, num_days, last)


def _last_day(connection: "Connection", fingerprint: str) -> date | None:
    for name, columns in TABLES.items():
        connection.execute(
            f"create table if not exists {name} ({columns}, primary key ({', '.join(KEY)}))"
        )
    connection.execute(CLOCK)
    connection.execute(
        "insert into scale_clock (input) values (%s) on conflict do nothing", [fingerprint]
    )
    row = connection.execute("select day, input from scale_clock").fetchone()
    assert row is not None
    if row[1] != fingerprint:
        raise InputError(
            "the database was filled from another input or other courses; give those again, or "
            f"drop {', '.join(TABLES)} and scale_clock"
        )
    day: date | None = row[0]
    return day


def _days(prepared: Prepared, *, after: date | None, until: date | None) -> Iterator[date]:
    numbers = {day for name in TABLES for day in prepared.feeds[name].rows_per_day()}
    for day in (EPOCH + timedelta(days=number) for number in sorted(numbers)):
        if (after is None or day > after) and (until is None or day <= until):
            yield day


def _write_day(connection: "Connection", prepared: Prepared, day: date) -> int:
    """All changes of a day in the order of their log, and the clock, in one transaction."""
    changes = sorted(
        (
            (json.loads(line), name)
            for name in TABLES
            for line in prepared.feeds[name].lines((day - EPOCH).days).to_pylist()
        ),
        key=lambda change: int(change[0]["source"]["lsn"]),
    )
    midnight = datetime.combine(day, time(), tzinfo=UTC)
    said = {"event_time": midnight, "received_at": midnight + timedelta(days=1)}
    with connection.transaction(), connection.cursor() as cursor:
        cursor.execute(TICK, [json.dumps({name: at.isoformat() for name, at in said.items()})])
        for (name, op), run in groupby(changes, key=lambda change: (change[1], change[0]["op"])):
            rows = [_row(envelope["after"]) for envelope, _ in run]
            cursor.executemany(_statement(name, op, list(rows[0])), rows)
        cursor.execute("update scale_clock set day = %s", [day])
    return len(changes)


def _statement(table: str, op: str, columns: Sequence[str]) -> str:
    if op == "c":
        values = ", ".join(f"%({column})s" for column in columns)
        return f"insert into {table} ({', '.join(columns)}) values ({values})"
    assigned = ", ".join(f"{c} = %({c})s" for c in columns if c not in KEY)
    return f"update {table} set {assigned} where " + " and ".join(f"{c} = %({c})s" for c in KEY)


def _row(after: Change) -> Change:
    """Dates are days since 1970 in the envelope."""
    return {
        name: EPOCH + timedelta(days=value) if name in DATES and value is not None else value
        for name, value in after.items()
    }
