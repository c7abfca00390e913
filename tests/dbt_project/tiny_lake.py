"""A lake of two short presentations: random clicks, some of them late, and every kind of change."""

import random
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pyarrow as pa

from scale_assets.lake import Lake

UTC_TIME = pa.timestamp("us", tz="UTC")
DAY = timedelta(days=1)
STARTS = {"AAA-2013B": date(2013, 2, 1), "BBB-2013J": date(2013, 2, 20)}
LENGTH_DAYS = 60
STUDENTS = range(1, 7)
SITES = {"AAA-2013B": [10, 11, 12, 13], "BBB-2013J": [20, 21, 22]}
ACTIVITY_TYPES = {10: "homepage", 11: "forumng", 12: "quiz", 13: "oucontent", 20: "homepage"}
CANCELLED_ON_DAY = {("AAA-2013B", 2): 33, ("AAA-2013B", 3): 50, ("BBB-2013J", 4): 35}
NEVER_DATED = ("BBB-2013J", 5)
PROFILE = {
    "gender": "F",
    "region": "Wales",
    "highest_education": "A Level",
    "imd_band": None,
    "age_band": "0-35",
    "num_of_prev_attempts": 0,
    "studied_credits": 60,
    "disability": "N",
}


def instant(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def write_lake(root: str, *, until: datetime | None = None) -> Lake:
    """Write all tables the warehouse reads, with what had been received at ``until``."""
    lake = Lake(root)
    for table, (schema, rows) in _tables(until).items():
        kept = [row for row in rows if until is None or row.get("received_at", until) <= until]
        if table == "registrations_history":
            kept = _reopened(kept)
        partition_by = [name for name in ("event_date", "session_date") if name in schema.names]
        lake.overwrite(table, pa.Table.from_pylist(kept, schema=schema), partition_by=partition_by)
    return lake


def clicks() -> list[dict[str, Any]]:
    """Rows of interaction_counts; one in eight arrives up to 40 days late."""
    rng = random.Random(7)
    rows = []
    for presentation, starts_on in STARTS.items():
        for student in STUDENTS:
            for day in range(-20, LENGTH_DAYS):
                if rng.random() > 0.3:
                    continue
                for site in rng.sample(SITES[presentation], rng.randint(1, 3)):
                    event_date = starts_on + day * DAY
                    delay = rng.randint(2, 40) if rng.random() < 0.125 else 1
                    rows.append(
                        {
                            "presentation_id": presentation,
                            "student_id": student,
                            "site_id": site,
                            "event_date": event_date,
                            "received_at": instant(event_date + delay * DAY),
                            "num_clicks": rng.randint(1, 9),
                            "num_events": 1,
                            "first_order": len(rows),
                        }
                    )
    return rows


def _tables(until: datetime | None) -> dict[str, tuple[pa.Schema, list[dict[str, Any]]]]:
    ids = [("presentation_id", pa.string()), ("student_id", pa.int64())]
    change = [("event_time", UTC_TIME), ("received_at", UTC_TIME)]
    period = [
        ("op", pa.string()),
        ("valid_from", UTC_TIME),
        ("valid_to", UTC_TIME),
        ("received_at", UTC_TIME),
    ]
    dates = [("registered_on", pa.date32()), ("unregistered_on", pa.date32())]
    person = [
        (name, pa.int64() if isinstance(value, int) else pa.string())
        for name, value in [*PROFILE.items(), ("final_result", None)]
    ]
    history = _registrations()
    people = _students()
    return {
        "interaction_counts": (_schema(ids + _CLICK), clicks()),
        "sessions": (_schema([("session_id", pa.string()), *ids, *_SESSION]), _sessions(until)),
        "registrations_history": (_schema(ids + dates + period), history),
        "registrations": (_schema(ids + dates + change), _latest(history)),
        "students_history": (_schema(ids + person + period), people),
        "students": (_schema(ids + person + change), _latest(people)),
        "raw/submissions": (_schema(_SUBMISSION), _submissions()),
        "raw/sites": (_schema(_SITE), _sites()),
        "raw/assessments": (_schema(_ASSESSMENT), _assessments()),
        "raw/presentations": (_schema(_PRESENTATION), _presentations()),
    }


def _schema(fields: list[tuple[str, pa.DataType]]) -> pa.Schema:
    return pa.schema(fields)


_CLICK = [
    ("site_id", pa.int64()),
    ("event_date", pa.date32()),
    ("received_at", UTC_TIME),
    ("num_clicks", pa.int64()),
    ("num_events", pa.int64()),
    ("first_order", pa.int64()),
]
_SESSION = [
    ("session_start", UTC_TIME),
    ("session_end", UTC_TIME),
    ("session_date", pa.date32()),
    ("num_events", pa.int64()),
    ("num_clicks", pa.int64()),
    ("num_sites", pa.int64()),
    ("first_received_at", UTC_TIME),
    ("received_at", UTC_TIME),
]
_SUBMISSION = [
    ("event_id", pa.string()),
    ("event_time", UTC_TIME),
    ("received_at", UTC_TIME),
    ("presentation_id", pa.string()),
    ("student_id", pa.int64()),
    ("assessment_id", pa.int64()),
    ("score", pa.float64()),
    ("is_banked", pa.bool_()),
    ("event_order", pa.int64()),
    ("event_date", pa.date32()),
]
_SITE = [
    ("site_id", pa.int64()),
    ("presentation_id", pa.string()),
    ("activity_type", pa.string()),
    ("week_from", pa.int64()),
    ("week_to", pa.int64()),
]
_ASSESSMENT = [
    ("assessment_id", pa.int64()),
    ("presentation_id", pa.string()),
    ("assessment_type", pa.string()),
    ("due_on", pa.date32()),
    ("weight", pa.float64()),
]
_PRESENTATION = [
    ("presentation_id", pa.string()),
    ("module_id", pa.string()),
    ("term", pa.string()),
    ("starts_on", pa.date32()),
    ("length_days", pa.int32()),
]


def _registrations() -> list[dict[str, Any]]:
    rows = []
    for presentation, starts_on in STARTS.items():
        for student in STUDENTS:
            key = {"presentation_id": presentation, "student_id": student}
            is_dated = (presentation, student) != NEVER_DATED
            registered_on = starts_on + (student * 3 - 15) * DAY if is_dated else None
            created = instant(registered_on or starts_on)
            end = CANCELLED_ON_DAY.get((presentation, student))
            cancelled = None if end is None else instant(starts_on + end * DAY)
            state = {"registered_on": registered_on, "unregistered_on": None}
            rows.append(
                {**key, **state, "op": "c", "valid_from": created, "valid_to": cancelled}
                | {"received_at": created + DAY}
            )
            if cancelled is not None:
                state["unregistered_on"] = cancelled.date()
                rows.append(
                    {**key, **state, "op": "u", "valid_from": cancelled, "valid_to": None}
                    | {"received_at": cancelled + DAY}
                )
    return rows


def _students() -> list[dict[str, Any]]:
    rows = []
    for presentation, starts_on in STARTS.items():
        for student in STUDENTS:
            key = {"presentation_id": presentation, "student_id": student, **PROFILE}
            first, last = instant(starts_on - 20 * DAY), instant(starts_on + LENGTH_DAYS * DAY)
            rows.append(
                {**key, "final_result": None, "op": "c", "valid_from": first, "valid_to": last}
                | {"received_at": first + DAY}
            )
            rows.append(
                {**key, "final_result": "Pass", "op": "u", "valid_from": last, "valid_to": None}
                | {"received_at": last + DAY}
            )
    return rows


def _reopened(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """As history stood: a state is closed by the next one only once that one has arrived."""
    starts = {(r["presentation_id"], r["student_id"], r["valid_from"]) for r in history}
    return [
        row
        if (row["presentation_id"], row["student_id"], row["valid_to"]) in starts
        else {**row, "valid_to": None}
        for row in history
    ]


def _latest(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    latest: dict[tuple[str, int], dict[str, Any]] = {}
    for row in history:
        latest[row["presentation_id"], row["student_id"]] = row | {"event_time": row["valid_from"]}
    return list(latest.values())


def _sessions(until: datetime | None) -> list[dict[str, Any]]:
    """A session a day, of the clicks received by ``until``."""
    days: dict[tuple[str, int, date], list[dict[str, Any]]] = {}
    for row in clicks():
        if until is not None and row["received_at"] > until:
            continue
        key = (row["presentation_id"], row["student_id"], row["event_date"])
        days.setdefault(key, []).append(row)
    return [
        {
            "session_id": f"{presentation}-{student}-{day}",
            "presentation_id": presentation,
            "student_id": student,
            "session_start": instant(day),
            "session_end": instant(day),
            "session_date": day,
            "num_events": len(rows),
            "num_clicks": sum(row["num_clicks"] for row in rows),
            "num_sites": len({row["site_id"] for row in rows}),
            "first_received_at": min(row["received_at"] for row in rows),
            "received_at": max(row["received_at"] for row in rows),
        }
        for (presentation, student, day), rows in days.items()
    ]


def _sites() -> list[dict[str, Any]]:
    return [
        {
            "site_id": site,
            "presentation_id": presentation,
            "activity_type": ACTIVITY_TYPES.get(site, "resource"),
            "week_from": None,
            "week_to": None,
        }
        for presentation, sites in SITES.items()
        for site in sites
    ]


def _assessments() -> list[dict[str, Any]]:
    return [
        {
            "assessment_id": number,
            "presentation_id": "AAA-2013B",
            "assessment_type": "TMA",
            "due_on": STARTS["AAA-2013B"] + due * DAY,
            "weight": 50.0,
        }
        for number, due in [(1, 20), (2, 40)]
    ]


def _submissions() -> list[dict[str, Any]]:
    """Student 1 is early and then late; student 3 misses the second one."""
    rows = []
    for student, assessment, day, score in [(1, 1, 18, 80.0), (1, 2, 42, 60.0), (3, 1, 20, None)]:
        when = instant(STARTS["AAA-2013B"] + day * DAY)
        rows.append(
            {
                "event_id": f"{student}-{assessment}",
                "event_time": when,
                "received_at": when + DAY,
                "presentation_id": "AAA-2013B",
                "student_id": student,
                "assessment_id": assessment,
                "score": score,
                "is_banked": False,
                "event_order": len(rows),
                "event_date": when.date(),
            }
        )
    return rows


def _presentations() -> list[dict[str, Any]]:
    return [
        {
            "presentation_id": presentation,
            "module_id": presentation[:3],
            "term": presentation[4:],
            "starts_on": starts_on,
            "length_days": LENGTH_DAYS,
        }
        for presentation, starts_on in STARTS.items()
    ]
