"""Faults planted on the way from the lake into the graph: each is found, and its features named."""

from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc
import pytest

import serving.predict
from scale_assets.features.skew.report import SkewReport
from scale_assets.features.stores import Clock, open_backend
from serving.features import Lookup
from tests.features.skew.world import (
    ACTIVITY,
    CATALOGUE,
    HISTORY,
    HOUR,
    NEXT_SITE,
    TIME,
    USERS,
    VISITS,
    World,
    activity,
    history,
    write_churn,
)


def verdicts(report: SkewReport) -> dict[str, dict[str, int]]:
    """The features that disagree, and in how many vectors of which verdict."""
    return {
        each.name: {
            verdict: number
            for verdict in ("different", "missing", "extra")
            if (number := getattr(each, verdict))
        }
        for each in report.over(0)
    }


def test_what_is_served_as_it_should_be_agrees_everywhere(world: World) -> None:
    world.serve()
    world.serve(model="next_site")

    report = world.compare()

    assert verdicts(report) == {}
    assert report.num_vectors == 30
    assert {each.name: each.num_compared for each in report.features} == dict.fromkeys(
        [
            *("activity.clicks_7d", "activity.clicks_28d", "activity.seconds", "activity.score"),
            *("activity.is_member", "activity.plan", "activity.feature_time"),
            *("visits.visits_1d", "visits.feature_time"),
        ],
        30,
    )
    assert (verdicts(world.compare(NEXT_SITE)), world.compare(NEXT_SITE).num_vectors) == ({}, 30)


def test_of_somebody_unknown_there_is_nothing_on_either_side(world: World) -> None:
    world.serve(["nobody"])

    report = world.compare()

    assert verdicts(report) == {}


def test_features_that_are_too_old_are_none_on_both_sides(world: World) -> None:
    world.load(CATALOGUE, day=30)  # time goes on, and nothing else comes
    world.serve()

    report = world.compare()

    assert verdicts(report) == {}


def test_a_swapped_pair_of_columns_in_the_online_store(world: World) -> None:
    swapped = {"clicks_7d": "clicks_28d", "clicks_28d": "clicks_7d"}
    rows = activity(2)
    world.load_as(
        rows.rename_columns([swapped.get(name, name) for name in rows.column_names]),
        ACTIVITY,
        day=2,
    )
    world.serve()

    assert verdicts(world.compare()) == {
        "activity.clicks_7d": {"different": 30},
        "activity.clicks_28d": {"different": 30},
    }


def test_a_swapped_pair_of_columns_in_the_release(world: World) -> None:
    write_churn(
        world.root / "releases",
        version="2",
        features=("clicks_28d", "clicks_7d", "seconds", "score", "is_member", "visits_1d"),
    )
    world.serve()

    assert verdicts(world.compare()) == {
        "activity.clicks_7d": {"different": 30},
        "activity.clicks_28d": {"different": 30},
    }


def test_a_stale_view(world: World) -> None:
    world.live(3)
    world.load(HISTORY, VISITS, day=3)  # and not the activity
    world.serve()

    report = world.compare()

    found = verdicts(report)
    assert found.pop("activity.is_member").keys() == {"different"}  # of those that changed
    assert found == {
        f"activity.{name}": {"different": number}
        for name, number in {
            **dict.fromkeys(["clicks_7d", "clicks_28d", "seconds", "feature_time"], 30),
            "score": 20,  # the others have none on either day
        }.items()
    }


def test_a_stale_stream(world: World) -> None:
    world.live(3)
    world.load(ACTIVITY, HISTORY, day=3)  # and not the visits
    world.serve()

    assert verdicts(world.compare()) == {
        "visits.visits_1d": {"different": 15},
        "visits.feature_time": {"different": 15},
    }


def test_an_entity_that_the_online_store_has_lost(world: World) -> None:
    with open_backend(world.root / "online.db") as backend:
        backend.forget("activity", USERS[1:2])
    world.serve()

    assert set(verdicts(world.compare())) == {
        f"activity.{name}"
        for name in ("clicks_7d", "clicks_28d", "seconds", "score", "is_member", "plan")
    } | {"activity.feature_time"}
    assert verdicts(world.compare())["activity.plan"] == {"missing": 1}


def test_a_unit_change(world: World) -> None:
    rows = activity(2)
    at = rows.column_names.index("seconds")
    world.load_as(
        rows.set_column(at, "seconds", pc.multiply(rows["seconds"], 1000)), ACTIVITY, day=2
    )
    world.serve()

    assert verdicts(world.compare()) == {"activity.seconds": {"different": 30}}


@pytest.mark.parametrize("hours", [1, -5])
def test_a_time_zone_shift(world: World, hours: int) -> None:
    rows = activity(2)
    shifted = pc.add(rows["feature_time"].cast(pa.int64()), hours * 3_600_000_000).cast(TIME)
    at = rows.column_names.index("feature_time")
    world.load_as(rows.set_column(at, "feature_time", shifted), ACTIVITY, day=2)
    world.serve()

    assert verdicts(world.compare()) == {"activity.feature_time": {"different": 30}}


def test_a_default_served_as_a_value(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = Lookup.value

    def imputed(found: Lookup, view: str, feature: str) -> object:
        value = honest(found, view, feature)
        return 0.0 if value is None and feature == "score" else value

    monkeypatch.setattr(serving.predict.Lookup, "value", imputed)
    world.serve()

    assert verdicts(world.compare()) == {"activity.score": {"extra": 10}}


def test_a_history_that_was_cut_short(world: World) -> None:
    rows = history(2)
    cut = pa.array([ids[-3:] for ids in rows["site_ids"].to_pylist()], pa.list_(pa.int64()))
    world.load_as(rows.set_column(4, "site_ids", cut), HISTORY, day=2)
    world.serve(model="next_site")

    assert verdicts(world.compare(NEXT_SITE)) == {
        "registration_history.site_ids": {"different": 18}
    }


def test_a_history_that_is_not_online(world: World) -> None:
    with open_backend(world.root / "online.db") as backend:
        backend.forget("registration_history", USERS)
    world.serve(model="next_site")  # answers by popularity

    assert verdicts(world.compare(NEXT_SITE)) == {
        "registration_history.site_ids": {"missing": 30},
        "registration_history.feature_time": {"missing": 30},
    }


def test_a_history_that_was_not_online_is_found_when_the_table_has_moved_on(world: World) -> None:
    with open_backend(world.root / "online.db") as backend:
        backend.forget("registration_history", USERS)
    world.serve(model="next_site")
    for day in (3, 4):
        world.live(day)
        world.load(HISTORY, day=day)
    world.serve(model="next_site")

    assert verdicts(world.compare(NEXT_SITE)) == {
        "registration_history.site_ids": {"missing": 30},
        "registration_history.feature_time": {"missing": 30},
    }


@pytest.mark.parametrize(
    ("clock", "found"), [("data", {}), ("wall", {"different": 30})], ids=["replayed", "live"]
)
def test_a_row_that_describes_a_later_instant(
    world: World, clock: Clock, found: dict[str, int]
) -> None:
    """A replayed world's clock may stand behind its tables; a wall's may not."""
    today = datetime.now(UTC)
    for at in (today - HOUR, today + 24 * HOUR):
        times = {name: pa.array([at] * len(USERS), TIME) for name in ("feature_time", "known_at")}
        times["known_at"] = pa.array([today - HOUR] * len(USERS), TIME)
        rows = activity(at.day)
        for name, column in times.items():
            rows = rows.set_column(rows.column_names.index(name), name, column)
        world.lake.append_once("activity", rows, positions={"day": at.toordinal()})
    world.load(ACTIVITY, day=2)
    world.serve(clock=clock)

    assert verdicts(world.compare()).get("activity.clicks_7d", {}) == found


def test_a_row_from_the_future(world: World) -> None:
    """Online before the lake says that it was known: training would not have seen it."""
    rows = activity(3)
    at = rows.column_names.index("known_at")
    late = pc.add(rows["known_at"].cast(pa.int64()), 3 * 86_400_000_000).cast(TIME)
    world.lake.append_once("activity", rows.set_column(at, "known_at", late), positions={"day": 3})
    world.load_as(rows, ACTIVITY, day=3)
    world.serve()

    assert verdicts(world.compare())["activity.clicks_7d"] == {"different": 30}
