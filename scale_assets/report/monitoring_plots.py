"""Figures of the report about features; each function draws one."""

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Any

from scale_assets.report.plots import COLORS, NETWORK_COLOR, drawing

SHADES = ["#ffffff", "#eaf2f3", "#b5d3d7", COLORS[1], NETWORK_COLOR]  # by the levels below
UNKNOWN, STILL, MOVING, WARNED, FAILED = range(len(SHADES))
LEGEND = (
    f'<span style="background:{SHADES[STILL]}">&emsp;</span> below half of where it warns, '
    f'<span style="background:{SHADES[MOVING]}">&emsp;</span> below it, '
    f'<span style="background:{SHADES[WARNED]}">&emsp;</span> warned, '
    f'<span style="background:{SHADES[FAILED]}">&emsp;</span> beyond failing; '
    "white: too little to compare."
)
ROW_INCHES = 0.21

Row = Mapping[str, Any]


def freshness(views: Mapping[str, Sequence[Row]]) -> str:
    """One strip per view: the age of its newest value in days, and the age that is allowed."""
    with drawing(width=11, height=0.95 * len(views) + 0.5, rows=len(views)) as figure:
        all_axes = figure.axes if len(views) > 1 else [figure.axes]
        for axes, (view, rows) in zip(all_axes, views.items(), strict=True):
            ordered = sorted(rows, key=lambda row: row["at"])
            days = [row["age_hours"] / 24 for row in ordered]
            last = ordered[-1]
            limit = last["max_age_hours"]
            is_late = limit is not None and last["age_hours"] > limit
            color = NETWORK_COLOR if is_late else COLORS[0]
            axes.fill_between([row["at"] for row in ordered], days, color=color, alpha=0.25, lw=0)
            axes.plot([row["at"] for row in ordered], days, color=color, linewidth=1.2)
            axes.plot(last["at"], days[-1], color=color, marker="o", markersize=4, clip_on=False)
            if limit is not None:
                axes.axhline(limit / 24, color=COLORS[3], linestyle=":", linewidth=1)
            axes.set_ylim(0, 1.25 * max([*days, (limit or 0) / 24, 0.1]))
            axes.set_title(view, loc="left", fontsize=9)
            axes.set_title(_age(days[-1], limit), loc="right", fontsize=9, fontweight="normal")
            axes.locator_params(axis="y", nbins=3)
        all_axes[len(views) // 2].set_ylabel("days")
    return figure.svg


def _age(days: float, limit_hours: float | None) -> str:
    allowed = "" if limit_hours is None else f" of {limit_hours / 24:g} allowed"
    return f"now {days:.3g} days old{allowed}"


def drift(rows: Sequence[Row]) -> str:
    """Features by windows, those that drifted most on top; the colour is the verdict."""
    import numpy as np
    from matplotlib.colors import ListedColormap

    windows = _every_window([row for row in rows if row["null_share"] is not None])
    features = sorted({row["feature"] for row in rows}, key=lambda name: _weight(rows, name))
    levels = np.full((len(features), len(windows)), UNKNOWN)
    for row in rows:
        if row["window_start"] in windows:
            levels[features.index(row["feature"]), windows.index(row["window_start"])] = level(row)
    with drawing(width=11, height=ROW_INCHES * len(features) + 0.8) as figure:
        axes = figure.axes
        axes.pcolormesh(
            np.arange(len(windows) + 1), np.arange(len(features) + 1), levels,
            cmap=ListedColormap(SHADES), vmin=-0.5, vmax=len(SHADES) - 0.5,
            edgecolors="white", linewidth=0.8,
        )  # fmt: skip
        axes.set_yticks(np.arange(len(features)) + 0.5, features, fontsize=8)
        marked = [n for n, window in enumerate(windows) if n % max(1, len(windows) // 10) == 0]
        axes.set_xticks(
            [n + 0.5 for n in marked], [f"{windows[n]:%-d %b %Y}" for n in marked], fontsize=8
        )
        axes.grid(visible=False)
        axes.tick_params(length=0)
        for side in axes.spines.values():
            side.set_visible(False)
    return figure.svg


def level(row: Row) -> int:
    """Which shade a cell has."""
    by_verdict = {"fail": FAILED, "warn": WARNED}
    if row["verdict"] in by_verdict:
        return by_verdict[row["verdict"]]
    if row["verdict"] == "none" or row["psi"] is None:
        return UNKNOWN
    return MOVING if row["psi"] - row["psi_by_chance"] >= row["psi_warn"] / 2 else STILL


def _weight(rows: Sequence[Row], feature: str) -> tuple[int, str]:
    """Features are drawn from the bottom up."""
    return sum(level(row) for row in rows if row["feature"] == feature), feature


def _every_window(rows: Sequence[Row]) -> list[date]:
    """From the first to the last that was compared: no gap may look like nothing happened."""
    length: timedelta = rows[0]["window_end"] - rows[0]["window_start"]
    first, last = (end(row["window_start"] for row in rows) for end in (min, max))
    return [first + n * length for n in range((last - first) // length + 1)]
