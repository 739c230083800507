"""Settles that several procedures ask for: rows by themselves, and small loops through the dense frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from labctl.devices import LoopElectronics, LoopSpec, SettleCodes
from labctl.physics.fitted_loop import FittedLaw, FittedLoop
from labctl_calibration.closed_loop import LOOP_GAIN, STEP_ID
from labctl_calibration.optical.dense import pose
from labctl_calibration.optical.loop_procedures import WEIGHTS, map_of
from labctl_calibration.panel_record import KIND as PANEL_KIND
from labctl_calibration.procedure import Devices, FloatArray, Upstream, require
from labctl_calibration.rows_record import KIND as ROWS_KIND
from labctl_calibration.rows_record import loop_of, rows_of

Codes = NDArray[np.int64]
DRAWS = 16  # of the ids that these procedures take above `STEP_ID`
POSED_NEEDS = (PANEL_KIND, WEIGHTS, ROWS_KIND)  # records that `posed` asks for


def gains_off(spec: LoopSpec, bias: Codes, start: Codes, *, draw: int, first: int = 0) -> SettleCodes:
    """Biases and starts [B, n] with every gain off and leak 1: each row is a leaky integrator of its bias.

    draw: which of the ids above `STEP_ID`; first: number of the first sample.
    """
    return _codes(spec, np.zeros((1, spec.n_channels), np.int64), bias, start, draw, first)


@dataclass(frozen=True, eq=False)
class Posed:
    """The dense frame on display, closed at a gain that leaves the loop far from oscillation, and what its
    records say of it. gain: what `code` [1, n] asks for.
    """

    electronics: LoopElectronics
    loop: FittedLoop
    code: Codes
    gain: float

    def settle(self, bias: Codes, *, draw: int, wait_us: float | None = None) -> FloatArray:
        """States [B, n] in units, of bias codes [B, n], each started from zero."""
        spec = self.electronics.spec
        codes = _codes(spec, self.code, bias, np.zeros_like(bias), draw, 0)
        counts = self.electronics.settle(codes, wait_us=wait_us).counts
        return np.asarray(counts * spec.adc.units_per_code, np.float64)

    def law(self, bias: FloatArray) -> FittedLaw:
        """The records' equations under biases [B, n] in units."""
        n = self.code.shape[1]
        gains = torch.full((1, n), self.gain, dtype=torch.float64)
        return self.loop.law(torch.from_numpy(bias), gains, torch.ones(1, n, dtype=torch.float64))


def posed(devices: Devices, upstream: Upstream) -> Posed:
    """The dense frame, as `dense.pose` leaves it, with its weights and rows from their records."""
    electronics = devices.get(LoopElectronics)
    pose(devices, require(upstream, PANEL_KIND))
    light, rows = map_of(require(upstream, WEIGHTS)), rows_of(require(upstream, ROWS_KIND))
    spec = electronics.spec
    slowest = float(np.abs(np.linalg.eigvals(light.powers[0])).max())
    code = spec.hidden_gain.code(np.full((1, spec.n_channels), LOOP_GAIN / max(slowest, 1e-3)))
    return Posed(electronics, loop_of(light.powers, rows), code, float(spec.hidden_gain.value(code)[0, 0]))


def _codes(spec: LoopSpec, gain: Codes, bias: Codes, start: Codes, draw: int, first: int) -> SettleCodes:
    n = spec.n_channels
    return SettleCodes(
        bias=bias,
        gain=gain,
        leak=np.full((1, n), spec.max_leak_code),
        gain_range=np.ones(n, np.int64),
        start=start,
        step_id=STEP_ID + draw,
        sample_id=np.arange(first, first + len(bias)),
    )
