"""What a plot shows, and what it must not hide."""

import re
from datetime import date
from typing import Any

from scale_assets.report import plots


def test_weeks_without_rows_are_zero() -> None:
    weeks, values = plots.every_week([(date(2014, 1, 6), 3.0), (date(2014, 1, 27), 2.0)])

    assert weeks == [date(2014, 1, day) for day in (6, 13, 20, 27)]
    assert values == [3.0, 0.0, 0.0, 2.0]


def test_no_points_are_no_weeks() -> None:
    assert plots.every_week([]) == ([], [])


def calibrated(*rates: float) -> dict[str, Any]:
    bins = [{"mean_score": 0.01 * (n + 1), "observed_rate": rate} for n, rate in enumerate(rates)]
    return {"network": {"calibration": {"churned": bins}}}


def num_markers(svg: str) -> int:
    """Points in the network's colour, the legend's one included."""
    return len(re.findall(rf"<use [^>]*fill: {plots.NETWORK_COLOR}", svg))


def test_a_bin_without_positive_rows_is_drawn() -> None:
    whole = plots.calibration(calibrated(0.0, 0.02, 0.04), "churned")
    without = plots.calibration(calibrated(0.02, 0.04), "churned")

    assert num_markers(whole) == num_markers(without) + 1
    assert num_markers(without) >= 2


def test_marked_bars_stand_out() -> None:
    rows = {"raw/clicks": 10.0, "raw/clicks_quarantine": 2.0}

    assert plots.NETWORK_COLOR in plots.bars(rows, xlabel="rows", marked={"raw/clicks_quarantine"})
    assert plots.NETWORK_COLOR not in plots.bars(rows, xlabel="rows")
