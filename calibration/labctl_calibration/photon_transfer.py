"""Photon transfer: what EMVA Standard 1288 (release 4.0, linear model) says of a camera, out of its frames.

Counts are y = y_dark + K e with e electrons, Poisson: the temporal variance rises by K times the mean. From
pairs of frames at rising exposures, each with its dark pair: system gain K, responsivity, temporal dark
noise, saturation, linearity error; from stacks of frames in the dark and at half of saturation: DSNU and
PRNU. Section numbers are the standard's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labctl.devices import DeviceFault

FloatArray = NDArray[np.float64]
QUANTISATION = 1 / 12  # DN^2, of rounding to whole counts
LEAST_DARK = 0.24  # DN^2: below it rounding rules, and the standard takes this instead (6.4)
SENSITIVITY = 0.7  # of saturation: K and R are fitted up to here (6.3, 6.6)
LINEAR = (0.05, 0.95)  # of saturation: where the linearity error is told (7)
FEWEST = 4  # points of a fit


@dataclass(frozen=True)
class Valued:
    """A value and its standard uncertainty."""

    value: float
    sd: float


@dataclass(frozen=True, eq=False)
class Series:
    """Pairs of frames at K exposures, in order: exposure_us, photons a pixel gets (NaN where nobody knows),
    mean (DN) and temporal variance (DN^2), of light and dark [K]; pixels of a frame.
    """

    exposure_us: FloatArray
    photons: FloatArray
    mean: FloatArray
    variance: FloatArray
    dark_mean: FloatArray
    dark_variance: FloatArray
    pixels: int

    @property
    def signal(self) -> FloatArray:
        """Mean above dark (DN)."""
        return self.mean - self.dark_mean


@dataclass(frozen=True)
class Stack:
    """Of many frames alike: mean (DN), spatial variance of their average less what temporal noise leaves in
    it, and mean temporal variance (DN^2); pixels and frames.
    """

    mean: float
    spatial_variance: float
    temporal_variance: float
    pixels: int
    frames: int

    @property
    def spatial_error(self) -> float:
        """Standard error of the spatial variance, of normal pixels."""
        whole = self.spatial_variance + self.temporal_variance / self.frames
        return float(whole * np.sqrt(2 / self.pixels))


@dataclass(frozen=True, eq=False)
class PhotonTransfer:
    """The standard's values. K: system_gain (DN/e-); responsivity (DN/photon) and quantum_efficiency (NaN
    without known photons); dark_noise (e-); saturation (e-); linearity_error: smallest and largest deviation
    (%); dsnu (e-), prnu (%); `last` is the exposure that saturates (index into the series). threshold_e: the
    absolute sensitivity threshold, electrons at which signal and noise, rounding in it, are alike (6.7).
    full_well: electrons where every pixel is full.
    """

    system_gain: Valued
    responsivity: Valued
    quantum_efficiency: Valued
    dark_noise: Valued
    saturation: Valued
    linearity_error: tuple[float, float]
    dsnu: Valued
    prnu: Valued
    threshold_e: float
    full_well: Valued
    last: int

    @property
    def snr_max(self) -> Valued:
        """Largest signal-to-noise ratio: the root of the saturation capacity."""
        root = float(np.sqrt(self.saturation.value))
        return Valued(root, self.saturation.sd / (2 * root))

    @property
    def dynamic_range(self) -> float:
        """Saturation over threshold."""
        return self.saturation.value / self.threshold_e


def pair(first: NDArray[np.integer], second: NDArray[np.integer]) -> tuple[float, float]:
    """Mean and temporal variance of two frames, by their difference (6.2); spatial patterns drop out."""
    a, b = first.astype(np.float64), second.astype(np.float64)
    step = float((a - b).mean())
    return float((a + b).mean() / 2), float(((a - b) ** 2).mean() / 2 - step**2 / 2)


def stack(frames: NDArray[np.integer]) -> Stack:
    """Of frames [L, height, width] alike, L of 2 or more (8.1)."""
    whole = frames.astype(np.float64)
    average, temporal = whole.mean(axis=0), float(whole.var(axis=0, ddof=1).mean())
    spatial = float(average.var(ddof=1)) - temporal / len(whole)
    return Stack(float(average.mean()), spatial, temporal, average.size, len(whole))


def saturating(series: Series) -> int:
    """Index where the temporal variance is largest: above, pixels clip and lose it (6.5).

    Looked for from the end, as noise may lift single points before.
    """
    variance, best = series.variance, len(series.variance) - 1
    for k in range(len(variance) - 1, -1, -1):
        if variance[k] >= variance[best]:
            best = k
        elif variance[max(k - 1, 0)] < variance[best]:
            break
    return best


def photon_transfer(series: Series, dark: Stack, half: Stack, *, device: str) -> PhotonTransfer:
    """Everything out of one series and the two stacks. Raises DeviceFault for a series that never saturates,
    has fewer than `FEWEST` points below saturation, or whose variance does not rise with light.
    """
    last = saturating(series)
    top, signal = series.signal[last], series.signal
    use = slice(0, int(np.flatnonzero(signal <= SENSITIVITY * top).max(initial=-1)) + 1)
    wrong = ""
    if last == len(signal) - 1:
        wrong = f"the variance still rises at the longest exposure, {series.exposure_us[-1]:.4g} us"
    elif use.stop < FEWEST:
        wrong = f"{use.stop} exposures below {100 * SENSITIVITY:g}% of saturation; allowed: {FEWEST} or more"
    if wrong:
        raise DeviceFault(f"no saturation to be seen: {wrong}", device=device, operation="photon transfer")
    x, rise = signal[use], (series.variance - series.dark_variance)[use]
    scatter = np.sqrt(2 / series.pixels) * np.hypot(series.variance, series.dark_variance)
    gain = _through_zero(x, rise, scatter[use])
    if not gain.value > 0:
        raise DeviceFault(
            f"the variance of {series.pixels} pixels does not rise with light ({gain.value:.3g} DN/e-); "
            "allowed: more than 0; are frames repeated, or averaged in the camera?",
            device=device, operation="photon transfer",
        )  # fmt: skip
    mean_error = np.sqrt((series.variance + series.dark_variance) / (2 * series.pixels))
    slope = _through_zero(series.exposure_us[use], x, mean_error[use])
    known = bool(np.isfinite(series.photons).all())
    unknown = Valued(np.nan, np.nan)
    responsivity = _through_zero(series.photons[use], x, mean_error[use]) if known else unknown
    efficiency = _ratio(responsivity, gain) if known else unknown
    step = float(np.diff(series.exposure_us)[max(last - 1, 0)] / np.sqrt(12))
    at_top = Valued(slope.value * float(series.exposure_us[last]), slope.value * step)
    return PhotonTransfer(
        system_gain=gain,
        responsivity=responsivity,
        quantum_efficiency=efficiency,
        dark_noise=_dark_noise(series, gain),
        saturation=_ratio(at_top, gain),
        linearity_error=linearity_error(series.exposure_us, signal, float(top)),
        dsnu=_dsnu(dark, gain),
        prnu=_prnu(dark, half),
        threshold_e=float(np.sqrt(max(_dark_variance(series)[0], LEAST_DARK))) / gain.value + 0.5,
        full_well=_ratio(Valued(float(signal[-1]), float(mean_error[-1])), gain),
        last=last,
    )


def linearity_error(exposure: FloatArray, signal: FloatArray, top: float) -> tuple[float, float]:
    """Smallest and largest deviation (%) from the line that fits best in relative terms (7.2), between 5% and
    95% of `top`, the signal at saturation.
    """
    inside = np.flatnonzero((signal >= LINEAR[0] * top) & (signal <= LINEAR[1] * top))
    use = slice(inside[0], inside[-1] + 1)
    x, y = exposure[use], signal[use]
    line = np.linalg.lstsq(np.stack([x, np.ones_like(x)], axis=1) / y[:, None], np.ones_like(y), rcond=None)
    fitted = line[0][0] * x + line[0][1]
    away = 100 * (y - fitted) / fitted
    return float(away.min()), float(away.max())


def _dark_variance(series: Series) -> tuple[float, float]:
    """Temporal variance (DN^2) in the dark at no exposure, and its standard error: dark current adds to it in
    proportion to the exposure (6.4).
    """
    variances, count = series.dark_variance, len(series.dark_variance)
    if len(np.unique(series.exposure_us)) > 2:
        design = np.stack([np.ones(count), series.exposure_us], axis=1)
        at_zero = float(np.linalg.lstsq(design, variances, rcond=None)[0][0])
        share = float(np.sqrt(np.linalg.inv(design.T @ design)[0, 0]))
    else:
        at_zero, share = float(variances[0]), 1.0
    return at_zero, share * at_zero * float(np.sqrt(2 / series.pixels))


def _dark_noise(series: Series, gain: Valued) -> Valued:
    at_zero, error = _dark_variance(series)
    at_zero = max(at_zero, LEAST_DARK)
    counts = float(np.sqrt(at_zero - QUANTISATION))
    return _ratio(Valued(counts, error / (2 * counts)), gain)


def _dsnu(dark: Stack, gain: Valued) -> Valued:
    if dark.spatial_variance <= 0:
        return Valued(np.nan, np.nan)
    root = float(np.sqrt(dark.spatial_variance))
    return _ratio(Valued(root, dark.spatial_error / (2 * root)), gain)


def _prnu(dark: Stack, half: Stack) -> Valued:
    more, signal = half.spatial_variance - dark.spatial_variance, half.mean - dark.mean
    if more <= 0:
        return Valued(np.nan, np.nan)
    root = float(np.sqrt(more))
    error = float(np.hypot(half.spatial_error, dark.spatial_error)) / (2 * root)
    return Valued(100 * root / signal, 100 * error / signal)


def _through_zero(x: FloatArray, y: FloatArray, error: FloatArray) -> Valued:
    """Slope of y = a x by least squares, as the standard fits it, and its error from those of y."""
    square = float((x**2).sum())
    return Valued(float((x * y).sum()) / square, float(np.sqrt(((x * error) ** 2).sum())) / square)


def _ratio(above: Valued, below: Valued) -> Valued:
    value = above.value / below.value
    return Valued(value, abs(value) * float(np.hypot(above.sd / above.value, below.sd / below.value)))
