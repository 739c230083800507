"""The camera in the dark: black level, temporal noise, fixed offsets, dark current, hot pixels; in counts.

Model: y = black + offset_p + dark_p t + noise. Estimator: stacks of frames with every emitter off, at the
shortest exposure and at a long one; per-pixel averages, whose spatial variance is corrected for what temporal
noise leaves in it (EMVA 1288, 8.1). Uncertainty: of variances of independent pixels.
"""

from __future__ import annotations

import numpy as np

from labctl.devices import Camera, DeviceFault, LoopElectronics
from labctl_calibration.lamps import Lamps
from labctl_calibration.optical.camera_part import frames_of, use_middle
from labctl_calibration.photon_transfer import QUANTISATION, stack
from labctl_calibration.procedure import Devices, Measured, Procedure, Quantity, Tell, Upstream

KIND = "camera dark"
FRAMES = 24  # at each exposure
LONG_US = 50_000.0  # where dark current stands clear of the read noise
HOT_SD = 8.0  # of the per-pixel average, above the median: a hot pixel
MOST_HOT = 1.0  # % of the pixels
LIGHT_DN = 8.0  # mean above the black level that is set: more is light, not the dark
DAY_S = 86400.0


def _measure(devices: Devices, upstream: Upstream, tell: Tell) -> Measured:
    camera = devices.get(Camera)
    Lamps(devices.get(LoopElectronics)).off()
    short_us, longest_us = camera.spec.exposure_range_us
    long_us = min(LONG_US, longest_us)
    use_middle(camera, exposure_us=short_us)
    frames = frames_of(camera, FRAMES, "camera dark")
    black = camera.settings.black_level_codes
    short = stack(frames)
    require_dark(camera, short.mean, black)
    camera.configure({"ExposureTime": long_us})
    later = frames_of(camera, FRAMES, "camera dark")
    noise = float(np.sqrt(max(short.temporal_variance - QUANTISATION, 0.0)))
    pixels = short.pixels
    noise_sd = short.temporal_variance * np.sqrt(2 / (pixels * (FRAMES - 1))) / (2 * max(noise, 1e-9))
    spatial = max(short.spatial_variance, 0.0)
    dsnu = float(np.sqrt(spatial))
    rise = later.mean(axis=0) - frames.mean(axis=0)
    middle, time_s = float(np.median(rise)), (long_us - short_us) * 1e-6
    spread = float(np.median(np.abs(rise - middle))) * 1.4826
    hot = rise > middle + HOT_SD * spread
    usual = float(rise[~hot].mean()) / time_s
    usual_sd = float(rise[~hot].std(ddof=1) / np.sqrt((~hot).sum())) / time_s
    share = float(hot.mean())
    return Measured(
        kind=KIND,
        arrays={
            "black_level_dn": np.array([short.mean]),
            "black_level_dn_sd": np.array([np.sqrt((spatial + short.temporal_variance / FRAMES) / pixels)]),
            "dark_noise_dn": np.array([noise]),
            "dark_noise_dn_sd": np.array([noise_sd]),
        },
        quantities=(
            Quantity("black level", short.mean, float(np.sqrt(short.temporal_variance / FRAMES / pixels)),
                     "DN", low=1.0, words="mean of dark frames at the shortest exposure"),
            Quantity("temporal dark noise", noise, float(noise_sd), "DN", low=0.0,
                     words="of a pixel, less rounding"),
            Quantity("fixed offsets", dsnu, short.spatial_error / (2 * max(dsnu, 1e-9)), "DN",
                     words="from pixel to pixel, rms (DSNU)"),
            Quantity("dark current", usual, usual_sd, "DN/s", words="mean of the pixels that are not hot"),
            Quantity("hot pixels", 100 * share, float(100 * np.sqrt(max(share, 1 / pixels) / pixels)), "%",
                     high=MOST_HOT, words=f"that rise {HOT_SD:g} sd above the others in {long_us:g} us"),
        ),
        settings={"frames": FRAMES, "exposure_us": short_us, "long_exposure_us": long_us},
        findings=(
            f"{camera.name}: in the dark {short.mean:.2f} DN with {noise:.2f} DN rms from frame to frame and "
            f"{dsnu:.2f} DN from pixel to pixel; {100 * share:.2g}% of the pixels are hot",
        ),
        raw={"first_dark_frame": frames[0]},
    )  # fmt: skip


def require_dark(camera: Camera, mean: float, black: int) -> None:
    """DeviceFault where frames with every lamp off are brighter than the black level allows, or full."""
    if not abs(mean - black) <= LIGHT_DN:
        raise DeviceFault(
            f"with every emitter off, the shortest frames have {mean:.4g} DN on average; allowed: "
            f"the black level, {black}, within {LIGHT_DN:g}; is there light from elsewhere, is the sensor "
            "saturated?",
            device=camera.name, operation="camera dark",
        )  # fmt: skip


def _duration_s(devices: Devices) -> float:
    spec = devices.get(Camera).spec
    short_us, longest_us = spec.exposure_range_us
    return 1e-6 * FRAMES * (spec.period_us(short_us, 160) + spec.period_us(min(LONG_US, longest_us), 160))


CAMERA_DARK = Procedure(
    name="camera-dark", kind=KIND, title="camera in the dark", needs=(), device=Camera,
    roles=(LoopElectronics, Camera), validity_s=7 * DAY_S,
    notices=("light from elsewhere", "a saturated sensor", "frames that come twice", "too many hot pixels"),
    duration_s=_duration_s, measure=_measure, essential=False,
)  # fmt: skip
