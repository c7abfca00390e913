"""Generated histories, thousands of entity rows in one job per engine: none differs from the loop.

One history at a time, hypothesis searches for its worst case in test_asof.py; here it only makes many.
"""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from scale_assets.features import asof, spark_asof
from scale_assets.features.asof import connect, join_as_of
from scale_assets.features.spark_asof import SparkHistories
from scale_assets.lake import Lake
from scale_assets.lake.spark_rows import spark_rows
from tests.features.asof_cases import (
    ORIGINS,
    Label,
    Row,
    entities,
    history_table,
    label_table,
    mismatches,
    rows,
    store,
    view,
)

TTLS = {"ever": None, "at_once": 0, "short": 3, "long": 9}
HOUR = timedelta(hours=1)
Case = tuple[list[Row], list[Label], int]
Engine = Callable[[pa.Table, pa.Table, bool], pa.Table]
cases = st.tuples(
    st.lists(rows, min_size=5, max_size=25),
    st.lists(entities, min_size=10, max_size=40),
    st.sampled_from([(origin - ORIGINS[0]) // HOUR for origin in ORIGINS]),
)


def generated(num_labels: int) -> tuple[list[Row], list[Label]]:
    """Many histories as one, of which each has entities, and a time, of its own."""
    history: list[Row] = []
    labels: list[Label] = []

    @settings(
        max_examples=num_labels // 10,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(cases)
    def collect(case: Case) -> None:
        if len(labels) < num_labels:
            rows, asked, shift = case
            number = len(labels)
            history.extend(
                (_named(key, number), _later(at, shift), _later(known_at, shift), x, y)
                for key, at, known_at, x, y in rows
            )
            labels.extend((_named(key, number), _later(at, shift)) for key, at in asked)

    collect()
    return history, labels


def _named(key: str | None, number: int) -> str | None:
    return None if key is None else f"{number} {key}"


def _later(hour: int | None, shift: int) -> int | None:
    return None if hour is None else hour + shift


@pytest.fixture(params=["by order", "by hash", "spark"])
def engine(
    request: pytest.FixtureRequest, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> Engine:
    """DuckDB in both of its ways, and Spark with its weeks cut to hours."""
    views = [view(name, ttl) for name, ttl in TTLS.items()]
    spark: SparkHistories | None = None
    if request.param == "spark":
        lake, session = Lake(tmp_path), request.getfixturevalue("spark")
        monkeypatch.setattr(spark_asof, "BUCKET", 5 * HOUR)
        spark = SparkHistories(session, lambda _name: spark_rows(session, lake.open("history")))
    else:
        few = -1 if request.param == "by order" else 1 << 60
        monkeypatch.setattr(asof, "FEW_ROWS_PER_ENTITY", few)

    def join(history: pa.Table, labels: pa.Table, hide_backfills: bool) -> pa.Table:
        if spark is not None:
            lake.overwrite("history", history)
        with connect() as connection:
            for each in views:
                store(connection, each.name, history)
            return join_as_of(
                connection,
                labels,
                views,
                time="time",
                hide_backfills=hide_backfills,
                with_times=True,
                spark=spark,
            )

    return join


@pytest.mark.parametrize("num_labels", [500, pytest.param(10_000, marks=pytest.mark.slow)], ids=str)
@pytest.mark.parametrize("hide_backfills", [True, False], ids=["hidden", "visible"])
def test_no_entity_row_differs_from_the_loop(
    engine: Engine, num_labels: int, hide_backfills: bool
) -> None:
    """0 mismatches, 0 future values, rows in = rows out, for every ttl."""
    history, labels = generated(num_labels)
    assert len(labels) >= num_labels

    found = engine(
        history_table(history, ORIGINS[0]), label_table(labels, ORIGINS[0]), hide_backfills
    )

    named = [(name, history, ttl) for name, ttl in TTLS.items()]
    origin = ORIGINS[0]
    assert mismatches(found, labels, named, origin=origin, hide_backfills=hide_backfills) == []
    for name in TTLS:
        for kind in ("feature_time", "known_at") if hide_backfills else ("feature_time",):
            used = zip(found["time"].to_pylist(), found[f"{name}__{kind}"].to_pylist(), strict=True)
            assert [pair for pair in used if pair[1] is not None and pair[1] > pair[0]] == []
    filled = found.filter(pa.compute.is_valid(found["ever__feature_time"]))
    assert filled.num_rows > num_labels // 5  # of what is found nothing, nothing can be wrong
