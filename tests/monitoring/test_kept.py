"""The kept tables: brought up to date by commits, they equal those made anew."""

import shutil
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scale_assets.lake import Lake, MissingTable
from scale_assets.monitoring import kept
from scale_assets.monitoring.drift import Bounds, Limits
from scale_assets.monitoring.kept import Tables, Update, bring_up_to_date
from scale_assets.monitoring.population import Comparison, Slice
from scale_assets.monitoring.watched import MonitoringError, Watched, watched_table
from tests.monitoring.rows import FIRST, WATCHED, comparison, row, table

TABLES = Tables.of("visits")
LIMITS = {"n": Limits(psi=Bounds(warn=0.1, fail=0.25), null_share=Bounds(warn=0.05, fail=0.2))}
FEW = comparison(min_entities=1)


def update(
    lake: Lake,
    declared: Comparison = FEW,
    watched: Watched = WATCHED,
    limits: dict[str, Limits] = LIMITS,
) -> Update:
    return bring_up_to_date(lake, watched, declared, limits, TABLES)


def contents(lake: Lake) -> list[list[dict[str, Any]]]:
    return [lake.read(name).to_pylist() for name in (TABLES.statistics, TABLES.drift)]


def made_anew(lake: Lake, declared: Comparison = FEW, watched: Watched = WATCHED) -> Lake:
    """The same source with nothing kept yet."""
    other = Path(f"{lake.root}-anew")
    shutil.rmtree(other, ignore_errors=True)
    shutil.copytree(lake.root, other)
    shutil.rmtree(other / "monitoring")
    update(Lake(other), declared, watched)
    return Lake(other)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


cells = st.tuples(
    st.integers(0, 4), st.integers(0, 27), st.integers(0, 3), st.sampled_from(["a", "b", None])
)
snapshots = st.lists(st.lists(cells, max_size=25), min_size=2, max_size=4)


@settings(deadline=None, max_examples=25)
@given(snapshots, st.booleans())
def test_step_by_step_equals_at_once(
    tmp_path_factory: pytest.TempPathFactory,
    versions: list[list[tuple[int, int, int, str | None]]],
    is_partitioned: bool,
) -> None:
    """Rows come late, change, move and go; the reference too, which its bounds may or may not hold."""
    lake = Lake(tmp_path_factory.mktemp("steps") / "lake")
    for cells_now in versions:
        rows = table([row(user, day, n=float(n), c=c) for user, day, n, c in cells_now])
        days = pa.array([str(at.date()) for at in rows["at"].to_pylist()], pa.string())
        data = rows.append_column("day", days)
        if is_partitioned:
            lake.overwrite("visits", data, partition_by=["day"])
        else:
            lake.overwrite("visits", data)
        update(lake)

    assert contents(lake) == contents(made_anew(lake))


def test_a_late_row_changes_its_date_and_window_alone(lake: Lake) -> None:
    rows = [row(user, day, n=1.0) for user in range(3) for day in range(28)]
    lake.overwrite("visits", table(rows))
    assert update(lake) == Update(
        delta_version=1, previous_version=None, num_dates=28, num_windows=3, is_full=True
    )

    lake.append_once("visits", table([row("late", 17, n=5.0)]), positions={"late": 1})
    done = update(lake)

    assert (done.num_dates, done.is_full, done.previous_version) == (1, False, 1)
    assert contents(lake) == contents(made_anew(lake))
    (got,) = [
        each
        for each in contents(lake)[0]
        if (each["feature"], each["feature_date"]) == ("n", FIRST + timedelta(days=17))
    ]
    assert got["num_rows"] == 4


def test_a_late_row_of_the_reference_moves_every_window(lake: Lake) -> None:
    lake.overwrite("visits", table([row(u, day, n=1.0) for u in range(3) for day in range(28)]))
    update(lake)

    lake.append_once("visits", table([row("late", 2, n=5.0)]), positions={"late": 1})
    done = update(lake)

    assert (done.num_dates, done.num_windows) == (1, 3)
    assert contents(lake) == contents(made_anew(lake))


def test_a_date_that_lost_its_rows_is_gone(lake: Lake) -> None:
    rows = [row(user, day, n=1.0) for user in range(3) for day in (1, 9, 16)]
    lake.overwrite("visits", table(rows))
    update(lake)
    lake.overwrite("visits", table([each for each in rows if each["at"].day != 22]))

    update(lake)

    assert FIRST + timedelta(days=16) not in {each["feature_date"] for each in contents(lake)[0]}
    assert contents(lake) == contents(made_anew(lake))


def test_an_unchanged_table_is_not_read_and_nothing_written(lake: Lake) -> None:
    lake.overwrite("visits", table([row(1, 1, n=1.0)]))
    update(lake)
    before = lake.version(TABLES.statistics), lake.version(TABLES.drift)

    done = update(lake)

    assert (done.num_dates, done.is_full) == (0, False)
    assert (lake.version(TABLES.statistics), lake.version(TABLES.drift)) == before


def test_rows_rewritten_as_they_were_are_no_change(lake: Lake) -> None:
    rows = table([row(user, day, n=1.0) for user in range(3) for day in range(9)])
    lake.overwrite("visits", rows)
    update(lake)
    lake.overwrite("visits", rows)

    done = update(lake)

    assert (done.num_dates, done.num_windows, done.delta_version) == (0, 0, 2)
    assert lake.last_metadata(TABLES.statistics)["source/visits"]["source_version"] == 2


@pytest.mark.parametrize("what", ["reference", "limits", "features", "table made anew"])
def test_numbers_of_another_declaration_are_not_kept(lake: Lake, what: str) -> None:
    rows = table([row(user, day, n=1.0) for user in range(3) for day in range(15)])
    lake.overwrite("visits", rows)
    update(lake)

    if what == "reference":
        done = update(lake, replace(FEW, reference=Slice(end=FIRST + timedelta(days=3))))
    elif what == "limits":
        done = update(lake, limits={})
    elif what == "features":
        done = update(lake, watched=replace(WATCHED, features=WATCHED.features[:2]))
        assert set(lake.read(TABLES.statistics)["feature"].to_pylist()) == {"n", "c"}
    else:
        shutil.rmtree(Path(lake.root) / "visits")
        lake.overwrite("visits", rows)
        done = update(lake)

    assert (done.is_full, done.num_dates) == (True, 15)


def test_what_a_killed_run_left_is_finished(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    lake.overwrite("visits", table([row(u, day, n=1.0) for u in range(3) for day in range(15)]))
    update(lake)
    lake.append_once("visits", table([row("late", 9, n=5.0)]), positions={"late": 1})
    with monkeypatch.context() as broken:
        broken.setattr(kept, "statistics", _killed)
        with pytest.raises(RuntimeError, match="killed"):
            update(lake)

    assert update(lake).num_dates == 1
    assert contents(lake) == contents(made_anew(lake))


def _killed(*_: object, **__: object) -> None:
    raise RuntimeError("killed")


def test_views_share_the_tables_and_leave_each_other_alone(lake: Lake) -> None:
    lake.overwrite("visits", table([row(user, 1, n=1.0) for user in range(3)]))
    update(lake)
    update(lake, watched=replace(WATCHED, name="others"))
    lake.append_once("visits", table([row("late", 1, n=5.0)]), positions={"late": 1})

    update(lake)

    numbers = {
        (each["view"], each["feature"]): each["num_rows"]
        for each in lake.read(TABLES.statistics).to_pylist()
    }
    assert (numbers["visits", "n"], numbers["others", "n"]) == (4, 3)


def test_an_alignment_that_the_table_lacks_is_left_out(lake: Lake) -> None:
    rows = table([row(user, day, n=1.0) for user in range(3) for day in range(9)])
    lake.overwrite("visits", rows.drop_columns(["phase"]))

    update(lake, comparison(aligned=True, min_entities=1))

    assert {each["num_entities"] for each in contents(lake)[1]} == {3}


def test_a_condition_that_does_not_fit_is_named(lake: Lake) -> None:
    lake.overwrite("visits", table([row(1, 1, n=1.0)]))

    with pytest.raises(MonitoringError, match=r"visits.*cohrt"):
        update(lake, replace(FEW, reference=Slice(where="cohrt = 1")))


def test_a_table_that_is_not_there_yet_is_named(lake: Lake) -> None:
    with pytest.raises(MissingTable, match="visits"):
        update(lake)


def test_a_tables_features_are_its_columns(lake: Lake) -> None:
    lake.overwrite("visits", table([row(1, 1, n=1.0)]))

    watched = watched_table("visits", lake.schema("visits"), entity=("user_id",), time="at")

    kinds = {feature.name: str(feature.kind) for feature in watched.features}
    assert kinds == {
        "known_at": "age", "phase": "number", "n": "number", "c": "category", "l": "length", "t": "age",
    }  # fmt: skip
    with pytest.raises(MonitoringError, match="'when'"):
        watched_table("visits", lake.schema("visits"), entity=("user_id",), time="when")
