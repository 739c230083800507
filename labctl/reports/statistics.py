"""The numbers that pages, pictures and terminal tables share, from one panel of a run file."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labctl.devices import Outcome
from labctl.runlog import LedgerTable, PanelReader

FloatArray = NDArray[np.float64]

GOOD = (Outcome.CONVERGED, Outcome.TIME_ELAPSED)


@dataclass(frozen=True)
class SettleStatistics:
    """Settle times of one step in us over its audited samples; an unsettled sample counts as infinite."""

    audited: int
    p50_us: float
    p95_us: float
    p99_us: float
    max_us: float
    unsettled_share: float


@dataclass(frozen=True)
class StepStatistics:
    """One step. counts: samples per outcome. Norms are in network units, NaN where there are none."""

    step: int
    kind: str
    sigma: float
    sigma_next: float
    counts: dict[Outcome, int]
    settle: SettleStatistics | None
    step_norm_median: float
    step_norm_p95: float
    residual_median: float
    residual_p95: float

    @property
    def samples(self) -> int:
        """Samples that have an outcome."""
        return sum(self.counts.values())

    @property
    def good_share(self) -> float:
        """Share of samples that ended as planned (converged, or a fixed time that elapsed)."""
        return sum(self.counts[outcome] for outcome in GOOD) / self.samples if self.samples else float("nan")


@dataclass(frozen=True)
class LedgerTotals:
    """What a chain cost. Times of the device are sums over the queue of all samples; unknown parts are left
    out, unknown totals are NaN.
    """

    samples: int
    modelled_us: dict[str, float]
    modelled_total_us: float
    measured_us: dict[str, float]
    measured_total_us: float
    host_s: dict[str, float]
    host_total_s: float
    nfe: int
    host_macs: int
    machine_macs: int


def step_statistics(panel: PanelReader) -> tuple[StepStatistics, ...]:
    """Statistics of every step that is wholly in the file."""
    counts, sigma, sigma_next = panel.outcome_counts, panel.sigma, panel.sigma_next
    times, measured = panel.settle_time_us, panel.settle_measured
    step_norm, residual = panel.step_norm, panel.residual_norm
    return tuple(
        StepStatistics(
            step=index + 1,
            kind=kind,
            sigma=float(sigma[index]),
            sigma_next=float(sigma_next[index]),
            counts={outcome: int(counts[index, outcome]) for outcome in Outcome},
            settle=settle_statistics(times[index]) if measured.size and measured[index] else None,
            step_norm_median=percentile(step_norm[index], 50),
            step_norm_p95=percentile(step_norm[index], 95),
            residual_median=percentile(residual[index], 50),
            residual_p95=percentile(residual[index], 95),
        )
        for index, kind in enumerate(panel.kinds)
    )


def settle_statistics(times_us: ArrayLike) -> SettleStatistics:
    """Percentiles of settle times [A]; NaN (unsettled) sorts last, as infinity."""
    times = np.asarray(times_us, dtype=np.float64)
    unsettled = np.isnan(times)
    ordered = np.where(unsettled, np.inf, times)
    p50, p95, p99 = (float(np.percentile(ordered, q, method="higher")) for q in (50, 95, 99))
    return SettleStatistics(times.size, p50, p95, p99, float(ordered.max()), float(unsettled.mean()))


def percentile(values: ArrayLike, q: float) -> float:
    """Percentile of the finite values; NaN where there are none."""
    array = np.asarray(values, dtype=np.float64)
    finite = array[np.isfinite(array)]
    return float(np.percentile(finite, q)) if finite.size else float("nan")


def outcome_totals(steps: tuple[StepStatistics, ...]) -> dict[Outcome, int]:
    """Samples per outcome over all steps, outcomes that never happened left out."""
    totals = {outcome: sum(step.counts[outcome] for step in steps) for outcome in Outcome}
    return {outcome: count for outcome, count in totals.items() if count}


def ledger_totals(ledger: LedgerTable, samples: int) -> LedgerTotals:
    """A panel's ledger summed over its steps."""
    return LedgerTotals(
        samples=samples,
        modelled_us=_sums(ledger.modelled_us),
        modelled_total_us=ledger.modelled_total_us(),
        measured_us=_sums(ledger.measured_us),
        measured_total_us=ledger.measured_total_us(),
        host_s=_sums(ledger.host_s),
        host_total_s=ledger.host_total_s(),
        nfe=int(ledger.nfe.sum()),
        host_macs=int(ledger.host_macs.sum()),
        machine_macs=int(ledger.machine_macs.sum()),
    )


def _sums(parts: dict[str, FloatArray]) -> dict[str, float]:
    """Sums over the steps, parts that are nowhere known left out."""
    return {part: float(np.nansum(values)) for part, values in parts.items() if np.isfinite(values).any()}
