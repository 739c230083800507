"""Run files as pages, pictures and terminal tables."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from labctl.reports.matrix import placed_matrix_figure
    from labctl.reports.page import report
    from labctl.reports.samples import chain_figure, picture_grid_figure, samples_figure
    from labctl.reports.show import summary
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

_WHERE = {
    "DARK": "style",
    "LIGHT": "style",
    "LedgerTotals": "statistics",
    "SettleStatistics": "statistics",
    "StepStatistics": "statistics",
    "Theme": "style",
    "chain_figure": "samples",
    "ledger_totals": "statistics",
    "norms_figure": "steps",
    "picture_grid_figure": "samples",
    "placed_matrix_figure": "matrix",
    "report": "page",
    "samples_figure": "samples",
    "scan_figure": "steps",
    "settle_figure": "steps",
    "settle_statistics": "statistics",
    "step_statistics": "statistics",
    "summary": "show",
    "to_png": "style",
}

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
    "to_png",
]


def __getattr__(name: str) -> Any:
    # Lazy, so that `labctl show` does not wait for matplotlib.
    if name in _WHERE:
        return getattr(import_module(f"labctl.reports.{_WHERE[name]}"), name)
    raise AttributeError(f"module 'labctl.reports' has no attribute {name!r}")
