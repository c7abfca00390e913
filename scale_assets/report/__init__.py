"""One self-contained HTML page about a run: rows, labels, models, timings."""

from scale_assets.report.page import write_report

__all__ = ["write_report"]
