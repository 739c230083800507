"""Oscillators with their carrier, and the currents that their neighbours and the injectors send them.

Oscillator i puts out sin(phi_i). Its phase answers a current I with a sensitivity 2 cos(phi_i) (an LC tank:
most at the zero crossing), and an injection at twice the frequency through 2 sin(2 phi_i):

    dphi_i/dt = omega0 (1 + eps w_i + 2 eps cos(phi_i) I_i(t) - 2 eps l_i sin(2 phi_i) cos(2 omega0 t))
    I_i(t)    = sum_j K_ij sin(phi_j) + a_i cos(omega0 t) + b_i sin(omega0 t)

The reference is sin(omega0 t). Time is counted in radians of the carrier.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Real = NDArray[np.float64]
STEPS_A_PERIOD = 24  # Runge-Kutta of fourth order: halving the step moves phases by less than 1e-5 rad rms


@dataclass(frozen=True, eq=False)
class Wiring:
    """One segment: gains[i, j] from j to i [n, n]; cosine, sine (injection), double, offset [B or 1, n];
    length in radians of the carrier.
    """

    gains: Real
    cosine: Real
    sine: Real
    double: Real
    offset: Real
    length: float


def speed(phi: Real, carrier: float, wiring: Wiring, eps: float) -> Real:
    """dphi/d(omega0 t) [B, n]."""
    current = np.sin(phi) @ wiring.gains.T
    current += wiring.cosine * np.cos(carrier) + wiring.sine * np.sin(carrier)
    push = 2.0 * np.cos(phi) * current
    push -= 2.0 * wiring.double * np.sin(2.0 * phi) * np.cos(2.0 * carrier)
    return np.asarray(1.0 + eps * (wiring.offset + push))


def played(
    start: Real,
    wirings: Sequence[Wiring],
    eps: float,
    reads: Sequence[float],
    *,
    steps_a_period: int = STEPS_A_PERIOD,
) -> Real:
    """Phases against the reference [R, B, n], unwrapped, at `reads` (radians of the carrier, ascending)."""
    phi, carrier, seen = np.array(start, np.float64), 0.0, []
    stops = list(reads)
    for wiring in wirings:
        begin = carrier
        for stop in [*(r for r in stops if r < begin + wiring.length), begin + wiring.length]:
            phi = _integrated(phi, carrier, stop, wiring, eps, steps_a_period)
            carrier = stop
            if stops and stop == stops[0]:
                seen.append(phi - carrier)
                stops.pop(0)
    seen += [phi - carrier] * len(stops)  # at the very end, up to rounding
    return np.stack(seen)


def _integrated(
    phi: Real, carrier: float, stop: float, wiring: Wiring, eps: float, steps_a_period: int
) -> Real:
    steps = int(np.ceil((stop - carrier) / (2 * np.pi) * steps_a_period - 1e-9))
    if steps <= 0:
        return phi
    h = (stop - carrier) / steps
    for m in range(steps):
        t = carrier + m * h
        first = speed(phi, t, wiring, eps)
        second = speed(phi + 0.5 * h * first, t + 0.5 * h, wiring, eps)
        third = speed(phi + 0.5 * h * second, t + 0.5 * h, wiring, eps)
        fourth = speed(phi + h * third, t + h, wiring, eps)
        phi = phi + (h / 6.0) * (first + 2.0 * second + 2.0 * third + fourth)
    return phi
