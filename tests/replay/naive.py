"""The feeds by a naive loop over rows: slow, obvious, and sharing no code with the replay."""

import json
from collections import defaultdict
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

EPOCH = date(1970, 1, 1)
Row = dict[str, Any]
PROFILE = ("gender", "region", "highest_education", "imd_band", "age_band")
PROFILE += ("num_of_prev_attempts", "studied_credits", "disability")


def naive_feeds(folder: Path) -> dict[str, str]:
    """Path below the feeds folder -> text, for a Parquet input."""
    return _Naive(folder).files()


class _Naive:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lines: dict[str, list[str]] = defaultdict(list)
        self.starts: dict[str, date] = {}
        self.courses = sorted(self.read("courses"), key=_id)
        for row in self.courses:
            term = row["code_presentation"]
            self.starts[_id(row)] = date(int(term[:4]), 2 if term[4] == "B" else 10, 1)
        self.first = dict(self.starts)  # day of a presentation's first event

    def read(self, name: str) -> list[Row]:
        rows = pq.ParquetFile(self.folder / f"{name}.parquet").read().to_pylist()
        whole = {name for row in rows for name in row if name not in ("score", "weight")}
        return [
            {k: int(v) if isinstance(v, float) and k in whole else v for k, v in row.items()}
            for row in rows
        ]

    def on(self, presentation: str, day: int | None) -> date | None:
        return None if day is None else self.starts[presentation] + timedelta(days=day)

    def put(self, feed: str, day: date, row: Row) -> None:
        self.lines[f"{feed}/{day}.jsonl"].append(json.dumps(row, separators=(",", ":")) + "\n")

    def seen(self, presentation: str, day: date) -> None:
        self.first[presentation] = min(self.first[presentation], day)

    def files(self) -> dict[str, str]:
        signs = self.clicks() | {}
        for key, day in self.submissions().items():
            signs[key] = min(day, signs.get(key, day))
        self.changes(signs)
        self.snapshots()
        return {path: "".join(lines) for path, lines in self.lines.items()}

    def clicks(self) -> dict[tuple[str, int], date]:
        firsts: dict[tuple[str, int], date] = {}
        for presentation in sorted(self.starts):
            module, term = presentation.split("-")
            path = f"studentVle_ds/code_module={module}/code_presentation={term}/part-0.parquet"
            rows = pq.ParquetFile(self.folder / path).read().to_pylist()
            for order, row in enumerate(rows):
                day = self.on(presentation, int(row["date"]))
                assert day is not None
                student = int(row["id_student"])
                self.seen(presentation, day)
                firsts[presentation, student] = min(day, firsts.get((presentation, student), day))
                event = {
                    "event_id": f"{presentation}-{order:07d}",
                    "event_time": f"{day}T00:00:00Z",
                    "received_at": f"{day + timedelta(days=1)}T00:00:00Z",
                    "presentation_id": presentation,
                    "student_id": student,
                    "site_id": int(row["id_site"]),
                    "num_clicks": int(row["sum_click"]),
                    "event_order": order,
                }
                self.put("clicks", day, event)
        return firsts

    def submissions(self) -> dict[tuple[str, int], date]:
        firsts: dict[tuple[str, int], date] = {}
        owner = {row["id_assessment"]: _id(row) for row in self.read("assessments")}
        orders: dict[str, int] = defaultdict(int)
        events = []
        for row in self.read("studentAssessment"):
            presentation = owner[row["id_assessment"]]
            day = self.on(presentation, row["date_submitted"])
            assert day is not None
            self.seen(presentation, day)
            key = (presentation, row["id_student"])
            firsts[key] = min(day, firsts.get(key, day))
            event = {
                "event_id": f"{presentation}-S{orders[presentation]:07d}",
                "event_time": f"{day}T00:00:00Z",
                "received_at": f"{day + timedelta(days=1)}T00:00:00Z",
                "presentation_id": presentation,
                "student_id": row["id_student"],
                "assessment_id": row["id_assessment"],
                "score": row["score"],
                "is_banked": bool(row["is_banked"]),
                "event_order": orders[presentation],
            }
            orders[presentation] += 1
            events.append((day, presentation, event))
        for day, _, event in sorted(events, key=lambda entry: entry[:2]):
            self.put("submissions", day, event)
        return firsts

    def changes(self, signs: dict[tuple[str, int], date]) -> None:
        log: list[tuple[date, int, int, str, Row | None, Row]] = []
        created: dict[tuple[str, int], date] = {}
        cancelled: dict[tuple[str, int], date] = {}
        for number, row in enumerate(self.read("studentRegistration")):
            presentation, student = _id(row), row["id_student"]
            key = (presentation, student)
            registered = self.on(presentation, row["date_registration"])
            unregistered = self.on(presentation, row["date_unregistration"])
            candidates = [self.starts[presentation], signs.get(key), unregistered]
            born = registered or min(day for day in candidates if day is not None)
            created[key] = born
            self.seen(presentation, born)
            new = {
                "presentation_id": presentation,
                "student_id": student,
                "registered_on": _days(registered),
                "unregistered_on": None,
            }
            log.append((born, 0, number, "registrations", None, new))
            if unregistered is not None:
                cancelled[key] = unregistered
                gone = new | {"unregistered_on": _days(unregistered)}
                log.append((max(born, unregistered), 2, number, "registrations", new, gone))
        lengths = {_id(row): row["module_presentation_length"] for row in self.courses}
        for number, row in enumerate(self.read("studentInfo")):
            presentation, student = _id(row), row["id_student"]
            key = (presentation, student)
            new = {"presentation_id": presentation, "student_id": student}
            new |= {name: row[name] for name in PROFILE} | {"final_result": None}
            log.append((created[key], 1, number, "students", None, new))
            end = self.starts[presentation] + timedelta(days=lengths[presentation])
            end = max(end, created[key], cancelled.get(key, end))
            done = new | {"final_result": row["final_result"]}
            log.append((end, 3, number, "students", new, done))
        for position, entry in enumerate(sorted(log, key=lambda entry: entry[:3])):
            day, _, _, table, before, after = entry
            self.put_change(position, day, table, before, after)

    def put_change(
        self,
        position: int,
        day: date,
        table: str,
        before: Row | None,
        after: Row,
    ) -> None:
        happened_ms = (day - EPOCH).days * 86_400_000
        source = {
            "connector": "postgresql",
            "db": "university",
            "schema": "public",
            "table": table,
            "lsn": 128 * (position + 1),
            "txId": 1000 + position,
            "ts_ms": happened_ms,
            "snapshot": "false",
        }
        op = "c" if before is None else "u"
        envelope = {"before": before, "after": after, "source": source, "op": op}
        self.put(table, day, envelope | {"ts_ms": happened_ms + 86_400_000})

    def snapshots(self) -> None:
        sites, assessments = self.read("vle"), self.read("assessments")
        for day in sorted(set(self.first.values())):
            known = {name for name, first in self.first.items() if first <= day}
            for row in self.courses:
                if _id(row) in known:
                    self.put("presentations", day, self.presentation(row))
            for row in sites:
                if _id(row) in known:
                    renamed = {"site_id": row["id_site"], "presentation_id": _id(row)}
                    names = ("activity_type", "week_from", "week_to")
                    self.put("sites", day, renamed | {name: row[name] for name in names})
            for row in assessments:
                if _id(row) in known:
                    self.put("assessments", day, self.assessment(row))

    def presentation(self, row: Row) -> Row:
        return {
            "presentation_id": _id(row),
            "module_id": row["code_module"],
            "term": row["code_presentation"],
            "starts_on": str(self.starts[_id(row)]),
            "length_days": row["module_presentation_length"],
        }

    def assessment(self, row: Row) -> Row:
        due = self.on(_id(row), row["date"])
        return {
            "assessment_id": row["id_assessment"],
            "presentation_id": _id(row),
            "assessment_type": row["assessment_type"],
            "due_on": None if due is None else str(due),
            "weight": row["weight"],
        }


def _id(row: Row) -> str:
    return f"{row['code_module']}-{row['code_presentation']}"


def _days(day: date | None) -> int | None:
    return None if day is None else (day - EPOCH).days
