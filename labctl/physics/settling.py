"""Settle times and what a window shows: analysis of traces, for any machine that gives one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labctl.physics.kernels import row_peak

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Settling:
    """Per sample: settle_time [B] (nan = unsettled) and transient [B], the leftover in the window's mean."""

    settle_time: FloatArray
    transient: FloatArray

    @property
    def unsettled_share(self) -> float:
        """Share of samples that never stayed inside the band."""
        return float(np.mean(np.isnan(self.settle_time)))


def settle_times(time: FloatArray, trace: FloatArray, final: FloatArray, band: float) -> FloatArray:
    """Last entry of each sample into +-band around `final`, in the unit of `time`; nan while still moving.

    time [S], trace [S, B, r] (rows that matter), final [B, r]. The crossing is interpolated linearly
    between samples of the trace. A sample inside from the first point on has settled at time[0].
    """
    error = np.abs(trace - final[None]).max(axis=2)
    outside = error > band
    count = len(time)
    last = count - 1 - np.argmax(outside[::-1], axis=0)
    never_out = ~outside.any(axis=0)
    still_out = outside[-1]
    before = np.clip(last, 0, count - 2)
    columns = np.arange(error.shape[1])
    high, low = error[before, columns], error[before + 1, columns]
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(high > low, (high - band) / (high - low), 1.0)
    crossing = time[before] + np.clip(share, 0.0, 1.0) * (time[before + 1] - time[before])
    return np.where(never_out, time[0], np.where(still_out, np.nan, crossing))


def cycling(spread: FloatArray, noise: float | FloatArray, band: float) -> NDArray[np.bool_]:
    """Samples whose state swings inside the window by more than noise explains: a limit cycle.

    spread [B, r] standard deviation in the window, noise the expected one (or [B]), band the tolerance. The
    halves' means agree on a cycle (averaging hides it), so it is looked for in the spread.
    """
    return np.asarray(row_peaks(spread) > np.maximum(band / 2, 6.0 * noise))


def row_peaks(values: FloatArray) -> FloatArray:
    """The largest |value| of each row of values [B, r]."""
    out = np.empty(len(values))
    row_peak(values, out)
    return out
