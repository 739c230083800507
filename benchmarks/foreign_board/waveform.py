"""Oscillators with their carrier, and the currents that their neighbours and the injectors send them.

Oscillator j puts out v(phi_j) = sin(phi_j) + h sin(3 phi_j), and its driver passes it on late by d_j. Its phase
answers a current I with a sensitivity that has the same third harmonic (an LC tank: most at the zero crossing),
and an injection at twice the frequency through 2 sin(2 phi_i):

    dphi_i/dt = omega0 (1 + eps w_i + 2 eps [cos(phi_i) + h cos(3 phi_i)] I_i(t)
                          - 2 eps l_i sin(2 phi_i) cos(2 omega0 t))
    I_i(t)    = sum_j K_ij v(phi_j - d_j) + a_i cos(omega0 t) + b_i sin(omega0 t)

The reference is sin(omega0 t). Time is counted in radians of the carrier. Phase noise is white: a kick of
variance 2 D eps dt at the end of each stretch dt of about a period.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike, NDArray

Real = NDArray[np.floating]
STEPS_A_PERIOD = 24  # Runge-Kutta of fourth order: halving the step moves phases by less than 1e-5 rad rms
TURN = 2 * np.pi


@dataclass(frozen=True, eq=False)
class Wiring:
    """One segment: gains[i, j] from j to i [n, n]; cosine, sine (injection), double, offset [B or 1, n];
    length in radians of the carrier; harmonic: h; delay [n]: d in rad (none: 0).
    """

    gains: Real
    cosine: Real
    sine: Real
    double: Real
    offset: Real
    length: float
    harmonic: float = 0.0
    delay: Real | None = None


@dataclass(frozen=True)
class Stretch:
    """A part of a run that is integrated at once: of which segment, from where to where, in how many periods
    (the last ends the part); `read`: how many reads fall on its end.
    """

    segment: int
    begin: float
    end: float
    periods: int
    read: int


def stretches(lengths: Sequence[float], reads: Sequence[float]) -> list[Stretch]:
    """The parts of a run of segments of such lengths, read at such times (radians of the carrier, ascending).

    What is to be read after the end, by a rounding, is read at the end.
    """
    out: list[Stretch] = []
    begin, left = 0.0, list(reads)
    for segment, length in enumerate(lengths):
        stop = begin + length
        last = segment == len(lengths) - 1
        here = [read for read in left if read < stop or last]
        left = left[len(here) :]
        for end in [*sorted({min(read, stop) for read in here}), stop]:
            count = sum(min(read, stop) == end for read in here)
            if end > begin or count:
                periods = int(np.ceil((end - begin) / TURN - 1e-9))
                out.append(Stretch(segment, begin, end, periods, count))
                here = [read for read in here if min(read, stop) > end]
                begin = end
    return out


class _Law:
    """dtheta/d(omega0 t) of theta = phi - omega0 t [B, n] in one segment, in place."""

    def __init__(self, wiring: Wiring, eps: float, dtype: DTypeLike) -> None:
        def made(values: Real) -> Real:
            return np.ascontiguousarray(values, dtype)

        self._gains = made(2 * eps * wiring.gains.T)
        self._cosine, self._sine = made(2 * eps * wiring.cosine), made(2 * eps * wiring.sine)
        self._offset, self._double = made(eps * wiring.offset), made(4 * eps * wiring.double)
        self._harmonic, self._doubled = wiring.harmonic, bool(np.any(wiring.double))
        self._late: tuple[Real, Real] | None = None
        if wiring.delay is not None and np.any(wiring.delay):
            self._late = made(np.cos(wiring.delay)), made(np.sin(wiring.delay))

    def __call__(self, theta: Real, carrier: float, out: Real, spare: Sequence[Real]) -> Real:
        s, c, sine, cosine, work = spare
        at_sine, at_cosine = float(np.sin(carrier)), float(np.cos(carrier))
        np.sin(theta, out=s)
        np.cos(theta, out=c)
        np.multiply(s, at_cosine, out=sine)
        sine += np.multiply(c, at_sine, out=work)
        np.multiply(c, at_cosine, out=cosine)
        cosine -= np.multiply(s, at_sine, out=work)
        sent = sine
        if self._late is not None:
            sent = np.multiply(sine, self._late[0], out=s)
            sent -= np.multiply(cosine, self._late[1], out=work)
        if self._harmonic:  # sin 3x = 3 sin x - 4 sin^3 x, cos 3x = 4 cos^3 x - 3 cos x
            h = self._harmonic
            np.multiply(sent, sent, out=work)
            work *= -4 * h
            work += 1 + 3 * h
            sent = np.multiply(sent, work, out=c)
        np.matmul(sent, self._gains, out=out)
        out += self._cosine * at_cosine + self._sine * at_sine  # [1 or B, n]
        if self._harmonic:
            np.multiply(cosine, cosine, out=work)
            work *= 4 * self._harmonic
            work += 1 - 3 * self._harmonic
            out *= work
        out *= cosine
        if self._doubled:
            np.multiply(sine, cosine, out=work)
            work *= self._double
            work *= 2 * at_cosine**2 - 1
            out -= work
        out += self._offset
        return out


def played(
    start: Real,
    wirings: Sequence[Wiring],
    eps: float,
    reads: Sequence[float],
    *,
    steps_a_period: int = STEPS_A_PERIOD,
    diffusion: float = 0.0,
    normals: Real | None = None,
) -> Real:
    """Phases against the reference [R, B, n], unwrapped, at `reads` (radians of the carrier, ascending), in
    the precision of `start`.

    diffusion: D, rad^2 a unit; normals [B, periods of all `stretches`, n]: what its kicks are made of.
    """
    theta, seen, kicked = np.array(start), [], 0
    laws = [_Law(wiring, eps, theta.dtype) for wiring in wirings]
    rooms = [np.empty_like(theta) for _ in range(9)]
    for part in stretches([wiring.length for wiring in wirings], reads):
        for k in range(part.periods):
            step = (part.end - part.begin) / part.periods
            _advance(theta, part.begin + k * step, step, laws[part.segment], steps_a_period, rooms)
            if normals is not None and diffusion > 0:
                theta += np.float32(np.sqrt(2 * diffusion * eps * step)) * normals[:, kicked]
            kicked += 1
        seen += [theta.copy() for _ in range(part.read)]
    return np.stack(seen) if seen else np.empty((0, *theta.shape), theta.dtype)


def _advance(
    theta: Real, carrier: float, length: float, law: _Law, steps_a_period: int, rooms: Sequence[Real]
) -> None:
    """Runge and Kutta's rule of fourth order over a part of a period, in place."""
    steps = max(1, int(np.ceil(length / TURN * steps_a_period - 1e-9)))
    h = length / steps
    slope, total, at, work, *spare = rooms
    for m in range(steps):
        t = carrier + m * h
        law(theta, t, slope, spare)
        np.copyto(total, slope)
        for share, weight in ((0.5, 2.0), (0.5, 2.0), (1.0, 1.0)):
            np.multiply(slope, share * h, out=at)
            at += theta
            law(at, t + share * h, slope, spare)
            total += np.multiply(slope, weight, out=work)
        total *= h / 6.0
        theta += total
