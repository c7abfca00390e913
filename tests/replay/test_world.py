"""The synthetic world obeys its laws: what was put in can be found again in its tables."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from scale_assets.errors import ScaleError
from scale_assets.replay import world_model as model
from scale_assets.replay.source import Input, open_input
from scale_assets.replay.world import WorldSpec, write_world
from tests.replay.conftest import SMALL

LENGTH = 120
SPEC = WorldSpec(
    seed=3,
    modules=("AAA",),
    terms=("2013B",),
    students_per_presentation=2500,
    sites_per_presentation=40,
    assessments_per_presentation=2,
    length_days=LENGTH,
)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Input:
    folder = write_world(tmp_path_factory.mktemp("world") / "one", SPEC)
    return open_input(folder, reason="test")


def column(table: pa.Table, name: str) -> np.ndarray:
    return table[name].to_numpy(zero_copy_only=False)


def person_days(world: Input) -> tuple[np.ndarray, np.ndarray]:
    """States and cancellations of every registration at risk on every day, from the tables."""
    registrations = pq.ParquetFile(world.table_path("studentRegistration")).read()
    registrations = registrations.filter(pc.is_valid(registrations["date_registration"]))
    registrations = registrations.sort_by("id_student")
    info = pq.ParquetFile(world.table_path("studentInfo")).read()
    students = column(registrations, "id_student")
    attempts = dict(
        zip(column(info, "id_student"), column(info, "num_of_prev_attempts"), strict=True)
    )
    earlier = np.array([attempts[student] for student in students])
    registered = column(registrations, "date_registration")
    left = np.nan_to_num(column(registrations, "date_unregistration"), nan=np.inf)
    clicks = pq.ParquetFile(world.click_files()[0]).read()
    clicks = clicks.filter(pc.is_in(clicks["id_student"], pa.array(students)))
    active = np.zeros((len(students), LENGTH - model.OPENING_DAY), bool)
    rows = np.searchsorted(students, column(clicks, "id_student"))
    active[rows, column(clicks, "date").astype(int) - model.OPENING_DAY] = True
    states, cancels = [], []
    last_active = registered.copy()
    for day in range(model.OPENING_DAY, LENGTH):
        at = day - model.OPENING_DAY
        if day >= 0:
            at_risk = (registered < day) & (left >= day)
            silent = np.minimum(day - last_active, model.MAX_SILENT_DAYS)[at_risk]
            recent = active[at_risk, at - 7 : at].sum(axis=1)
            ones = np.ones(at_risk.sum())
            states.append(np.column_stack([ones, np.log1p(silent), recent, earlier[at_risk]]))
            cancels.append((left == day)[at_risk])
        last_active[active[:, at]] = day
    return np.concatenate(states), np.concatenate(cancels)


def test_logistic_regression_recovers_the_hazard(world: Input) -> None:
    states, cancelled = person_days(world)
    weights = np.array([-6.0, 0.0, 0.0, 0.0])
    for _ in range(30):  # Newton's method
        chance = model.sigmoid(states @ weights)
        information = states.T @ (states * (chance * (1 - chance))[:, None])
        weights += np.linalg.solve(information, states.T @ (cancelled - chance))
    errors = np.sqrt(np.diag(np.linalg.inv(information)))

    assert cancelled.sum() > 150
    truth = np.array(list(model.HAZARD.values()))
    assert np.all(np.abs(weights - truth) < 4 * errors)
    assert np.all(np.abs(truth[1:3]) > 3 * errors[1:3])  # sharp enough to say something


def test_recorded_hazards_are_calibrated(world: Input) -> None:
    hazards = pq.ParquetFile(world.folder / "truth/hazards.parquet").read()
    registrations = pq.ParquetFile(world.table_path("studentRegistration")).read()
    left = np.nan_to_num(column(registrations, "date_unregistration"), nan=-999)
    weekly = (left >= 0) & (left % 7 == 0)

    assert set(column(hazards, "presentation_day")) == set(range(0, LENGTH, 7))
    expected = pc.sum(hazards["hazard"]).as_py()
    assert abs(weekly.sum() - expected) < 4 * np.sqrt(expected)


def test_visits_follow_the_tastes(world: Input) -> None:
    clicks = pq.ParquetFile(world.click_files()[0]).read()
    tastes = pq.ParquetFile(world.folder / "truth/tastes.parquet").read()
    sites = pq.ParquetFile(world.table_path("vle")).read()
    popularity = pq.ParquetFile(world.folder / "truth/sites.parquet").read()
    assert column(popularity, "site_id").tolist() == column(sites, "id_site").tolist()
    group_of = dict(zip(column(tastes, "student_id"), column(tastes, "taste_group"), strict=True))
    groups = np.array([group_of[student] for student in column(clicks, "id_student")])
    opened = np.searchsorted(column(sites, "id_site"), column(clicks, "id_site"))
    days = column(clicks, "date").astype(int)
    kinds = np.array([model.ACTIVITY_TYPES.index(kind) for kind in column(sites, "activity_type")])
    for group in range(len(model.TASTES)):
        mine = groups == group
        expected = np.zeros(sites.num_rows)
        for day, visits in zip(*np.unique(days[mine], return_counts=True), strict=True):
            expected += visits * model.site_weights(
                group=group,
                presentation_day=day,
                popularity=column(popularity, "popularity"),
                activity_type=kinds,
                week_from=column(sites, "week_from"),
                week_to=column(sites, "week_to"),
            )
        seen = np.bincount(opened[mine], minlength=sites.num_rows)
        often = expected > 5
        chi_squared = ((seen - expected)[often] ** 2 / expected[often]).mean()
        assert often.sum() > 20
        assert chi_squared < 2  # 1 where the law holds, hundreds for another group's law


def test_the_traps_of_the_real_data_are_there(world: Input) -> None:
    registrations = pq.ParquetFile(world.table_path("studentRegistration")).read()
    clicks = pq.ParquetFile(world.click_files()[0]).read()

    assert registrations["date_registration"].null_count > 0
    assert pc.sum(pc.less(registrations["date_unregistration"], 0)).as_py() > 50
    keys = clicks.group_by(["id_student", "id_site", "date"]).aggregate([])
    assert keys.num_rows < clicks.num_rows
    assert {str(kind) for kind in clicks.schema.types} == {"double"}


def test_the_seed_makes_the_world(tmp_path: Path, small_world: Input) -> None:
    again = open_input(write_world(tmp_path / "again", SMALL), reason="test")
    spec = WorldSpec(**(vars(SMALL) | {"seed": SMALL.seed + 1}))
    other = open_input(write_world(tmp_path / "other", spec), reason="test")

    assert again.fingerprint() == small_world.fingerprint()
    assert other.fingerprint() != small_world.fingerprint()


def test_a_killed_generation_leaves_nothing_behind(tmp_path: Path, small_world: Input) -> None:
    (tmp_path / ".w.part/truth").mkdir(parents=True)
    (tmp_path / ".w.part/courses.parquet").write_text("half")

    made = open_input(write_world(tmp_path / "w", SMALL), reason="test")

    assert made.fingerprint() == small_world.fingerprint()
    assert not (tmp_path / ".w.part").exists()
    assert write_world(tmp_path / "w", SMALL) == tmp_path / "w"  # there already


def test_a_folder_with_something_else_is_kept(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()

    with pytest.raises(ScaleError, match="mine is not the world"):
        write_world(tmp_path / "mine", SMALL)
    assert not list((tmp_path / "mine").iterdir())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"students_per_presentation": 0}, "students_per_presentation must be at least 1, got 0"),
        ({"length_days": 27}, "length_days must be at least 28, got 27"),
        ({"undated_share": 1.5}, "undated_share must lie in 0 to 1, got 1.5"),
        ({"modules": ()}, "modules must name at least one"),
    ],
)
def test_impossible_sizes_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ScaleError, match=message):
        WorldSpec(**change)
