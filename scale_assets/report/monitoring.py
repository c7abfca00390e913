"""The report's part about the features themselves: how old they are, and how far they moved."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from scale_assets.lake import Lake
from scale_assets.report import monitoring_plots as plots

Row = Mapping[str, Any]


def monitoring_section(lake: Lake) -> Iterator[str]:
    """Freshness of every view over time, and a heat map of drift for each that can be compared."""
    fresh, drift = _by_view(lake, "freshness"), _by_view(lake, "drift")
    if not fresh and not drift:
        return
    yield "<h2>Features: freshness and drift</h2>"
    if fresh:
        yield (
            "<p><small>Age of the newest value at every midnight of the data's own time. The dotted "
            "line is the age that the check allows.</small></p>"
        )
        yield plots.freshness(fresh)
    yield from _drift(drift)


def _drift(drift: Mapping[str, Sequence[Row]]) -> Iterator[str]:
    judged = {view: [row for row in rows if row["psi_warn"]] for view, rows in drift.items()}
    shown = {view: rows for view, rows in judged.items() if any(row["psi"] for row in rows)}
    if shown:
        yield (
            "<p><small>Population stability index of each window against the reference, beyond "
            "what chance gives. "
            f"{plots.LEGEND}</small></p>"
        )
    for view, rows in shown.items():
        yield f"<h3>{escape(view)}</h3>" + plots.drift(rows)
    rest = [view for view in drift if view not in shown]
    if rest:
        yield (
            f"<p><small>Too few entities to compare, or not judged: {escape(', '.join(rest))}."
            "</small></p>"
        )


def _by_view(lake: Lake, what: str) -> dict[str, list[Row]]:
    """Rows of all monitors' tables of this kind."""
    found: dict[str, list[Row]] = defaultdict(list)
    for table in lake.tables():
        if table.startswith("monitoring/") and table.endswith(f"/{what}"):
            for row in lake.read(table).to_pylist():
                found[row["view"]].append(row)
    return dict(sorted(found.items()))
