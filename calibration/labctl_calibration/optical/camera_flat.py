"""The camera by the whole of EMVA Standard 1288, in front of an even light: what the data sheet should say.

Model and estimators: `photon_transfer`. One steady light, exposures from a fiftieth of saturation to past
it, closely spaced at the end; a pair of frames in the light and in the dark at each; stacks of frames at
half of saturation and in the dark. The sphere stands where the image would be: for it, somebody has to move
the camera.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from labctl.devices import Camera, DeviceFault, FlatField
from labctl_calibration.optical.camera_part import PART_PX, by_the_sheet, frames_of, use_middle
from labctl_calibration.photon_transfer import PhotonTransfer, Series, pair, photon_transfer, stack
from labctl_calibration.procedure import (
    Devices,
    Measured,
    Plot,
    Procedure,
    Quantity,
    Tell,
    Upstream,
)

KIND = "camera (EMVA 1288)"
RISING = np.linspace(0.02, 0.88, 20)  # exposures, of the one that saturates
NEAR = np.linspace(0.90, 1.12, 23)  # a hundredth apart: where the variance falls
STACK_FRAMES = 48
KEPT_FRAMES = 8  # of each stack among the raw readings
FULL_IN_US = 200.0  # exposure in which the light is to fill the wells
LEAST_RISE = 0.002  # of the range: less light than that on a trial, and it is dark
YEAR_S = 365.25 * 86400.0
MOST_NONLINEAR = 1.5  # %


def measure_series(
    camera: Camera, light: FlatField, tell: Tell
) -> tuple[Series, dict[str, NDArray[np.uint16]], PhotonTransfer]:
    """Series, raw stacks and the standard's values. Raises DeviceFault for a camera that sees no light or is
    full at the shortest exposure, and what `photon_transfer` raises.
    """
    spec = camera.spec
    exposure_us, rate = _lit(camera, light)
    wanted = exposure_us * np.concatenate([RISING, NEAR])
    rows: list[tuple[float, ...]] = []
    for k, asked_us in enumerate(wanted):
        tell("exposures", k, len(wanted))
        set_us = float(camera.configure({"ExposureTime": float(asked_us)}).exposure_us)
        seen = []
        for photons_per_us in (rate, 0.0):
            light.set_photons_per_us(photons_per_us)
            full = photons_per_us > 0 and asked_us >= NEAR[0] * exposure_us
            seen.append(pair(*frames_of(camera, 2, "photon transfer", may_be_full=full)))
        rows.append((set_us, set_us * rate, *seen[0], *seen[1]))
    table = np.array(rows)
    series = Series(
        exposure_us=table[:, 0],
        photons=table[:, 1],
        mean=table[:, 2],
        variance=table[:, 3],
        dark_mean=table[:, 4],
        dark_variance=table[:, 5],
        pixels=camera.settings.width_px * camera.settings.height_px,
    )
    camera.configure({"ExposureTime": float(exposure_us / 2)})
    stacks: dict[str, NDArray[np.uint16]] = {}
    for name, photons_per_us in (("dark", 0.0), ("half", rate)):
        light.set_photons_per_us(photons_per_us)
        stacks[name] = frames_of(camera, min(STACK_FRAMES, spec.max_frames), "photon transfer")
    light.set_photons_per_us(0.0)
    found = photon_transfer(series, stack(stacks["dark"]), stack(stacks["half"]), device=camera.name)
    return series, stacks, found


def _lit(camera: Camera, light: FlatField) -> tuple[float, float]:
    """Exposure that saturates, and photons a microsecond; frames are of the middle of the sensor."""
    spec = camera.spec
    shortest_us, longest_us = spec.exposure_range_us
    exposure_us = float(np.clip(FULL_IN_US, shortest_us / RISING[0], longest_us / NEAR[-1]))
    filling = spec.full_well_e / spec.quantum_efficiency / exposure_us
    rate = min(filling, light.spec.max_photons_per_us)
    exposure_us = min(exposure_us * filling / rate, longest_us / float(NEAR[-1]))
    use_middle(camera, exposure_us=exposure_us * 0.25)
    means = {}
    for photons_per_us in (0.0, rate):
        light.set_photons_per_us(photons_per_us)
        means[photons_per_us] = pair(*frames_of(camera, 2, "photon transfer"))[0]
    room, rise = spec.max_code - means[0.0], means[rate] - means[0.0]
    if not room > 0.05 * spec.max_code:
        raise DeviceFault(
            f"saturated in the dark: {means[0.0]:.4g} of {spec.max_code} DN without light; allowed: "
            f"{0.95 * spec.max_code:.4g} or less",
            device=camera.name, operation="photon transfer",
        )  # fmt: skip
    if rise < LEAST_RISE * room:
        raise DeviceFault(
            f"dark: {rate:.4g} photons a microsecond on each pixel bring {rise:.3g} DN in "
            f"{exposure_us / 4:.4g} us; allowed: {LEAST_RISE * room:.3g} or more; is the lens cap on, is the "
            "flat field lit?",
            device=camera.name, operation="photon transfer",
        )  # fmt: skip
    if rise > 0.9 * room:
        raise DeviceFault(
            f"saturated: {rate:.4g} photons a microsecond fill the pixels in {exposure_us / 4:.4g} us, a "
            "quarter of what the data sheet says; allowed: 90% of the range",
            device=camera.name, operation="photon transfer",
        )  # fmt: skip
    full_us = exposure_us * 0.25 * room / rise
    return float(np.clip(full_us, shortest_us / RISING[0], longest_us / NEAR[-1])), rate


def _measure(devices: Devices, upstream: Upstream, tell: Tell) -> Measured:
    camera, light = devices.get(Camera), devices.get(FlatField)
    series, stacks, found = measure_series(camera, light, tell)
    low, high = found.linearity_error
    signal, gain = series.signal, found.system_gain.value
    rise = series.variance - series.dark_variance
    lit, sheet = light.spec.photons_error, by_the_sheet(camera)
    return Measured(
        kind=KIND,
        arrays={
            "exposure_us": series.exposure_us,
            "photons": series.photons,
            "mean_dn": series.mean,
            "variance_dn2": series.variance,
            "dark_mean_dn": series.dark_mean,
            "dark_variance_dn2": series.dark_variance,
        },
        quantities=(
            Quantity("system gain K", found.system_gain.value, found.system_gain.sd, "DN/e-", *sheet),
            Quantity("responsivity R", found.responsivity.value,
                     float(np.hypot(found.responsivity.sd, lit * found.responsivity.value)), "DN/photon"),
            Quantity("quantum efficiency", 100 * found.quantum_efficiency.value,
                     100 * float(np.hypot(found.quantum_efficiency.sd, lit * found.quantum_efficiency.value)),
                     "%", low=0.0, high=100.0),
            Quantity("temporal dark noise", found.dark_noise.value, found.dark_noise.sd, "e-"),
            Quantity("saturation capacity", found.saturation.value, found.saturation.sd, "e-"),
            Quantity("full well", found.full_well.value, found.full_well.sd, "e-",
                     words="where every pixel is full; the standard's saturation lies where the first are"),
            Quantity("SNR_max", found.snr_max.value, found.snr_max.sd),
            Quantity("dynamic range", 20 * float(np.log10(found.dynamic_range)), np.nan, "dB"),
            Quantity("linearity error, lowest", low, np.nan, "%", low=-MOST_NONLINEAR),
            Quantity("linearity error, highest", high, np.nan, "%", high=MOST_NONLINEAR),
            Quantity("DSNU1288", found.dsnu.value, found.dsnu.sd, "e-"),
            Quantity("PRNU1288", found.prnu.value,
                     float(np.hypot(found.prnu.sd, 100 * light.spec.unevenness**2)), "%"),
        ),
        settings={"stack_frames": len(stacks["half"]), "pixels": series.pixels},
        findings=(
            f"{camera.name}: K = {found.system_gain.value:.4f} DN/e-, dark noise "
            f"{found.dark_noise.value:.2f} e-, saturation {found.saturation.value:.0f} e-, PRNU "
            f"{found.prnu.value:.2f}%",
        ),
        plots=(
            Plot("Photon transfer", signal, rise, "mean above dark (DN)", "variance above dark (DN2)",
                 fit=np.where(np.arange(len(signal)) <= found.last, gain * signal, np.nan)),
        ),
        raw={name: frames[:KEPT_FRAMES] for name, frames in stacks.items()},
    )  # fmt: skip


def _duration_s(devices: Devices) -> float:
    period: Callable[[float, int], float] = devices.get(Camera).spec.period_us
    whole = 4 * sum(period(FULL_IN_US * share, PART_PX[0]) for share in np.concatenate([RISING, NEAR]))
    return 1e-6 * float(whole + 2 * STACK_FRAMES * period(FULL_IN_US / 2, PART_PX[0]))


CAMERA_FLAT = Procedure(
    name="camera-flat", kind=KIND, title="camera by EMVA 1288", needs=(), device=Camera,
    roles=(Camera, FlatField), validity_s=YEAR_S,
    notices=("a dark camera, or a lens cap", "a saturated camera", "frames that come twice",
             "frames averaged in the camera",
             "a response that is not linear"),
    duration_s=_duration_s, measure=_measure, essential=False,
)  # fmt: skip
