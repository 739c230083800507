"""Series of readings in time: scatter from one to the next, and lines (flicker, mains) in their spectrum."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]
CLEAR = 6.0  # of the median of the spectrum: what rises higher is a line
MOST_LINES = 6
LOWEST = 2.5  # periods in the series: slower is drift, not a line
BLOCKS = 8  # a series in parts, whose scatter gives the error of what the whole says


@dataclass(frozen=True, eq=False)
class Lines:
    """frequency_hz [L], complex amplitude of every channel [L, n] (rms is its magnitude / sqrt 2), and the
    series less mean, slope and lines, [T, n].
    """

    frequency_hz: FloatArray
    amplitude: ComplexArray
    rest: FloatArray


def scatter(series: FloatArray) -> FloatArray:
    """Variance [n] from reading to reading: half the mean square of successive differences (Allan's).

    What changes slowly (drift, lines far below the rate of readings) has no part in it.
    """
    return np.asarray(0.5 * (np.diff(series, axis=0) ** 2).mean(axis=0))


def scatter_of_blocks(series: FloatArray) -> FloatArray:
    """`scatter` of each of `BLOCKS` parts [BLOCKS, n]."""
    return np.stack([scatter(part) for part in np.array_split(series, BLOCKS)])


def find_lines(series: FloatArray, spacing_us: float) -> Lines:
    """Lines in readings [T, n] that are `spacing_us` apart, strongest first; found where the spectra of all
    channels together rise above their median.
    """
    count = len(series)
    time_s = _times(count, spacing_us)
    found: list[float] = []
    while True:
        rest, amplitude = _fitted(series, time_s, found)
        if len(found) == MOST_LINES:
            break
        power = (np.abs(np.fft.rfft(rest * np.hanning(count)[:, None], axis=0)) ** 2).sum(axis=1)
        first = int(np.ceil(LOWEST))
        inside = power[first:-1]
        peak = first + int(inside.argmax())
        if not power[peak] > CLEAR * np.median(inside):
            break
        found.append(_refined(rest, time_s, peak))
    return Lines(np.array(found), amplitude, rest)


def without_lines(series: FloatArray, spacing_us: float, lines_hz: FloatArray) -> FloatArray:
    """A series less mean, slope and lines of known frequency, [T, n]."""
    return _fitted(series, _times(len(series), spacing_us), lines_hz.tolist())[0]


def _times(count: int, spacing_us: float) -> FloatArray:
    return np.asarray(spacing_us * 1e-6 * np.arange(count), dtype=np.float64)


def _refined(rest: FloatArray, time_s: FloatArray, peak: int) -> float:
    """The frequency around a bin of the spectrum that takes most out of the series."""
    step = 1.0 / float(time_s[1] * len(time_s))
    best, width = peak * step, step
    for _ in range(6):
        around = best + width * np.linspace(-1, 1, 9)
        left = [float((_fitted(rest, time_s, [float(f)])[0] ** 2).sum()) for f in around]
        best, width = float(around[int(np.argmin(left))]), width / 4
    return best


def _fitted(series: FloatArray, time_s: FloatArray, lines_hz: list[float]) -> tuple[FloatArray, ComplexArray]:
    """What is left of a series without mean, slope and lines; the lines' complex amplitudes [L, n]."""
    columns = [np.ones_like(time_s), time_s - time_s.mean()]
    for f in lines_hz:
        columns += [np.cos(2 * np.pi * f * time_s), np.sin(2 * np.pi * f * time_s)]
    design = np.stack(columns, axis=1)
    found = np.linalg.lstsq(design, series, rcond=None)[0]
    return series - design @ found, np.asarray(found[2::2] - 1j * found[3::2])
