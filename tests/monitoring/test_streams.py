"""A view over a stream: its entities as of the ends of the dates on which something arrived."""

import shutil
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

from scale_assets.features.streaming.declared import streaming_view
from scale_assets.lake import Lake
from scale_assets.monitoring.kept import Tables, bring_up_to_date
from scale_assets.monitoring.population import MAX_STREAM_ENTITIES, Comparison, Slice
from scale_assets.monitoring.watched import Feature, Kind, Watched

TABLES = Tables.of("clicks")
MIDNIGHT = datetime(2014, 1, 6, tzinfo=UTC)
STREAM = streaming_view(
    {
        "name": "user_clicks",
        "table": "clicks",
        "key": "{team}-{user}",
        "event_time": "at",
        "received_at": "received_at",
        "features": [
            {"name": "clicks_2d", "sum": "n", "window": "2d"},
            {"name": "last_pages", "last": "page", "limit": 3},
        ],
    },
    join_key="user_id",
    where="test",
)
WATCHED = Watched(
    name="user_clicks",
    table="clicks",
    entity=("user_id",),
    time="at",
    known_at="received_at",
    features=(
        Feature(name="clicks_2d", kind=Kind.NUMBER),
        Feature(name="last_pages", kind=Kind.LENGTH),
    ),
    stream=STREAM,
)
DECLARED = Comparison(
    reference=Slice(end=date(2014, 1, 13)),
    current=Slice(where="user_id like 'blue-%'"),
    window_days=7,
    alignment=None,
    min_entities=1,
)


def clicks(user: int, hours: float, *, team: str = "blue", n: int = 1) -> dict[str, Any]:
    at = MIDNIGHT + timedelta(hours=hours)
    return {"team": team, "user": user, "at": at, "received_at": at, "page": user, "n": n}


def append(lake: Lake, rows: list[dict[str, Any]], *, batch: int) -> None:
    time = pa.timestamp("us", tz="UTC")
    kinds = {"team": pa.string(), "at": time, "received_at": time, "event_date": pa.date32()}
    schema = pa.schema({**kinds, **dict.fromkeys(("user", "page", "n"), pa.int64())})
    dated = [each | {"event_date": each["at"].date()} for each in rows]
    table = pa.Table.from_pylist(dated, schema)
    lake.append_once("clicks", table, positions={"feed": batch}, partition_by=["event_date"])


def kept(lake: Lake) -> list[list[dict[str, Any]]]:
    bring_up_to_date(lake, WATCHED, DECLARED, {}, TABLES)
    return [lake.read(name).to_pylist() for name in (TABLES.statistics, TABLES.drift)]


def of_day(rows: list[dict[str, Any]], feature: str, day: int) -> dict[str, Any]:
    (found,) = [
        each
        for each in rows
        if each["feature"] == feature and each["feature_date"] == date(2014, 1, day)
    ]
    return found


def test_values_are_as_of_the_end_of_the_day_on_which_an_event_arrived(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    events = [
        clicks(user, hour, n=2) for user in range(30) for hour in (1, 24)
    ]  # 24: of the 6th yet
    append(lake, [*events, clicks(0, 24.5)], batch=1)

    statistics, _ = kept(lake)

    first = of_day(statistics, "clicks_2d", 7)
    assert (first["num_rows"], first["mean"], first["max"]) == (30, 4.0, 4.0)
    assert of_day(statistics, "last_pages", 7)["p50"] == 2.0
    assert of_day(statistics, "clicks_2d", 8)["num_rows"] == 1


def test_step_by_step_equals_at_once_with_a_late_arrival(tmp_path: Path) -> None:
    lake = Lake(tmp_path / "lake")
    for batch, days in enumerate([range(8), range(8, 9), range(9, 16)], 1):
        append(
            lake, [clicks(user, 24 * day + 9) for user in range(25) for day in days], batch=batch
        )
        kept(lake)
    late = clicks(3, 24 * 9) | {"received_at": MIDNIGHT + timedelta(days=16)}
    append(lake, [late, clicks(4, 24 * 11)], batch=4)  # the other one was held back and says not

    in_steps = kept(lake)

    anew = Path(f"{lake.root}-anew")
    shutil.copytree(lake.root, anew)
    shutil.rmtree(anew / "monitoring")
    assert in_steps == kept(Lake(anew))
    assert {each["window_start"] for each in in_steps[1]} == {
        date(2014, 1, day) for day in (6, 13, 20)
    }


def test_a_busy_day_is_sampled_the_same_way_each_time(tmp_path: Path) -> None:
    many = [clicks(user, 1, n=user) for user in range(3 * MAX_STREAM_ENTITIES)]
    forth, back = Lake(tmp_path / "forth"), Lake(tmp_path / "back")
    append(forth, many, batch=1)
    append(back, many[::-1], batch=1)

    numbers = [of_day(kept(lake)[0], "clicks_2d", 7) for lake in (forth, back)]

    assert numbers[0]["num_rows"] == MAX_STREAM_ENTITIES
    assert numbers[0] == numbers[1]
