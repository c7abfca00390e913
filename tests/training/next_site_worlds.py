"""Dataset folders for the next_site tests: a made-up course, and OULAD's own sequences."""

import json
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

TYPES = ("homepage", "forumng", "oucontent", "quiz")


@dataclass(frozen=True)
class Visit:
    """One distinct site-day of one registration."""

    presentation_id: str
    student_id: int
    site_id: int
    day: int

    @property
    def registration_id(self) -> str:
        return f"{self.presentation_id}-{self.student_id}"


def made_up_visits(
    *, num_students: int = 40, num_sites: int = 30, num_days: int = 60, seed: int = 0
) -> list[Visit]:
    """Two courses whose students open the home page (the first site) and move on site by site."""
    random = np.random.default_rng(seed)
    visits = []
    for presentation, first_site in (("AAA-2013J", 500), ("BBB-2014B", 9000)):
        for student in range(1, num_students + 1):
            for day in np.flatnonzero(random.random(num_days) < 0.3):
                reached = int(day * num_sites / num_days)
                near = np.clip(reached + random.integers(-2, 3, size=3), 1, num_sites - 1)
                sites = sorted({0, *map(int, near)})
                random.shuffle(sites)
                visits += [
                    Visit(presentation, student, first_site + site, int(day)) for site in sites
                ]
    return visits


def write_dataset(
    folder: Path,
    visits: list[Visit],
    *,
    num_sites: int = 30,
    tune_cut_day: int = 40,
    test_cut_day: int = 50,
) -> Path:
    """The dataset folder of `visits`; the order within a day is the order of the list."""
    folder.mkdir(parents=True, exist_ok=True)
    histories: dict[str, list[Visit]] = {}
    for visit in sorted(visits, key=lambda visit: visit.day):
        histories.setdefault(visit.registration_id, []).append(visit)
    sequences = [
        {
            "registration_id": registration_id,
            "presentation_id": entries[0].presentation_id,
            "site_ids": [entry.site_id for entry in entries],
            "days": [entry.day for entry in entries],
        }
        for registration_id, entries in histories.items()
    ]
    first_sites = {"AAA-2013J": 500, "BBB-2014B": 9000}
    sites = [
        {
            "site_id": first + offset,
            "presentation_id": presentation,
            "activity_type": TYPES[offset % len(TYPES)] if offset else "homepage",
            "week_from": offset // 4 if offset % 3 == 0 else None,
            "week_to": offset // 4 + 1 if offset % 3 == 0 else None,
        }
        for presentation, first in first_sites.items()
        for offset in range(num_sites)
    ]
    list_of_int64 = pa.list_(pa.int64())
    sequence_schema = pa.schema(
        [
            ("registration_id", pa.string()),
            ("presentation_id", pa.string()),
            ("site_ids", list_of_int64),
            ("days", list_of_int64),
        ]
    )
    pq.write_table(pa.Table.from_pylist(sequences, sequence_schema), folder / "sequences.parquet")
    pq.write_table(pa.Table.from_pylist(sites), folder / "sites.parquet")
    write_manifest(folder, tune_cut_day=tune_cut_day, test_cut_day=test_cut_day)
    return folder


def write_manifest(folder: Path, *, tune_cut_day: int, test_cut_day: int) -> None:
    manifest = {
        "name": "next_site",
        "kind": "sequence",
        "feature_service": "next_site_v1",
        "entity": "registration_id",
        "evaluation": {"tune_cut_day": tune_cut_day, "test_cut_day": test_cut_day},
    }
    (folder / "dataset.json").write_text(json.dumps(manifest))


def write_oulad_dataset(folder: Path, oulad: Path, *, modules: tuple[str, ...] = ()) -> Path:
    """The dataset folder straight from the published files, without the pipeline."""
    folder.mkdir(parents=True, exist_ok=True)
    chosen = f"where code_module in {modules!r}" if modules else ""
    connection = duckdb.connect()
    connection.execute(f"""
        copy (
            with visits as (
                select code_module || '-' || code_presentation as presentation_id,
                    id_student::bigint as student_id, id_site::bigint as site_id,
                    "date"::bigint as visit_day, min(file_row_number) as place
                from read_parquet('{oulad}/studentVle_ds/**/*.parquet',
                    hive_partitioning = true, file_row_number = true)
                {chosen} group by all
            )
            select presentation_id || '-' || student_id as registration_id, presentation_id,
                list(site_id order by visit_day, place) as site_ids,
                list(visit_day order by visit_day, place) as "days"
            from visits group by all
        ) to '{folder}/sequences.parquet' (format parquet)""")
    connection.execute(f"""
        copy (
            select id_site::bigint as site_id,
                code_module || '-' || code_presentation as presentation_id, activity_type,
                week_from::bigint as week_from, week_to::bigint as week_to
            from '{oulad}/vle.parquet' {chosen}
        ) to '{folder}/sites.parquet' (format parquet)""")
    write_manifest(folder, tune_cut_day=106, test_cut_day=120)
    return folder
