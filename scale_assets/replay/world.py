"""A seeded synthetic world with OULAD's tables, of any size, and the truth behind it."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from scale_assets.errors import ScaleError
from scale_assets.replay import world_model as model
from scale_assets.replay import world_simulation as simulation
from scale_assets.replay.files import only_writer
from scale_assets.replay.world_profiles import assessments_of, profiles_of, submissions_of

FORMAT = 1  # raise it when the same spec would give another world
SPEC_NAME = "world.json"
FIRST_STUDENT_ID, FIRST_SITE_ID, FIRST_ASSESSMENT_ID = 10_000, 500_000, 1_000


@dataclass(frozen=True)
class WorldSpec:
    """The size of a world. Equal specs give equal bytes."""

    seed: int = 7
    modules: tuple[str, ...] = ("AAA", "BBB")
    terms: tuple[str, ...] = ("2013B", "2013J", "2014B")
    students_per_presentation: int = 400
    sites_per_presentation: int = 80
    assessments_per_presentation: int = 6
    length_days: int = 240
    undated_share: float = 0.005  # of registrations, whose date is missing

    def __post_init__(self) -> None:
        lowest = {
            "seed": 0,
            "students_per_presentation": 1,
            "sites_per_presentation": 2,
            "assessments_per_presentation": 1,
            "length_days": 28,
        }
        for name, bound in lowest.items():
            if (value := getattr(self, name)) < bound:
                raise ScaleError(f"{name} must be at least {bound}, got {value}")
        if not 0 <= self.undated_share <= 1:
            raise ScaleError(f"undated_share must lie in 0 to 1, got {self.undated_share}")
        for name in ("modules", "terms"):
            if not getattr(self, name):
                raise ScaleError(f"{name} must name at least one, got none")

    def digest(self) -> str:
        """Short name of this world."""
        return hashlib.sha256(self.text().encode()).hexdigest()[:12]

    def text(self) -> str:
        return json.dumps({"format": FORMAT} | asdict(self), sort_keys=True)


def write_world(folder: Path, spec: WorldSpec) -> Path:
    """Generate the world into ``folder`` unless it is there; return the folder.

    Beside OULAD's tables lie truth/hazards.parquet (one row per registration at risk and week: the
    true probability of cancelling that day), truth/tastes.parquet (one row per registration: its
    group of tastes) and truth/sites.parquet (one row per site: its popularity); the laws are in
    ``world_model``.

    Raises:
        ScaleError: The folder holds something else.

    """
    if folder.exists():
        there = folder / SPEC_NAME
        if not there.is_file() or there.read_text() != spec.text():
            raise ScaleError(
                f"{folder} is not the world {spec}; remove it or choose another folder"
            )
        return folder
    with only_writer(folder.parent):
        part = folder.with_name(f".{folder.name}.part")
        (part / "truth").mkdir(parents=True)
        _write_tables(part, spec)
        (part / SPEC_NAME).write_text(spec.text())
        part.rename(folder)
    return folder


def _write_tables(folder: Path, spec: WorldSpec) -> None:
    names = [(module, term) for module in spec.modules for term in spec.terms]
    pool_seed, *seeds = np.random.SeedSequence(spec.seed).spawn(1 + len(names))
    # Ten in eleven students are new to each presentation, so that some take several.
    num_students = spec.students_per_presentation
    pool = FIRST_STUDENT_ID + np.arange(num_students + num_students * len(names) * 10 // 11)
    pools = [np.random.default_rng(seed) for seed in pool_seed.spawn(len(names))]
    tables: dict[str, list[pa.Table]] = {}
    for number, ((module, term), seed) in enumerate(zip(names, seeds, strict=True)):
        students = pools[number].choice(pool, num_students, replace=False)
        made = _presentation(spec, number, students, np.random.default_rng(seed))
        clicks = made.pop("studentVle")
        home = folder / f"studentVle_ds/code_module={module}/code_presentation={term}"
        home.mkdir(parents=True)
        pq.write_table(clicks, home / "part-0.parquet", compression="zstd")
        for name, table in made.items():
            tables.setdefault(name, []).append(_keyed(name, table, module, term))
    for name, parts in tables.items():
        pq.write_table(pa.concat_tables(parts), folder / f"{name}.parquet", compression="zstd")


def _presentation(
    spec: WorldSpec, number: int, student_id: np.ndarray, rng: np.random.Generator
) -> dict[str, pa.Table]:
    """All tables of one presentation; those named truth/... are what models should recover."""
    students = simulation.draw_students(rng, student_id)
    first_site = FIRST_SITE_ID + number * spec.sites_per_presentation
    sites = simulation.draw_sites(
        rng,
        first_site + np.arange(spec.sites_per_presentation),
        num_weeks=spec.length_days // 7,
    )
    history = simulation.simulate(rng, students, sites, length_days=spec.length_days)
    assessments = assessments_of(
        first_id=FIRST_ASSESSMENT_ID + number * (spec.assessments_per_presentation + 1),
        count=spec.assessments_per_presentation,
        length_days=spec.length_days,
    )
    submissions = submissions_of(rng, students, assessments)
    cancelled = students.unregistered_day != simulation.NEVER
    is_undated = rng.random(len(students)) < spec.undated_share
    return {
        "courses": _table(module_presentation_length=np.array([spec.length_days])),
        "vle": _table(
            id_site=sites.site_id,
            activity_type=np.array(model.ACTIVITY_TYPES)[sites.activity_type],
            week_from=sites.week_from,
            week_to=sites.week_to,
        ),
        "assessments": _table(**assessments),
        "studentRegistration": _table(
            id_student=students.student_id,
            date_registration=np.where(is_undated, np.nan, students.registered_day),
            date_unregistration=np.where(cancelled, students.unregistered_day, np.nan),
        ),
        "studentInfo": _table(**profiles_of(rng, students, submissions)),
        "studentAssessment": _table(**submissions),
        "studentVle": _table(**history.clicks),
        "truth/hazards": pa.table(history.hazards),
        "truth/tastes": pa.table(
            {"student_id": students.student_id, "taste_group": students.taste_group}
        ),
        "truth/sites": pa.table({"site_id": sites.site_id, "popularity": sites.popularity}),
    }


def _table(**columns: Any) -> pa.Table:
    """Numbers as doubles, NaN as null: the real files have it so."""
    return pa.table(
        {
            name: pa.array(values, pa.string())
            if values.dtype.kind in "UO"
            else pa.array(values.astype(np.float64), from_pandas=True)
            for name, values in columns.items()
        }
    )


def _keyed(name: str, table: pa.Table, module: str, term: str) -> pa.Table:
    """Say whose rows these are, in the terms of the table."""
    if name == "studentAssessment":
        return table  # its assessments say so
    if name.startswith("truth/"):
        return table.add_column(0, "presentation_id", _repeat(f"{module}-{term}", table))
    keyed = table.add_column(0, "code_presentation", _repeat(term, table))
    return keyed.add_column(0, "code_module", _repeat(module, table))


def _repeat(text: str, table: pa.Table) -> pa.Array:
    return pa.repeat(pa.scalar(text), table.num_rows)
