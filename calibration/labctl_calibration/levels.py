"""What every cell shows at every level, as the subtracting detectors see it.

A difference of two planes is all there is to see: y = zero + span_pos s_pos(level) - span_neg s_neg(level),
with s from 0 (level 0) to 1 (the brightest level). Flat frames of one path at a time give s and span of each
cell by its own emitter alone; a frame that is dark everywhere gives zero, the difference of the leaks. The
detectors' crosstalk is taken out, so that numbers are of a cell and its own output. A level's shape is that
of its cell: the region's response, through the output's own curve.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labctl.devices import DeviceFault
from labctl.programs import crosstalk
from labctl_calibration.darks import Darks
from labctl_calibration.emitters import Emitters
from labctl_calibration.probing import ROUNDS, Probing
from labctl_calibration.registration import Registration

FloatArray = NDArray[np.float64]
KNOTS = 33
END_ROUNDS = 32  # of the dark and of the brightest frame: all shapes hang on them
DARK_ROUNDS = 16
BALANCE_PASSES = 6
CLEAR = 0.05  # of the median span: dimmer cells count as dark
REACHABLE = 0.98  # of the live cells that can show full scale on both paths


@dataclass(frozen=True, eq=False)
class Levels:
    """knots [K]: levels that were measured; shape [2, n, n, K]: 0 .. 1, rising up to the brightest of them;
    span_units [2, n, n] and its standard error; zero_units [n, n] (see above), photocurrent a unit of phi;
    full_scale_units: what a weight fraction of 1 is to give; reach: share of live cells that can.
    """

    knots: NDArray[np.int64]
    shape: FloatArray
    span_units: FloatArray
    span_error: FloatArray
    zero_units: FloatArray
    full_scale_units: float
    reach: float

    @property
    def found(self) -> str:
        """In words."""
        zero = 100 * self.zero_units / self.full_scale_units
        ends = np.array([np.median(self.span_units[path]) for path in (0, 1)])
        return (
            f"a full-scale weight is {self.full_scale_units:.3f} units, {100 * self.reach:.0f}% of the live "
            f"cells reach it (cells span {ends[0]:.3f} and {ends[1]:.3f} in the median); with both planes "
            f"dark the leaks differ by {np.sqrt((zero**2).mean()):.2f}% rms of that"
        )


def measure_levels(probing: Probing, darks: Darks, emitters: Emitters, registration: Registration) -> Levels:
    """2 (K - 1) + 1 flat frames with 8 n probes each, more at the ends.

    Raises DeviceFault where no cell changes with the level.
    """
    n, top = probing.spec.n_channels, probing.panel.n_levels - 1
    knots = np.unique(np.rint(np.linspace(0, top, KNOTS)).astype(np.int64))
    spread = np.stack([crosstalk(path.neighbour) for path in registration.paths])
    probing.show_half(0, 0)
    dark = probing.one_hot(rounds=END_ROUNDS)
    zero = balanced(probing.slopes(rounds=DARK_ROUNDS), spread)
    rise = np.zeros((2, n, n, len(knots)))
    for path, sign in ((0, 1), (1, -1)):
        side = registration.paths[path].side
        for k, level in enumerate(knots[1:], start=1):
            probing.show_half(side, int(level))
            seen = probing.one_hot(rounds=END_ROUNDS if k == len(knots) - 1 else ROUNDS)
            rise[path, :, :, k] = np.linalg.solve(spread[path], sign * (seen - dark))
    rise *= emitters.swing[:, None, :, None]
    lives = ~np.isin(np.arange(n), emitters.dead)
    shape, span = _shapes(rise, lives)
    if not (np.median(span[:, :, lives], axis=(1, 2)) > 0).all():
        raise DeviceFault(
            "cells do not brighten with the level; allowed: a panel that answers to its frames",
            device=probing.modulator.name, operation="measure_levels",
        )  # fmt: skip
    usable = span[:, :, lives].min(axis=0)
    full_scale = float(np.quantile(usable, 1 - REACHABLE))
    noise = darks.noise_units[:, None] * np.sqrt(2 / END_ROUNDS)
    return Levels(
        knots=knots,
        shape=shape,
        span_units=span,
        span_error=noise * emitters.swing[:, None, :],
        zero_units=zero,
        full_scale_units=full_scale,
        reach=float((usable >= full_scale).mean()),
    )


def balanced(dark: FloatArray, spread: FloatArray) -> FloatArray:
    """Zero of every cell [n, n] that makes `dark` [out, in]: light of its own plane, the positive one where
    it is above 0, seen through that path's detectors: dark = spread_pos zero+ - spread_neg zero-.
    """
    mean, zero = spread.mean(axis=0), np.zeros_like(dark)
    for _ in range(BALANCE_PASSES):
        left = dark - spread[0] @ np.maximum(zero, 0.0) + spread[1] @ np.maximum(-zero, 0.0)
        zero = zero + np.linalg.solve(mean, left)
    return zero


def _shapes(rise: FloatArray, lives: NDArray[np.bool_]) -> tuple[FloatArray, FloatArray]:
    """Shape and span of rises [2, n, n, K]; cells too dim for a shape of their own get the typical one."""
    typical = np.median(rise[:, :, lives], axis=(1, 2))
    typical = typical / typical.max(axis=1, keepdims=True)
    span = rise.max(axis=3)
    clear = span > CLEAR * np.median(span[:, :, lives])
    span = np.where(clear, span, 0.0)
    own = rise / np.where(clear, span, 1.0)[..., None]
    shape = np.where(clear[..., None], own, typical[:, None, None, :])
    # noise must not make a level seem darker than the one below; beyond the turning point nothing is won
    return np.clip(np.maximum.accumulate(shape, axis=3), 0.0, 1.0), span
