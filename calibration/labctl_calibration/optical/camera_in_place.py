"""Photon transfer of a camera in its place, by difference frames of the spots themselves.

Model: pixel p of frame k has K e_p (1 + c_k) + dark, e_p Poisson and c_k common to a spot: noise of emitters,
flicker. Estimator: differences of successive frames less their projection on the spot's own mean image, so
that c_k drops out; what is left has 2 (K m_p + s^2) a pixel. K is the slope of that over the mean; s^2 comes
from dark differences. Spots are no flat field: PRNU and quantum efficiency need one (`camera-flat`), and are
not told here. Uncertainty: of variances of normal pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from labctl.devices import Camera, DeviceFault, LoopElectronics, WeightModulator
from labctl_calibration.flat_fields import FILLED
from labctl_calibration.optical.camera_part import by_the_sheet
from labctl_calibration.optical.spot_frames import FULL_IN, SpotFrames
from labctl_calibration.photon_transfer import QUANTISATION, Valued, linearity_error
from labctl_calibration.procedure import (
    Devices,
    FloatArray,
    Measured,
    Plot,
    Procedure,
    Quantity,
    Tell,
    Upstream,
    require,
)
from labctl_calibration.spots import KIND as SPOTS_KIND

KIND = "camera in place"
FRAMES = 32  # at each exposure
SHARES = (0.2, 0.4, 0.6, 0.8, 1.0)  # of the exposure that fills the brightest pixel as allowed
FULL = 2.2  # of the same: many pixels are full
OVER = 1.3  # of the full range, by the line through what is not full: such a pixel is full
REST = 0.95  # of saturation: where a linearity error is told up to, as the standard has it
DAY_S = 86400.0
MOST_NONLINEAR = 2.0  # %


@dataclass(frozen=True, eq=False)
class SpotsGain:
    """gain K (DN/e-), variance of a dark pixel (DN^2); of every exposure the sum of the means and of the
    variances that these explain.
    """

    gain: Valued
    dark_variance: Valued
    means: FloatArray
    variances: FloatArray


def spots_gain(levels: list[FloatArray], dark: FloatArray) -> SpotsGain:
    """Out of spots [L, s, p] at several exposures and in the dark, of which no pixel is full."""
    base = dark.mean(axis=0)
    differences = _differences(dark)
    still = float((differences**2).mean() / 2)
    still_error = still * float(np.sqrt(2 / differences.size))
    x, y, shots, pixels = [], [], [], []
    for frames in levels:
        mean, change = frames.mean(axis=0) - base, _differences(frames)
        square = (mean**2).sum(axis=1)
        left = change - ((change * mean).sum(axis=2) / square)[:, :, None] * mean
        free = mean.size - len(square)  # one projection a spot
        x.append(float(mean.sum() - ((mean**3).sum(axis=1) / square).sum()))
        y.append(float((left**2).sum(axis=(1, 2)).mean() / 2) - still * free)
        shots.append(np.maximum(mean, 0.0))
        pixels.append(free)
    means, variances = np.array(x), np.array(y)
    gain = float((means * variances).sum() / (means**2).sum())
    pairs = len(levels[0]) // 2
    scatter = [float(np.sqrt(2 * ((gain * mean + still) ** 2).sum() / pairs)) for mean in shots]
    error = np.hypot(scatter, still_error * np.array(pixels))
    sd = float(np.sqrt(((means * error) ** 2).sum()) / (means**2).sum())
    return SpotsGain(Valued(gain, sd), Valued(still, still_error), means, variances)


def _differences(frames: FloatArray) -> FloatArray:
    """Of pairs that share no frame."""
    return np.asarray(np.diff(frames, axis=0)[::2])


def _measure(devices: Devices, upstream: Upstream, tell: Tell) -> Measured:
    film = SpotFrames(devices, require(upstream, SPOTS_KIND), "camera in place")
    camera, exposures, shots = film.camera, [], []
    dark, _ = film.take(FRAMES, exposure_us=film.full_us, lit=False)
    for k, share in enumerate((*SHARES, FULL)):
        tell("exposures", k, len(SHARES) + 1)
        frames, exposure_us = film.take(FRAMES, exposure_us=share * film.full_us, lit=True)
        shots.append(frames)
        exposures.append(exposure_us)
    film.close()
    below, top = shots[:-1], camera.spec.max_code
    full = int((below[-1].max(axis=0) >= top).sum())
    if full:
        raise DeviceFault(
            f"saturated: {full} pixels are full in {exposures[-2]:.4g} us, which was to fill "
            f"{100 * FILLED:.0f}% of the range; allowed: 0; does the light rise?",
            device=camera.name, operation="camera in place",
        )  # fmt: skip
    found = spots_gain(below, dark)
    gain, still = found.gain, found.dark_variance
    if not gain.value > 0:
        raise DeviceFault(
            f"the variance of the spots does not rise with light ({gain.value:.3g} DN/e-); allowed: more "
            "than 0; are frames averaged in the camera?",
            device=camera.name, operation="camera in place",
        )  # fmt: skip
    base = dark.mean(axis=0)
    lit = [shot.mean(axis=0) - base for shot in shots]
    signal = np.array([float(mean.mean()) for mean in lit])
    low, high = linearity_error(np.array(exposures[:-1]), signal[:-1], float(signal[-2]) / REST)
    well = _full_well(lit[-2] * exposures[-1] / exposures[-2], lit[-1], top - base, gain)
    noise = float(np.sqrt(max(still.value - QUANTISATION, 0.0)))
    noise_sd = float(np.hypot(still.sd / (2 * max(noise, 1e-9)), noise * gain.sd / gain.value))
    spatial = max(float(base.var(ddof=1)) - still.value / FRAMES, 0.0)
    dsnu = float(np.sqrt(spatial))
    dsnu_sd = (spatial + still.value / FRAMES) * float(np.sqrt(2 / base.size)) / (2 * max(dsnu, 1e-9))
    least, most = by_the_sheet(camera)
    return Measured(
        kind=KIND,
        arrays={"exposure_us": np.array(exposures), "signal_dn": signal},
        quantities=(
            Quantity("system gain K", gain.value, gain.sd, "DN/e-", least, most, "by difference frames"),
            Quantity("temporal dark noise", noise / gain.value, noise_sd / gain.value, "e-"),
            Quantity("full well", well.value, well.sd, "e-", words="above black, of pixels that are full"),
            Quantity("DSNU1288", dsnu / gain.value,
                     float(np.hypot(dsnu_sd, dsnu * gain.sd / gain.value)) / gain.value, "e-",
                     words="of the spots' pixels"),
            Quantity("linearity error, lowest", low, np.nan, "%", low=-MOST_NONLINEAR),
            Quantity("linearity error, highest", high, np.nan, "%", high=MOST_NONLINEAR),
        ),
        settings={"frames": FRAMES, "emitter_code": film.code},
        findings=(
            f"{camera.name}, in place: K = {gain.value:.4f} DN/e-, dark noise {noise / gain.value:.2f} e-, "
            f"full at {well.value:.0f} e-",
        ),
        plots=(
            Plot("Photon transfer of the spots", found.means, found.variances, "sum of the means (DN)",
                 "their variance (DN2)", fit=gain.value * found.means),
        ),
    )  # fmt: skip


def _full_well(expected: FloatArray, seen: FloatArray, room: FloatArray, gain: Valued) -> Valued:
    """Electrons of pixels that would be far above the range, were they not full."""
    reached = seen[expected > OVER * room]
    if not reached.size:
        return Valued(np.nan, np.nan)
    electrons = float(reached.mean()) / gain.value
    return Valued(electrons, electrons * gain.sd / gain.value)


def _duration_s(devices: Devices) -> float:
    spec, panel = devices.get(Camera).spec, devices.get(WeightModulator).spec
    frame_us = spec.period_us(FULL_IN * spec.exposure_range_us[0], 24)
    return 1e-6 * (2 * panel.settle_time_us + (len(SHARES) + 2) * FRAMES * frame_us)


CAMERA_IN_PLACE = Procedure(
    name="camera-in-place", kind=KIND, title="camera in place", needs=(SPOTS_KIND,), device=Camera,
    roles=(WeightModulator, LoopElectronics, Camera), validity_s=30 * DAY_S,
    notices=("a saturated or dark camera", "frames that come twice", "frames averaged in the camera",
             "a response that is not linear"),
    duration_s=_duration_s, measure=_measure, essential=False,
)  # fmt: skip
