"""What real data does: missing dates, early cancellations, repeated keys, doubles as identifiers."""

import json
import math
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from scale_assets.replay.feeds import replay
from scale_assets.replay.source import Input, InputError
from scale_assets.replay.tables import load_tables, ranks_within, to_whole

START = date(2013, 2, 1)  # day 0 of AAA-2013B
END = START + timedelta(days=30)
CLICK = {"id_student": 7, "id_site": 900, "date": 3, "sum_click": 2}
EXAM = {"id_assessment": 50, "assessment_type": "TMA", "date": 10, "weight": 100}


def events(folder: Path, feed: str) -> list[tuple[date, dict[str, Any]]]:
    """(day of the file, row) in file order."""
    return [
        (date.fromisoformat(path.stem), json.loads(line))
        for path in sorted((folder / feed).glob("*.jsonl"))
        for line in path.read_text().splitlines()
    ]


def on(day: int) -> date:
    return START + timedelta(days=day)


@pytest.mark.parametrize(
    ("clicked", "submitted", "cancelled", "expected"),
    [
        pytest.param(5, None, None, 0, id="day 0 when all else is later"),
        pytest.param(-8, 4, None, -8, id="the first click"),
        pytest.param(-2, -9, None, -9, id="the first submission"),
        pytest.param(3, None, -20, -20, id="the cancellation"),
    ],
)
def test_a_registration_without_date_appears_at_its_first_sign_of_life(
    one_course: Callable[..., Input],
    tmp_path: Path,
    clicked: int,
    submitted: int | None,
    cancelled: int | None,
    expected: int,
) -> None:
    submissions = [{"id_assessment": 50, "id_student": 7, "is_banked": 0, "score": 60.0}]
    source = one_course(
        clicks=[CLICK | {"date": clicked + 1}, CLICK | {"date": clicked}],
        assessments=[EXAM],
        studentAssessment=[row | {"date_submitted": submitted} for row in submissions]
        if submitted is not None
        else [],
        studentRegistration=[{"id_student": 7, "date_unregistration": cancelled}],
        studentInfo=[{"id_student": 7, "final_result": "Pass"}],
    )
    replay(source, tmp_path / "feeds")

    day, created = events(tmp_path / "feeds", "registrations")[0]
    assert day == on(expected)
    assert created["op"] == "c"
    assert created["after"]["registered_on"] is None
    assert created["after"]["unregistered_on"] is None
    assert events(tmp_path / "feeds", "students")[0][0] == on(expected)


def test_another_students_click_is_no_sign_of_life(
    one_course: Callable[..., Input], tmp_path: Path
) -> None:
    source = one_course(
        clicks=[CLICK | {"id_student": 8, "date": -5}],
        studentRegistration=[{"id_student": 7}, {"id_student": 8, "date_registration": -6}],
    )
    replay(source, tmp_path / "feeds")

    born = {
        row["after"]["student_id"]: day for day, row in events(tmp_path / "feeds", "registrations")
    }
    assert born == {7: on(0), 8: on(-6)}


@pytest.mark.parametrize(
    ("registered", "cancelled", "written"),
    [
        pytest.param(-40, -10, -10, id="before day 0"),
        pytest.param(-10, -10, -10, id="on the day of registration"),
        pytest.param(-10, -40, -10, id="dated before the registration"),
        pytest.param(-10, 90, 90, id="after the presentation's end"),
    ],
)
def test_cancellations_come_after_their_registration_with_their_own_date(
    one_course: Callable[..., Input],
    tmp_path: Path,
    registered: int,
    cancelled: int,
    written: int,
) -> None:
    source = one_course(
        clicks=[CLICK],
        studentRegistration=[
            {"id_student": 7, "date_registration": registered, "date_unregistration": cancelled}
        ],
        studentInfo=[{"id_student": 7, "final_result": "Withdrawn"}],
    )
    replay(source, tmp_path / "feeds")

    (born, created), (gone, change) = events(tmp_path / "feeds", "registrations")
    assert (born, gone) == (on(registered), on(written))
    assert change["source"]["lsn"] > created["source"]["lsn"]
    assert change["before"] == created["after"]
    assert change["after"]["unregistered_on"] == (on(cancelled) - date(1970, 1, 1)).days
    _, (finished, result) = events(tmp_path / "feeds", "students")
    assert finished == max(END, on(written))
    assert result["source"]["lsn"] > change["source"]["lsn"]


def test_repeated_keys_are_all_kept_in_file_order(
    one_course: Callable[..., Input], tmp_path: Path
) -> None:
    source = one_course(
        clicks=[
            CLICK | {"sum_click": 5},
            CLICK | {"date": 1, "sum_click": 9},  # files need not be sorted by day
            CLICK | {"sum_click": 1},
            CLICK | {"sum_click": 5},
        ]
    )
    replay(source, tmp_path / "feeds")

    seen = [
        (day, row["event_order"], row["num_clicks"], row["event_id"])
        for day, row in events(tmp_path / "feeds", "clicks")
    ]
    assert seen == [
        (on(1), 1, 9, "AAA-2013B-0000001"),
        (on(3), 0, 5, "AAA-2013B-0000000"),
        (on(3), 2, 1, "AAA-2013B-0000002"),
        (on(3), 3, 5, "AAA-2013B-0000003"),
    ]


def test_days_without_events_have_no_file(one_course: Callable[..., Input], tmp_path: Path) -> None:
    report = replay(one_course(clicks=[CLICK, CLICK | {"date": 6}]), tmp_path / "feeds")

    names = [path.name for path in sorted((tmp_path / "feeds/clicks").iterdir())]
    assert names == [f"{on(3)}.jsonl", f"{on(6)}.jsonl"]
    assert report.rows["sites"] == 0
    assert not list((tmp_path / "feeds/sites").iterdir())


def test_text_is_escaped_and_nulls_stay_null(
    one_course: Callable[..., Input], tmp_path: Path
) -> None:
    region = 'South "West"\\\n\u00e9\u2028'
    source = one_course(
        clicks=[CLICK],
        studentRegistration=[{"id_student": 7, "date_registration": -1}],
        studentInfo=[{"id_student": 7, "region": region}],
    )
    replay(source, tmp_path / "feeds")

    _, row = events(tmp_path / "feeds", "students")[0]
    assert row["after"]["region"] == region
    assert row["after"]["imd_band"] is None


REGISTERED = {"id_student": 7, "date_registration": -1}


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        pytest.param(
            {"studentRegistration": [{"id_student": 7.5}]}, "id_student, must hold whole", id="half"
        ),
        pytest.param(
            {"studentRegistration": [{"id_student": math.nan}]}, "whole numbers", id="not a number"
        ),
        pytest.param(
            {"vle": [{"activity_type": "url"}]}, "id_site, is missing in row 0", id="null"
        ),
        pytest.param(
            {"assessments": [EXAM | {"weight": math.inf}]}, "weight, has an infinite", id="infinite"
        ),
        pytest.param(
            {"studentRegistration": [REGISTERED, REGISTERED]}, "one row per module", id="twice"
        ),
        pytest.param(
            {"studentInfo": [{"id_student": 7}]}, "student 7 has no registration", id="orphan"
        ),
        pytest.param(
            {"studentAssessment": [{"id_assessment": 1, "id_student": 7, "is_banked": 0}]},
            "date_submitted, is missing in row 0",
            id="submission without day",
        ),
        pytest.param(
            {"vle": [{"id_site": 1, "code_module": "ZZZ"}]},
            "vle has rows of ZZZ-2013B, which courses does not list",
            id="unknown course",
        ),
        pytest.param(
            {
                "studentAssessment": [
                    {"id_assessment": 1, "id_student": 7, "is_banked": 0, "date_submitted": 2}
                ]
            },
            "row 0: id_assessment 1.* is not in",
            id="unknown assessment",
        ),
        pytest.param({"clicks": [CLICK | {"id_site": None}]}, "id_site, has missing", id="click"),
        pytest.param({"clicks": [CLICK | {"date": 0.5}]}, "date, must hold whole", id="part day"),
    ],
)
def test_broken_values_are_refused_by_name(
    one_course: Callable[..., Input], tmp_path: Path, tables: dict[str, Any], message: str
) -> None:
    source = one_course(**({"clicks": [CLICK]} | tables))

    with pytest.raises(InputError, match=message):
        replay(source, tmp_path / "feeds")
    assert not list((tmp_path / "feeds").rglob("*.json*"))


def test_an_unknown_module_is_refused_with_those_there(small_world: Input) -> None:
    with pytest.raises(InputError, match="no module_id QQQ here; there are AAA, BBB"):
        load_tables(small_world, modules=["AAA", "QQQ"])
    with pytest.raises(InputError, match="no presentation is left"):
        load_tables(small_world, modules=[])


def test_doubles_become_int64_exactly() -> None:
    largest = float(2**53 - 1)

    assert to_whole(pa.array([11391.0, None, largest]), name="id").to_pylist() == [
        11391,
        None,
        2**53 - 1,
    ]


def test_ranks_count_earlier_rows_of_the_group() -> None:
    assert ranks_within(np.array([2, 0, 2, 2, 0])).tolist() == [0, 0, 1, 2, 1]
    assert ranks_within(np.array([], np.int64)).tolist() == []
