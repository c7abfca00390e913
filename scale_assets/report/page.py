"""Puts the figures on one page that needs nothing from elsewhere."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any

from scale_assets.lake import Lake
from scale_assets.report import collect, plots
from scale_assets.report.monitoring import monitoring_section
from scale_assets.settings import Settings

KS = (1, 5, 10, 20, 50)
CSS = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 2.5rem auto; max-width: 68rem; padding: 0 1rem;
       color: #1b1f24; }
h1 { margin-bottom: .2rem } h2 { margin-top: 2.8rem; border-bottom: 2px solid #eee }
p.verdict { background: #f4f6f8; border-left: 4px solid #d1495b; padding: .7rem 1rem }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .92rem }
th, td { padding: .25rem .9rem .25rem 0; text-align: right; border-bottom: 1px solid #eee }
th:first-child, td:first-child { text-align: left }
tr.best td { font-weight: 600 } svg { max-width: 100%; height: auto; margin: .6rem 0 }
small { color: #667 }
"""


def write_report(settings: Settings) -> Path:
    """Write the page beside the data it describes and return its path."""
    sections = [
        *about_section(settings),
        *rows_section(settings),
        *labels_section(settings),
        *monitoring_section(Lake(settings.lake_dir, s3=settings.s3)),
        *model_sections(settings),
        *timings_section(settings),
    ]
    page = (
        "<!doctype html><html lang=en><head><meta charset=utf-8>"
        '<meta name=viewport content="width=device-width">'
        f"<title>scale-assets report</title><style>{CSS}</style></head><body>"
        "<h1>From raw events to served predictions</h1>" + "\n".join(sections) + "</body></html>\n"
    )
    settings.report_path.write_text(page)
    return settings.report_path


def about_section(settings: Settings) -> Iterator[str]:
    """Which world this is about, which of its days, and when the page was written."""
    written = f"Written {datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    world = collect.replayed_world(settings.feeds_dir)
    if world is None:
        yield f"<p>{written}, about {escape(str(settings.data_dir))}.</p>"
        return
    yield (
        f"<p>Input: {escape(world.source)}; {len(world.presentations)} presentations of "
        f"{escape(', '.join(world.modules))}: {escape(', '.join(world.presentations))}. "
        f"Replayed from {world.first_day} to {world.last_day}. {written}.</p>"
    )


def rows_section(settings: Settings) -> Iterator[str]:
    """What came in, what was set aside, and what every table holds."""
    lake = Lake(settings.lake_dir, s3=settings.s3)
    yield "<h2>Rows through each stage</h2>"
    yield table(
        ["stream", "received", "accepted", "quarantined", "duplicates"],
        [list(astuple(each)) for each in collect.stream_counts(lake)],
    )
    counts = collect.table_counts(lake)
    stages = [(name, rows) for name, rows, _ in counts if not name.startswith("monitoring/")]
    kept = {name: float(rows) for name, rows in stages if rows}
    set_aside = {name for name in kept if name.endswith("_quarantine")}
    yield plots.bars(kept, xlabel="rows; red: set aside in quarantine", marked=set_aside)
    yield details("Every table", table(["table", "rows", "Delta version"], counts))


def labels_section(settings: Settings) -> Iterator[str]:
    """Registrations and cancellations over calendar weeks."""
    lake = Lake(settings.lake_dir, s3=settings.s3)
    if not lake.exists("registrations"):
        return
    yield "<h2>Registrations and cancellations per week</h2>"
    yield plots.per_week(
        {
            "registered": collect.weekly(lake, "registrations", day="registered_on"),
            "cancelled": collect.weekly(lake, "registrations", day="unregistered_on"),
        },
        ylabel="registrations",
    )


def model_sections(settings: Settings) -> Iterator[str]:
    """Each model beside its baselines, on the same rows."""
    for model, evaluation in collect.evaluations(settings.training_dir).items():
        yield f"<h2>Model: {escape(model)}</h2>"
        if sentence := collect.gate_sentence(settings.training_dir, model):
            yield f"<p class=verdict>{escape(sentence)}</p>"
        candidates = evaluation["candidates"]
        for target, summary in evaluation["targets"].items():
            yield f"<h3>{escape(target)}</h3><p><small>{escape(describe(summary))}</small></p>"
            if evaluation["kind"] == "tabular":
                yield scores(candidates, [f"{target}/auc", f"{target}/ap", f"{target}/ece"])
                yield plots.roc_and_precision_recall(
                    candidates, target, base_rate=summary["base_rate"]
                )
                yield plots.calibration(candidates, target)
            else:
                yield scores(candidates, [f"{target}/ndcg_at_10", f"{target}/hr_at_10"])
                yield plots.by_k(candidates, target, KS)
        if curves := collect.training_curves(settings.training_dir, model):
            yield "<h3>Training curves of the network</h3>" + plots.training_curves(curves)


def timings_section(settings: Settings) -> Iterator[str]:
    """Where the time went, whichever run it was."""
    seconds = collect.stage_seconds(settings.data_dir)
    if not seconds:
        return
    yield "<h2>Seconds per stage</h2>"
    yield (
        f"<p>{sum(seconds.values()):.0f} s in all; each stage as the newest run of `scale demo` "
        "took that had work for it.</p>"
    )
    yield plots.bars(seconds, xlabel="seconds")


def scores(candidates: Mapping[str, Mapping[str, Any]], metrics: Sequence[str]) -> str:
    """Candidates by the first metric, best first, with 95 % bootstrap intervals."""
    ordered = sorted(candidates.items(), key=lambda item: -item[1]["metrics"][metrics[0]]["value"])
    rows = [
        [name, *(interval(each["metrics"][metric]) for metric in metrics)] for name, each in ordered
    ]
    return table(["candidate", *(metric.rpartition("/")[2] for metric in metrics)], rows)


def interval(metric: Mapping[str, float | None]) -> str:
    """Value and interval as text: 0.764 (0.751 to 0.777)."""
    text = f"{metric['value']:.4f}"
    if metric["low"] is None:
        return text
    return f"{text} ({metric['low']:.4f} to {metric['high']:.4f})"


def describe(summary: Mapping[str, float]) -> str:
    text = f"{summary['num_rows']:,.0f} test rows"
    if "base_rate" in summary:
        text += f", {summary['num_positive']:,.0f} positive (base rate {summary['base_rate']:.4f})"
    return text


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    cells = "".join(f"<th>{escape(name)}</th>" for name in header)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(show(value))}</td>" for value in row) + "</tr>"
        for row in rows
    )
    return f"<table><tr>{cells}</tr>{body}</table>"


def show(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def details(summary: str, body: str) -> str:
    return f"<details><summary>{escape(summary)}</summary>{body}</details>"
