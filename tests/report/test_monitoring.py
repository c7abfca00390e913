"""The page's part about features: a figure where there is something to compare, words where not."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from scale_assets.lake import Lake
from scale_assets.report.monitoring import monitoring_section
from scale_assets.report.monitoring_plots import (
    FAILED,
    MOVING,
    SHADES,
    STILL,
    UNKNOWN,
    WARNED,
    drift,
    freshness,
    level,
)
from scale_assets.report.plots import NETWORK_COLOR

NOW = datetime(2014, 2, 1, tzinfo=UTC)


def cell(
    verdict: str, psi: float | None, *, week: int = 0, feature: str = "clicks"
) -> dict[str, Any]:
    start = date(2014, 1, 6) + timedelta(weeks=week)
    return {
        "view": "visits",
        "feature": feature,
        "window_start": start,
        "window_end": start + timedelta(weeks=1),
        "psi": psi,
        "psi_by_chance": 0.02,
        "psi_warn": 0.1,
        "null_share": None if verdict == "none" else 0.0,
        "verdict": verdict,
    }


def age(days: float, *, limit: float | None, at: datetime = NOW) -> dict[str, Any]:
    return {"view": "visits", "at": at, "age_hours": 24 * days, "max_age_hours": limit}


@pytest.mark.parametrize(
    ("verdict", "psi", "expected"),
    [
        ("ok", 0.06, STILL),
        ("ok", 0.08, MOVING),
        ("warn", 0.2, WARNED),
        ("fail", 0.5, FAILED),
        ("fail", None, FAILED),  # by its nulls
        ("none", 0.5, UNKNOWN),
        ("ok", None, UNKNOWN),
    ],
)
def test_a_cell_is_shaded_by_its_verdict(verdict: str, psi: float, expected: int) -> None:
    assert level(cell(verdict, psi)) == expected


def test_the_heat_map_shows_each_verdict_in_its_colour() -> None:
    calm = [cell("ok", 0.0, week=week) for week in range(4)]

    assert SHADES[FAILED] not in drift(calm)
    assert SHADES[FAILED] in drift([*calm, cell("fail", 0.9, week=4)])


def test_weeks_between_are_drawn_though_nothing_was_compared() -> None:
    svg = drift([cell("ok", 0.0), cell("ok", 0.0, week=3)])

    assert (
        svg.count("<path") >= drift([cell("ok", 0.0), cell("ok", 0.0, week=1)]).count("<path") + 2
    )


def test_a_view_that_is_too_old_stands_out() -> None:
    late, fresh = (freshness({"visits": [age(days, limit=48)]}) for days in (3, 2))

    assert NETWORK_COLOR in late
    assert NETWORK_COLOR not in fresh


def test_the_section_has_a_map_for_what_was_compared_and_names_the_rest(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    none = cell("none", None) | {"view": "profiles"}
    lake.overwrite("monitoring/shop/drift", pa.Table.from_pylist([cell("warn", 0.3), none]))
    lake.overwrite("monitoring/shop/freshness", pa.Table.from_pylist([age(1, limit=24)]))

    page = "".join(monitoring_section(lake))

    assert page.count("<svg") == 2
    assert "<h3>visits</h3>" in page
    assert "not judged: profiles" in page


def test_without_a_monitor_there_is_no_section(tmp_path: Path) -> None:
    assert list(monitoring_section(Lake(tmp_path))) == []
