"""The cut: who is an example, what is relevant, and what popularity may know."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.training.next_site_worlds import Visit, made_up_visits, write_dataset
from training.dataset import open_dataset
from training.errors import TrainingError
from training.next_site_data import POPULARITY_COLUMNS, cut_day, load_presentations
from training.next_site_inputs import graph_inputs, opened_sites, relevant_sites

CUT = 40


@pytest.fixture(scope="module")
def visits() -> list[Visit]:
    return made_up_visits()


@pytest.fixture(scope="module")
def dataset(visits: list[Visit], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("next_site"), visits)


def naive_targets(visits: list[Visit], *, cut: int, before: int) -> dict[str, set[int]]:
    targets = {}
    for registration in {visit.registration_id for visit in visits}:
        mine = [visit for visit in visits if visit.registration_id == registration]
        later = [visit.day for visit in mine if visit.day >= cut]
        if any(visit.day < cut for visit in mine) and later and min(later) < before:
            targets[registration] = {v.site_id for v in mine if v.day == min(later)}
    return targets


@pytest.mark.parametrize("before", [CUT + 1, CUT + 3, 10_000])
def test_examples_and_relevant_sites_equal_a_naive_loop(
    visits: list[Visit], dataset: Path, before: int
) -> None:
    found = {}
    for presentation in load_presentations(dataset):
        examples = presentation.examples(day=CUT, target_before=before)
        relevant_NC = relevant_sites(presentation, examples)
        for row, registration in enumerate(examples.registration_N):
            sites = set(presentation.site_ids_C[relevant_NC[row]].tolist())
            found[presentation.registration_ids[registration]] = sites
    expected = naive_targets(visits, cut=CUT, before=before)
    assert found == expected
    assert len(expected) > 5


def test_opened_sites_are_all_of_the_history(visits: list[Visit], dataset: Path) -> None:
    for presentation in load_presentations(dataset):
        examples = presentation.examples(day=CUT)
        opened_NC = opened_sites(presentation, examples)
        for row, registration in enumerate(examples.registration_N):
            name = presentation.registration_ids[registration]
            expected = {v.site_id for v in visits if v.registration_id == name and v.day < CUT}
            assert set(presentation.site_ids_C[opened_NC[row]].tolist()) == expected


@pytest.mark.parametrize("day", [0, 1, 13, CUT])
def test_popularity_equals_a_naive_loop(visits: list[Visit], dataset: Path, day: int) -> None:
    windows = {f"students_{n}d": n for n in (1, 3, 7, 14, 28)} | {"students_total": 10_000}
    for presentation in load_presentations(dataset):
        state = presentation.site_state(day)
        assert set(state.students_C) == set(POPULARITY_COLUMNS)
        for place, site in enumerate(presentation.site_ids_C):
            days = [(v.student_id, v.day) for v in visits if v.site_id == site and v.day < day]
            for column, window in windows.items():
                students = {student for student, on in days if on >= day - window}
                assert state.students_C[column][place] == len(students)
            first_days: dict[int, int] = {}
            for student, on in days:
                first_days[student] = min(on, first_days.get(student, on))
            new = sum(on >= day - 7 for on in first_days.values())
            assert state.students_C["new_students_7d"][place] == new
            first = min(first_days.values(), default=-999)
            assert state.first_opened_day_C[place] == first


def test_nothing_at_or_after_the_cut_reaches_an_input(visits: list[Visit], tmp_path: Path) -> None:
    """Same registrations and candidates, another future: the inputs are equal, bit for bit."""
    other = [v for v in visits if v.day < CUT] + [
        Visit(v.presentation_id, v.student_id, v.site_id - v.site_id % 500 + 7, v.day)
        for v in visits
        if v.day >= CUT
    ]
    inputs = []
    for name, world in (("told", visits), ("changed", list(dict.fromkeys(other)))):
        presentations = load_presentations(write_dataset(tmp_path / name, world))
        inputs.append(
            [graph_inputs(p, p.site_state(CUT), p.examples(day=CUT)) for p in presentations]
        )
    for told, changed in zip(*inputs, strict=True):
        for name, values in told.items():
            np.testing.assert_array_equal(values, changed[name], err_msg=name)


def test_a_site_missing_from_the_catalogue_is_named(visits: list[Visit], tmp_path: Path) -> None:
    folder = write_dataset(tmp_path, visits, num_sites=20)
    with pytest.raises(
        TrainingError, match=r"AAA-2013J: site 5\d\d was opened but is not in sites"
    ):
        load_presentations(folder)


def test_a_presentation_without_catalogue_is_named(visits: list[Visit], tmp_path: Path) -> None:
    folder = write_dataset(tmp_path, [*visits, Visit("CCC-2014B", 1, 77, 3)])
    with pytest.raises(TrainingError, match="no site of presentation 'CCC-2014B'"):
        load_presentations(folder)


def test_cut_days_come_from_the_dataset(dataset: Path, tmp_path: Path) -> None:
    assert cut_day(open_dataset(dataset), "tune") == 40
    assert cut_day(open_dataset(dataset), "test") == 50
    (tmp_path / "dataset.json").write_text(json.dumps({"kind": "sequence"}))
    with pytest.raises(TrainingError, match="has no 'test_cut_day'"):
        cut_day(open_dataset(tmp_path), "test")
