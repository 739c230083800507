"""Integrates a board's phases, 16 samples side by side, with the terms that the ideal law has not.

The twin's own integrator: a cell of a real board delays what it passes on, so each coupling is
P sin(theta_j - theta_i) - Q cos(theta_j - theta_i) with P = K cos lag, Q = K sin lag, and every sample has
its own step (jitter of the sequencer). Classical Runge-Kutta of fourth order; noise is added once a step.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

LANES = 16
FloatArray = NDArray[np.float64]


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def sines_into(theta: FloatArray, s: FloatArray, c: FloatArray) -> None:  # pragma: no cover - compiled
    """s, c = sin, cos of theta, flat arrays; within 1e-13 up to some thousand turns.

    Reduced to +-pi/4 (pi/2 in two parts), then Taylor polynomials: no calls into libm, so it vectorises.
    """
    for i in range(theta.size):
        x = theta[i]
        k = np.rint(x * 0.6366197723675814)
        r = (x - k * 1.5707963267948966) - k * 6.123233995736766e-17
        z = r * r
        sine = -7.647163731819816e-13 * z + 1.605904383682161e-10
        sine = sine * z - 2.505210838544172e-08
        sine = sine * z + 2.7557319223985893e-06
        sine = sine * z - 1.984126984126984e-04
        sine = sine * z + 8.333333333333333e-03
        sine = sine * z - 0.16666666666666666
        sine = r + r * z * sine
        cosine = -1.1470745597729725e-11 * z + 2.08767569878681e-09
        cosine = cosine * z - 2.755731922398589e-07
        cosine = cosine * z + 2.48015873015873e-05
        cosine = cosine * z - 1.388888888888889e-03
        cosine = cosine * z + 4.1666666666666664e-02
        cosine = 1.0 - 0.5 * z + z * z * cosine
        quarter = k - 4.0 * np.floor(k * 0.25)
        odd = quarter - 2.0 * np.floor(quarter * 0.5)
        upper = 1.0 - 2.0 * np.floor(quarter * 0.5)  # -1 in quarters 2 and 3
        one = sine + odd * (cosine - sine)
        other = cosine + odd * (sine - cosine)
        s[i] = upper * one
        c[i] = upper * (1.0 - 2.0 * odd) * other


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def rates_into(  # pragma: no cover - compiled
    theta: FloatArray,
    row_start: NDArray[np.int32],
    source: NDArray[np.int32],
    direct: FloatArray,
    lagging: FloatArray,
    in_phase: FloatArray,
    quadrature: FloatArray,
    second: FloatArray,
    detuning: FloatArray,
    s: FloatArray,
    c: FloatArray,
    out: FloatArray,
) -> None:
    """out = dtheta/dt; theta, in_phase, quadrature, s, c, out [n, LANES]; second, detuning [n]; edges [E].

    direct, lagging: P and Q.
    """
    n = theta.shape[0]
    sines_into(theta.ravel(), s.ravel(), c.ravel())
    of_sine, of_cosine = np.empty(LANES), np.empty(LANES)
    for i in range(n):
        for lane in range(LANES):
            of_sine[lane] = in_phase[i, lane]
            of_cosine[lane] = quadrature[i, lane]
        for e in range(row_start[i], row_start[i + 1]):
            j, p, q = source[e], direct[e], lagging[e]
            for lane in range(LANES):
                of_sine[lane] += p * s[j, lane] - q * c[j, lane]
                of_cosine[lane] += p * c[j, lane] + q * s[j, lane]
        twice, free = 2.0 * second[i], detuning[i]
        for lane in range(LANES):
            si, ci = s[i, lane], c[i, lane]
            out[i, lane] = ci * of_sine[lane] - si * (of_cosine[lane] + twice * ci) + free


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def advance(  # pragma: no cover - compiled
    theta: FloatArray,
    step: FloatArray,
    steps: int,
    row_start: NDArray[np.int32],
    source: NDArray[np.int32],
    direct: FloatArray,
    lagging: FloatArray,
    in_phase: FloatArray,
    quadrature: FloatArray,
    second: FloatArray,
    detuning: FloatArray,
) -> None:
    """theta [n, LANES] so many steps on, in place; step [LANES] in units. Other arrays as in `rates_into`."""
    n = theta.shape[0]
    s, c = np.empty((n, LANES)), np.empty((n, LANES))
    slope, trial, total = np.empty((n, LANES)), np.empty((n, LANES)), np.empty((n, LANES))
    for _ in range(steps):
        for stage in range(4):
            at = theta if stage == 0 else trial
            rates_into(
                at, row_start, source, direct, lagging, in_phase, quadrature, second, detuning,
                s, c, slope,
            )  # fmt: skip
            share = 1.0 / 6.0 if stage == 0 or stage == 3 else 1.0 / 3.0
            ahead = 1.0 if stage == 2 else 0.5
            for i in range(n):
                for lane in range(LANES):
                    h = step[lane]
                    before = 0.0 if stage == 0 else total[i, lane]
                    total[i, lane] = before + h * share * slope[i, lane]
                    trial[i, lane] = theta[i, lane] + ahead * h * slope[i, lane]
        for i in range(n):
            for lane in range(LANES):
                theta[i, lane] += total[i, lane]
