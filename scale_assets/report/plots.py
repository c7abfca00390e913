"""Figures of the report as inline SVG; each function draws one."""

import io
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, timedelta
from typing import Any

STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "axes.titleweight": "bold",
    "legend.frameon": False,
    "svg.fonttype": "path",  # the page needs no font of its own
    "svg.hashsalt": "scale-assets",  # equal data, equal bytes
    "figure.constrained_layout.use": True,
}
NETWORK_COLOR = "#d1495b"
COLORS = ["#00798c", "#edae49", "#66a182", "#2e4057", "#8d96a3", "#9b5de5"]


class Figure:
    """An SVG under construction; `svg` holds the text once the block has ended."""

    svg = ""
    axes: Any


@contextmanager
def drawing(
    width: float = 6.4, height: float = 3.6, columns: int = 1, rows: int = 1
) -> Iterator[Figure]:
    """A figure of ``columns`` axes beside or ``rows`` below each other, in inches."""
    import matplotlib as mpl

    mpl.use("svg")
    import matplotlib.pyplot as plt

    figure = Figure()
    with mpl.rc_context(STYLE):
        canvas, figure.axes = plt.subplots(rows, columns, figsize=(width, height), sharex=rows > 1)
        yield figure
        buffer = io.StringIO()
        canvas.savefig(buffer, format="svg", metadata={"Date": None})
        plt.close(canvas)
    text = buffer.getvalue()
    figure.svg = text[text.index("<svg") :]


def colors(names: Sequence[str]) -> dict[str, str]:
    """The network stands out; the others keep one colour each across figures."""
    others = [name for name in names if name != "network"]
    palette = {name: COLORS[index % len(COLORS)] for index, name in enumerate(others)}
    return palette | {"network": NETWORK_COLOR}


def line_widths(name: str) -> float:
    return 2.4 if name == "network" else 1.3


def per_week(series: Mapping[str, Sequence[tuple[date, float]]], *, ylabel: str) -> str:
    """One line per series over calendar weeks; a week without rows is zero."""
    with drawing(width=9) as figure:
        for index, (name, points) in enumerate(series.items()):
            weeks, values = every_week(points)
            figure.axes.plot(weeks, values, label=name, color=COLORS[index % len(COLORS)])
        figure.axes.set_ylabel(ylabel)
        figure.axes.legend()
        figure.axes.figure.autofmt_xdate()
    return figure.svg


def every_week(points: Sequence[tuple[date, float]]) -> tuple[list[date], list[float]]:
    """The weeks from the first to the last, those without rows too: no line may cross a gap."""
    counted = dict(points)
    if not counted:
        return [], []
    first, last = min(counted), max(counted)
    weeks = [first + timedelta(weeks=n) for n in range((last - first).days // 7 + 1)]
    return weeks, [counted.get(week, 0.0) for week in weeks]


def roc_and_precision_recall(
    candidates: Mapping[str, Mapping[str, Any]], label: str, *, base_rate: float
) -> str:
    """Both curves of every candidate; the diagonal and the base rate are chance."""
    palette = colors(list(candidates))
    with drawing(width=11, height=4.2, columns=2) as figure:
        roc, precision_recall = figure.axes
        for name, scores in candidates.items():
            style = {"color": palette[name], "linewidth": line_widths(name)}
            auc = scores["metrics"][f"{label}/auc"]["value"]
            ap = scores["metrics"][f"{label}/ap"]["value"]
            roc.plot(*zip(*scores["roc"][label], strict=True), label=f"{name} {auc:.3f}", **style)
            recall, precision = zip(*scores["precision_recall"][label], strict=True)
            precision_recall.plot(recall, precision, label=f"{name} {ap:.3f}", **style)
        roc.plot([0, 1], [0, 1], color="grey", linestyle=":", linewidth=1)
        roc.set(title="ROC (AUC)", xlabel="false positive rate", ylabel="true positive rate")
        precision_recall.axhline(base_rate, color="grey", linestyle=":", linewidth=1)
        precision_recall.set(
            title="Precision-recall (AP)",
            xlabel="recall",
            ylabel="precision",
            ylim=(0, min(1, base_rate * 10)),
        )
        roc.legend(fontsize=8, loc="lower right")
        precision_recall.legend(fontsize=8)
    return figure.svg


def calibration(candidates: Mapping[str, Mapping[str, Any]], label: str) -> str:
    """Mean score against observed rate, ten bins of equally many rows.

    The axes are logarithmic above the lowest rate and linear below it, so that a bin without any
    positive row is drawn, at zero.
    """
    palette = colors(list(candidates))
    bins = {name: scores["calibration"][label] for name, scores in candidates.items()}
    lowest = lowest_rate(bins.values())
    with drawing(width=5.6, height=4.2) as figure:
        for name, candidate_bins in bins.items():
            predicted = [each["mean_score"] for each in candidate_bins]
            observed = [each["observed_rate"] for each in candidate_bins]
            figure.axes.plot(
                predicted, observed, marker="o", markersize=3, label=name, color=palette[name],
                linewidth=line_widths(name),
            )  # fmt: skip
        figure.axes.plot([0, lowest, 1], [0, lowest, 1], color="grey", linestyle=":", linewidth=1)
        figure.axes.set_xscale("symlog", linthresh=lowest)
        figure.axes.set_yscale("symlog", linthresh=lowest)
        figure.axes.set(xlabel="mean score", ylabel="observed rate", xlim=(0, 1), ylim=(0, 1))
        figure.axes.legend(fontsize=8)
    return figure.svg


def lowest_rate(bins: Iterable[Sequence[Mapping[str, float]]]) -> float:
    """The lowest observed rate of any bin that has a positive row."""
    rates = (each["observed_rate"] for part in bins for each in part)
    return min((rate for rate in rates if rate > 0), default=1e-3)


def by_k(candidates: Mapping[str, Mapping[str, Any]], list_name: str, ks: Sequence[int]) -> str:
    """NDCG and hit rate of every ranking, by the length of the list."""
    palette = colors(list(candidates))
    with drawing(width=11, height=3.8, columns=2) as figure:
        for axes, metric, title in zip(
            figure.axes, ("ndcg", "hr"), ("NDCG", "Hit rate"), strict=True
        ):
            for name, scores in candidates.items():
                values = [scores["metrics"][f"{list_name}/{metric}_at_{k}"]["value"] for k in ks]
                axes.plot(
                    range(len(ks)), values, marker="o", markersize=3, label=name,
                    color=palette[name], linewidth=line_widths(name),
                )  # fmt: skip
            axes.set(title=f"{title} at k", xlabel="k", xticks=range(len(ks)))
            axes.set_xticklabels(ks)
        figure.axes[0].legend(fontsize=8)
    return figure.svg


def training_curves(curves: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """One small plot per metric: (epoch, value)."""
    with drawing(width=4 * max(len(curves), 1), height=3, columns=max(len(curves), 1)) as figure:
        all_axes = figure.axes if len(curves) > 1 else [figure.axes]
        for axes, (metric, points) in zip(all_axes, curves.items(), strict=False):
            axes.plot(*zip(*points, strict=True), color=NETWORK_COLOR, marker=".", markersize=4)
            axes.set(title=metric, xlabel="epoch")
    return figure.svg


def bars(values: Mapping[str, float], *, xlabel: str, marked: Collection[str] = ()) -> str:
    """Horizontal bars, longest first; the ``marked`` ones stand out."""
    ordered = sorted(values.items(), key=lambda item: item[1])
    shades = [NETWORK_COLOR if name in marked else COLORS[0] for name, _ in ordered]
    with drawing(width=9, height=0.28 * len(ordered) + 0.8) as figure:
        names, lengths = [name for name, _ in ordered], [value for _, value in ordered]
        figure.axes.barh(names, lengths, color=shades)
        figure.axes.set_xlabel(xlabel)
        figure.axes.grid(visible=False, axis="y")
        figure.axes.margins(y=0.01)
    return figure.svg
