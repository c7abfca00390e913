"""What a comparison reads of the log, and what its report says."""

import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from scale_assets.erasure.delta import purge
from scale_assets.features.skew import lines
from scale_assets.features.skew.report import FeatureSkew, SkewReport
from tests.features.skew.world import (
    ACTIVITY,
    CHURN,
    DAY,
    HISTORY,
    NEXT_SITE,
    OWNERS,
    USERS,
    World,
    activity,
    history,
    write_churn,
)


def log_file(world: World) -> Path:
    (path,) = world.vectors.iterdir()
    return path


def named(report: SkewReport, name: str) -> FeatureSkew:
    (found,) = [each for each in report.features if each.name == name]
    return found


def test_without_a_log_there_is_nothing_to_compare(world: World) -> None:
    assert world.compare() == SkewReport()


def test_a_torn_line_is_counted_and_the_others_are_read(world: World) -> None:
    world.serve(USERS[:3])
    whole = log_file(world).read_bytes()
    log_file(world).write_bytes(whole[:-40])

    report = world.compare()

    assert (report.num_vectors, report.num_torn_lines) == (2, 1)
    assert report.over(0) == []


def test_bytes_that_are_no_text_are_a_torn_line(world: World) -> None:
    world.serve(USERS[:1])
    with log_file(world).open("ab") as file:
        file.write(b"\xff\xfe\n")

    assert (world.compare().num_vectors, world.compare().num_torn_lines) == (1, 1)


def test_each_model_has_its_own_vectors_and_versions(world: World) -> None:
    world.serve(USERS[:3])
    world.serve(USERS[:5], model="next_site")
    write_churn(world.root / "releases", version="2")
    world.serve(USERS[:1])

    assert world.compare().versions == {"1": 3, "2": 1}
    assert world.compare(NEXT_SITE).versions == {"1": 5}


def test_only_what_was_served_since_then_counts(world: World) -> None:
    world.serve(USERS[:3])
    between = datetime.now(UTC)
    world.serve(USERS[:2])

    assert world.compare(since=between).num_vectors == 2
    first = world.compare(since=between).first_served
    assert first is not None
    assert first >= between


def test_a_file_from_before_is_not_opened(world: World) -> None:
    world.serve(USERS[:3])
    before = (datetime.now(UTC) - 2 * DAY).timestamp()
    os.utime(log_file(world), (before, before))
    log_file(world).chmod(0o200)

    assert world.compare().num_vectors == 0


def test_the_newest_vectors_are_taken_where_there_are_more(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "MAX_VECTORS", 4)
    world.serve(USERS[:3])
    between = datetime.now(UTC)
    world.serve(USERS[:3])

    report = world.compare()

    assert report.num_vectors == 4
    assert world.compare(since=between).num_vectors == 3


def test_what_an_older_release_was_served_is_said_to_be_out_of_the_comparison(
    world: World,
) -> None:
    world.serve(USERS[:3])
    inputs = {name: owner for name, owner in OWNERS.items() if name != "seconds"}

    report = world.compare(replace(CHURN, inputs=inputs))

    assert report.not_compared == {"seconds": 3}
    assert "activity.seconds" not in {each.name for each in report.features}
    assert report.over(0) == []


def test_values_of_another_layout_are_compared_by_name_and_counted(world: World) -> None:
    world.serve(USERS[:3])
    renamed = replace(ACTIVITY, columns=(*ACTIVITY.columns, ("clicks_1d", "int64")))

    report = world.compare(replace(CHURN, views=(renamed,)))

    assert report.other_layouts == {"activity": 3}
    assert report.over(0) == []


def test_a_wider_type_of_the_lake_is_compared_as_the_graph_was_fed(world: World) -> None:
    world.serve(USERS[:3])
    kinds = dict(ACTIVITY.columns) | {"clicks_7d": "float64", "seconds": "float32"}
    for_floats = replace(ACTIVITY, columns=tuple(kinds.items()))

    assert world.compare(replace(CHURN, views=(for_floats,))).over(0) == []


def test_examples_show_numbers_and_mask_texts(world: World) -> None:
    rows = activity(2)
    plans = pc.replace_substring(rows["plan"], "free", "frei")
    rows = rows.set_column(rows.column_names.index("plan"), "plan", plans)
    clicks = pa.array([7] * len(USERS), pa.int64())
    rows = rows.set_column(rows.column_names.index("clicks_7d"), "clicks_7d", clicks)
    world.load_as(rows, ACTIVITY, day=2)
    world.serve(USERS[:2])

    report = world.compare()

    (plan,) = named(report, "activity.plan").examples
    assert (plan.served, plan.lake, plan.verdict) == ("<4 long>", "<4 long>", "different")
    assert plan.place == f"{log_file(world).name}:2"
    clicks_7d = named(report, "activity.clicks_7d").examples
    assert [each.served for each in clicks_7d] == ["7.0", "7.0"]
    assert all(user not in str(report) for user in USERS)


def test_the_worst_feature_comes_first_and_says_how() -> None:
    few = FeatureSkew(name="a.few", equal=98, different=1, missing=1, extra=0)
    many = FeatureSkew(name="a.many", equal=1, different=0, missing=0, extra=1)
    none = FeatureSkew(name="a.none", equal=5, different=0, missing=0, extra=0)
    unused = FeatureSkew(name="a.unused", equal=0, different=0, missing=0, extra=0)
    report = SkewReport(features=(few, many, none, unused))

    assert [each.name for each in report.over(0)] == ["a.many", "a.few"]
    assert report.over(0.02) == [many]
    assert few.sentence() == "a.few 2.00% (1 different, 1 missing of 100)"


def test_windows_are_counted_to_the_instant_that_was_read(world: World) -> None:
    """A count over a stream goes down by itself as the store's clock goes on."""
    world.serve(USERS[:3])
    first = world.compare()
    world.live(3)
    world.load(*CHURN.views, day=3)
    world.serve(USERS[:3])

    assert first.over(0) == []
    assert world.compare().over(0) == []
    assert world.compare().num_vectors == 6
    assert named(world.compare(), "visits.visits_1d").equal == 6


def test_a_table_that_keeps_only_the_latest_rows_is_read_as_it_was(world: World) -> None:
    world.serve(model="next_site")
    for day in (3, 4):
        world.live(day)
        world.load(*NEXT_SITE.views, day=day)
    world.serve(USERS[:10], model="next_site")

    report = world.compare(NEXT_SITE)

    assert report.over(0) == []
    assert named(report, "registration_history.site_ids").equal == 40
    assert report.not_told == {}


def test_what_the_lake_no_longer_tells_is_neither_right_nor_wrong(world: World) -> None:
    world.serve(model="next_site")
    world.live(3)
    world.load(*NEXT_SITE.views, day=3)
    world.serve(USERS[:10], model="next_site")
    purge(world.lake, "history", refuse_if_busy=lambda: None)

    report = world.compare(NEXT_SITE)

    assert report.over(0) == []
    assert report.not_told == {"registration_history": 30}
    assert named(report, "registration_history.site_ids").equal == 10
    assert named(report, "presentation_sites.site_ids").equal == 40


def test_a_row_that_the_lake_never_had_is_extra_however_far_one_looks(world: World) -> None:
    rows = history(2)
    stranger = rows.slice(0, 1).set_column(0, "user_id", pa.array(["stranger"]))
    world.load_as(pa.concat_tables([rows, stranger]), HISTORY, day=2)
    world.serve(["stranger"], model="next_site")

    report = world.compare(NEXT_SITE)

    assert named(report, "registration_history.site_ids").extra == 1
    assert report.not_told == {}


def test_late_rows_that_came_after_the_answer_do_not_count(world: World) -> None:
    world.serve()
    late = activity(2, seed=8)
    at = late.column_names.index("known_at")
    later = pc.add(late["known_at"].cast(pa.int64()), int(timedelta(days=3).total_seconds() * 1e6))
    known_at = later.cast(late.schema.field("known_at").type)
    world.lake.append_once(
        "activity", late.set_column(at, "known_at", known_at), positions={"day": 99}
    )

    assert world.compare().over(0) == []
