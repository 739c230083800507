"""What one waveform board has of its own: a perfect one, or one drawn by number.

Sizes of detuning, gain and offset are what a study asks for; the others are assumed, like those of an untrimmed
board. In terms that no procedure's model has: a coupling's converter misses every code by an amount of its own,
a varactor's curve bends, waveforms have a third harmonic, all oscillators see the supply sag.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labctl.devices import Topology

Real = NDArray[np.float64]
COUPLING_BITS = 4
TOP_CODE = 2 ** (COUPLING_BITS - 1) - 1


@dataclass(frozen=True)
class Spread:
    """Standard deviations, or the value where the words say so. Units are those of conventions, section 1."""

    detuning_units: float = 0.0
    gain: float = 0.0
    offset_units: float = 0.0
    code_share: float = 0.01  # of full scale: what a converter misses a code by
    delay_rad: tuple[float, float] = (0.05, 0.02)  # mean and sd over drivers
    injection_gain: float = 0.05
    injection_rad: float = 0.05
    trim_gain: float = 0.03
    trim_curve: float = 0.005  # a unit, of all varactors
    skew_rad: float = 0.1
    sag: float = 0.005  # units of frequency a unit of coupled current, of all
    harmonic: float = 0.03  # of all
    read_noise_rad: float = 0.016  # of one read
    diffusion_rad2_per_unit: float = 1e-3  # of all


@dataclass(frozen=True, eq=False)
class WaveformUnit:
    """One board: offsets, skew, delay, trim_gain, injection_gain, injection_rad [n]; cell_gain, feedthrough
    (units) [E]; codes [E, 2 TOP_CODE + 1]: what a converter gives beside its code, as a share of full scale.
    """

    offsets: Real
    skew_rad: Real
    delay_rad: Real
    trim_gain: Real
    injection_gain: Real
    injection_rad: Real
    cell_gain: Real
    feedthrough: Real
    codes: Real
    trim_curve: float = 0.0
    sag: float = 0.0
    harmonic: float = 0.0
    read_noise_rad: float = 0.0
    diffusion: float = 0.0


def perfect_board(wiring: Topology, *, offsets: Real | None = None, diffusion: float = 0.0) -> WaveformUnit:
    """Nothing is off but, where given, the detuning `offsets` [n] in units, and the phases' diffusion."""
    n, e = wiring.n, wiring.n_edges
    none, one = np.zeros(n), np.ones(n)
    own = none if offsets is None else np.asarray(offsets, np.float64)
    cells = np.zeros((e, 2 * TOP_CODE + 1))
    return WaveformUnit(own, none, none, one, one, none, np.ones(e), np.zeros(e), cells, diffusion=diffusion)


def drawn_board(wiring: Topology, number: int, spread: Spread) -> WaveformUnit:
    """The board of that number."""
    rng = np.random.default_rng([0xB0A2D, number])
    n, e = wiring.n, wiring.n_edges
    mean_rad, sd_rad = spread.delay_rad
    return WaveformUnit(
        offsets=rng.normal(0, spread.detuning_units, n),
        skew_rad=rng.normal(0, spread.skew_rad, n),
        delay_rad=rng.normal(mean_rad, sd_rad, n),
        trim_gain=rng.normal(1, spread.trim_gain, n),
        injection_gain=rng.normal(1, spread.injection_gain, n),
        injection_rad=rng.normal(0, spread.injection_rad, n),
        cell_gain=rng.normal(1, spread.gain, e),
        feedthrough=rng.normal(0, spread.offset_units, e),
        codes=rng.normal(0, spread.code_share, (e, 2 * TOP_CODE + 1)),
        trim_curve=spread.trim_curve,
        sag=spread.sag,
        harmonic=spread.harmonic,
        read_noise_rad=spread.read_noise_rad,
        diffusion=spread.diffusion_rad2_per_unit,
    )
