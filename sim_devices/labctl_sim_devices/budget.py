"""Where a twin's read-out noise comes from, derived from its physical parameters at one state of the loop.

Each figure is the standard deviation of the mean of one read-out window (network units), rows apart: what
the state z = 0 shows from settle to settle, the loop's feedback through the weights on display included.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray

from labctl_sim_devices.bench import OpticalBench

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class NoiseSources:
    """Standard deviations [n] by source; drift is what an hour adds."""

    loop: FloatArray
    detector: FloatArray
    shot: FloatArray
    intensity: FloatArray
    flicker: FloatArray
    mains: FloatArray
    bias_codes: FloatArray
    adc_codes: FloatArray
    drift_hour: FloatArray

    @property
    def total(self) -> FloatArray:
        """All of them but the drift, as independent."""
        parts = [getattr(self, f.name) for f in fields(self) if f.name != "drift_hour"]
        return np.asarray(np.sqrt(np.sum(np.square(parts), axis=0)))

    def lines(self, full_scale_units: float) -> list[str]:
        """One line a source: rms over rows in % of full scale."""
        named = {f.name: getattr(self, f.name) for f in fields(self)}
        named["total"] = self.total
        percent = 100.0 / full_scale_units
        return [
            f"{name.replace('_', ' '):12} {percent * float(np.sqrt(np.mean(values**2))):.4f}%"
            for name, values in named.items()
        ]


def noise_sources(bench: OpticalBench, gain: float, leak: float = 1.0) -> NoiseSources:
    """The budget of a bench with its frame on display, all rows with one gain and leak, at z = 0."""
    p, noise, unit = bench.profile, bench.noise, bench.unit
    truth = bench.truth()
    n = p.n_channels
    loop = truth.law.loop
    row_gain = loop.gain(torch.full((n,), gain, dtype=torch.float64)).numpy()
    row_leak = loop.leak(torch.full((n,), leak, dtype=torch.float64)).numpy()
    window_s = p.window_samples / p.sample_rate_mhz * 1e-6
    zero = torch.zeros((1, n), dtype=torch.float64)
    drive = p.pedestal_units + truth.law.phi(zero)
    light = truth.law.path.light(drive)[0].numpy()
    matrices = truth.law.path.folded(truth.law.transmittance)[0].numpy()  # [to, from, out, in]
    seen = np.einsum("tfoi,fi->toi", matrices, light)  # photocurrent of each emitter
    signed, total = seen[0] - seen[1], np.maximum(seen.sum(axis=(0, 2)), 0.0)
    step = 1e-4
    slope = (truth.law.phi(zero + step) - truth.law.phi(zero - step))[0].numpy() / (2 * step)
    feedback = row_gain[:, None] * truth.matrix() * slope
    settled = np.linalg.inv(np.diag(row_leak) - feedback)  # state for a forcing that stays
    x = window_s * row_leak / (truth.tau_us * 1e-6)
    resolved = np.sqrt(1 + np.expm1(-x) / x)  # a window of some tau sees less of white noise

    def white(inputs: FloatArray) -> FloatArray:
        """Window mean for white forcings [n, sources], root of their variance times time (s)."""
        through = settled @ inputs
        return np.asarray(resolved * np.sqrt((through**2).sum(axis=1) / window_s))

    def still(inputs: FloatArray) -> FloatArray:
        """For forcings [n, sources] that stay over a settle."""
        return np.asarray(np.sqrt(((settled @ inputs) ** 2).sum(axis=1)))

    intensity = 0.0 if noise.rin_dbc_hz is None else 10 ** (noise.rin_dbc_hz / 10) / 2
    lit = row_gain[:, None] * signed
    return NoiseSources(
        loop=white(np.diag(noise.loop_units * np.sqrt(2e-6 * truth.tau_us))),
        detector=white(np.diag(row_gain) * np.sqrt(noise.detector_density() / 2)),
        shot=white(np.diag(row_gain * np.sqrt(noise.shot_density() / 2 * total))),
        intensity=white(lit * np.sqrt(intensity)),
        flicker=still(lit.sum(axis=1, keepdims=True) * float(unit.flicker_share) / np.sqrt(2)),
        mains=still(unit.mains / np.sqrt(2)),
        bias_codes=still(np.eye(n) * _uniform(p.full_scale_units, p.dac_bits)),
        adc_codes=np.full(n, _uniform(p.full_scale_units, p.adc_bits) / np.sqrt(p.window_samples)),
        drift_hour=still(
            np.hstack([lit * float(unit.light_walk), np.diag(loop.scale.numpy()) * float(unit.offset_walk)])
        ),
    )


def _uniform(range_units: float, bits: int) -> float:
    """Standard deviation of rounding to a bipolar converter's codes."""
    return float(range_units / (2 ** (bits - 1) - 1) / np.sqrt(12))
