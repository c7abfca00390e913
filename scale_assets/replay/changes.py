"""Registrations and students as one database's changes, as Debezium envelopes without schema."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scale_assets.replay.lines import (
    json_objects,
    json_plain_text,
    json_text,
    json_whole,
)
from scale_assets.replay.source import InputError
from scale_assets.replay.tables import Tables, rows_of

DAY_MS = 86_400_000
LSN_STEP = 128  # bytes that one change takes in the simulated write-ahead log
FIRST_TX_ID = 1000
TEXT_PROFILE = ("gender", "region", "highest_education", "imd_band", "age_band", "disability")
PROFILE = (
    *("gender", "region", "highest_education", "imd_band", "age_band"),
    *("num_of_prev_attempts", "studied_credits", "disability"),
)

# Order of the changes of one day: a row is born before it changes, results come last.
REGISTERED, ENROLLED, CANCELLED, FINISHED = range(4)


def undated_registrations(tables: Tables) -> set[tuple[int, int]]:
    """(presentation row number, student_id) of the registrations without a date."""
    undated = tables.registrations.filter(pc.is_null(tables.registrations["registered_day"]))
    rows = rows_of(undated["presentation_id"], tables.presentations)
    return set(zip(rows.tolist(), undated["student_id"].to_pylist(), strict=True))


def created_days(tables: Tables, first_click: dict[tuple[int, int], int]) -> np.ndarray:
    """Day on which each registration's row appears.

    That is its registration date. One without a date appears at its first sign of life: the least
    of day 0, first click, first submission and cancellation.
    """
    registrations = tables.registrations
    dated = registrations["registered_day"]
    days: np.ndarray = pc.fill_null(dated, 0).to_numpy().copy()
    missing = np.flatnonzero(pc.is_null(dated).to_numpy())
    first_submission = _first_submissions(tables)
    undated = registrations.take(missing)
    rows = rows_of(undated["presentation_id"], tables.presentations).tolist()
    starts = tables.presentations["start_day"].to_pylist()
    students = undated["student_id"].to_pylist()
    cancelled = undated["unregistered_day"].to_pylist()
    for at, row, student, cancelled_day in zip(missing, rows, students, cancelled, strict=True):
        key = (row, student)
        signs = (starts[row], first_click.get(key), first_submission.get(key), cancelled_day)
        days[at] = min(day for day in signs if day is not None)
    return days


def change_log(tables: Tables, created: np.ndarray) -> pa.Table:
    """One row per change of either table, in commit order, with its log position.

    Columns: phase, event_day, row (row number in its table), lsn, tx_id.
    """
    registrations, students = tables.registrations, tables.students
    cancelled = registrations["unregistered_day"]
    rows = np.flatnonzero(pc.is_valid(cancelled).to_numpy())
    # A cancellation dated before its registration can only be written once the row exists.
    cancelled_at = np.maximum(pc.drop_null(cancelled).to_numpy(), created[rows])
    owners = _registration_rows(tables)
    everyone = np.arange(len(created))
    parts = [
        (REGISTERED, everyone, created),
        (ENROLLED, np.arange(students.num_rows), created[owners]),
        (CANCELLED, rows, cancelled_at),
        (FINISHED, np.arange(students.num_rows), _finished_days(tables, created, owners)),
    ]
    phase = np.concatenate([np.full(len(row), kind) for kind, row, _ in parts])
    row = np.concatenate([row for _, row, _ in parts])
    day = np.concatenate([days for _, _, days in parts])
    order = np.lexsort((row, phase, day))
    ordinal = np.arange(len(order), dtype=np.int64)
    return pa.table(
        {
            "phase": phase[order],
            "row": row[order],
            "event_day": day[order],
            "lsn": (ordinal + 1) * LSN_STEP,
            "tx_id": ordinal + FIRST_TX_ID,
        }
    )


def registration_lines(tables: Tables, part: pa.Table) -> pa.Array:
    """Envelopes of the part's changes; unregistered_on is null until the cancellation."""
    registrations = tables.registrations.take(part["row"])
    key = _key(registrations) | {"registered_on": json_whole(registrations["registered_day"])}
    active = json_objects(key | {"unregistered_on": pa.scalar("null")})
    cancelled = json_objects(
        key | {"unregistered_on": json_whole(registrations["unregistered_day"])}
    )
    is_new = pc.equal(part["phase"], REGISTERED).combine_chunks()
    return _envelopes(
        "registrations",
        part,
        is_new=is_new,
        before=pc.if_else(is_new, "null", active),
        after=pc.if_else(is_new, active, cancelled),
    )


def student_lines(tables: Tables, part: pa.Table) -> pa.Array:
    """Envelopes of the part's changes; final_result is null until the presentation's end."""
    students = tables.students.take(part["row"])
    profile = _key(students) | {
        name: json_text(students[name]) if name in TEXT_PROFILE else json_whole(students[name])
        for name in PROFILE
    }
    running = json_objects(profile | {"final_result": pa.scalar("null")})
    finished = json_objects(profile | {"final_result": json_text(students["final_result"])})
    is_new = pc.equal(part["phase"], ENROLLED).combine_chunks()
    return _envelopes(
        "students",
        part,
        is_new=is_new,
        before=pc.if_else(is_new, "null", running),
        after=pc.if_else(is_new, running, finished),
    )


def _envelopes(
    table: str, part: pa.Table, *, is_new: pa.Array, before: pa.Array, after: pa.Array
) -> pa.Array:
    happened_ms = pc.multiply(part["event_day"], DAY_MS)
    source = json_objects(
        {
            "connector": pa.scalar('"postgresql"'),
            "db": pa.scalar('"university"'),
            "schema": pa.scalar('"public"'),
            "table": pa.scalar(f'"{table}"'),
            "lsn": json_whole(part["lsn"]),
            "txId": json_whole(part["tx_id"]),
            "ts_ms": json_whole(happened_ms),
            "snapshot": pa.scalar('"false"'),
        }
    )
    return json_objects(
        {
            "before": before,
            "after": after,
            "source": source,
            "op": pc.if_else(is_new, '"c"', '"u"'),
            "ts_ms": json_whole(pc.add(happened_ms, DAY_MS)),
        },
        end="\n",
    )


def _key(rows: pa.Table) -> dict[str, pa.Array]:
    return {
        "presentation_id": json_plain_text(rows["presentation_id"].combine_chunks()),
        "student_id": json_whole(rows["student_id"]),
    }


def _registration_rows(tables: Tables) -> np.ndarray:
    """Row number of each student's registration.

    Raises:
        InputError: studentInfo has a row without registration, or a registration comes twice.

    """
    registrations = pa.table(
        {
            "presentation_id": tables.registrations["presentation_id"],
            "student_id": tables.registrations["student_id"],
            "owner": pa.array(np.arange(tables.registrations.num_rows)),
        }
    )
    keys = ["presentation_id", "student_id"]
    for name, table in (("studentRegistration", registrations), ("studentInfo", tables.students)):
        distinct = table.group_by(keys).aggregate([]).num_rows
        if distinct != table.num_rows:
            raise InputError(
                f"{name} has {table.num_rows} rows but {distinct} registrations; it must hold one "
                "row per module, presentation and student"
            )
    students = tables.students.select(keys).append_column(
        "row", pa.array(np.arange(tables.students.num_rows))
    )
    joined = students.join(registrations, keys=keys, join_type="left outer").sort_by("row")
    if joined["owner"].null_count:
        row = joined.filter(pc.is_null(joined["owner"])).slice(0, 1).to_pylist()[0]
        raise InputError(
            f"studentInfo row {row['row']}: student {row['student_id']} has no registration for "
            f"{row['presentation_id']}; give both tables of one release"
        )
    rows: np.ndarray = joined["owner"].to_numpy()
    return rows


def _finished_days(tables: Tables, created: np.ndarray, owners: np.ndarray) -> np.ndarray:
    """Results come at the presentation's end, and after any later cancellation."""
    registrations = tables.registrations
    presentations = tables.presentations
    ends = pc.add(presentations["start_day"], presentations["length_days"]).to_numpy()
    end = ends[rows_of(registrations["presentation_id"], tables.presentations)]
    cancelled = pc.fill_null(registrations["unregistered_day"], pa.scalar(np.iinfo(np.int64).min))
    days: np.ndarray = np.maximum.reduce([end, created, cancelled.to_numpy()])[owners]
    return days


def _first_submissions(tables: Tables) -> dict[tuple[int, int], int]:
    first = tables.submissions.group_by(["presentation_id", "student_id"]).aggregate(
        [("event_day", "min")]
    )
    rows = rows_of(first["presentation_id"], tables.presentations).tolist()
    keys = zip(rows, first["student_id"].to_pylist(), strict=True)
    return dict(zip(keys, first["event_day_min"].to_pylist(), strict=True))
