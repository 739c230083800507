"""Run files as pages, pictures and terminal tables."""

from labctl.reports.matrix import placed_matrix_figure
from labctl.reports.page import report
from labctl.reports.samples import chain_figure, picture_grid_figure, samples_figure
from labctl.reports.statistics import (
    LedgerTotals,
    SettleStatistics,
    StepStatistics,
    ledger_totals,
    settle_statistics,
    step_statistics,
)
from labctl.reports.steps import norms_figure, scan_figure, settle_figure
from labctl.reports.style import DARK, LIGHT, Theme, to_png
from labctl.reports.summary import summary, summary_lines, summary_table

__all__ = [
    "DARK",
    "LIGHT",
    "LedgerTotals",
    "SettleStatistics",
    "StepStatistics",
    "Theme",
    "chain_figure",
    "ledger_totals",
    "norms_figure",
    "picture_grid_figure",
    "placed_matrix_figure",
    "report",
    "samples_figure",
    "scan_figure",
    "settle_figure",
    "settle_statistics",
    "step_statistics",
    "summary",
    "summary_lines",
    "summary_table",
    "to_png",
]
