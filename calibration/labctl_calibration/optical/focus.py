"""Focus: how wide the camera's spots are, and how much light leaves their squares.

Model: a spot is a patch of the relay's width, blurred. Estimator: second moments of the average of frames,
dark subtracted, about the centre of light, over the spot's square; medians over the spots. Uncertainty: by
the scatter from spot to spot (pixels differ), of a median. A blur of s px widens the rms width w to
sqrt(w^2 + s^2).
"""

from __future__ import annotations

import numpy as np

from labctl.devices import Camera, LoopElectronics, WeightModulator
from labctl_calibration.optical.spot_frames import FULL_IN, SpotFrames
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

KIND = "focus"
FRAMES = 64
WIDEST = 0.24  # of the pitch, rms: a spot that fills two thirds of its square evenly has 0.19
MOST_AT_RIM = 3.0  # % of a spot's light in the outermost pixels of its square
MEDIAN = 1.2533  # standard error of a median, of that of a mean
DAY_S = 86400.0


def widths(images: FloatArray, pitch: int) -> tuple[FloatArray, FloatArray]:
    """rms widths (down, across) [s, 2] (px) of spots [s, p], and the share of light in the rim [s]."""
    image = images.reshape(-1, pitch, pitch)
    total = image.sum(axis=(1, 2))
    place = np.arange(pitch) - (pitch - 1) / 2
    found = np.empty((len(image), 2))
    for axis in (0, 1):
        along = image.sum(axis=2 - axis)
        centre = (along * place).sum(axis=1) / total
        found[:, axis] = (along * (place - centre[:, None]) ** 2).sum(axis=1) / total
    inside = image[:, 1:-1, 1:-1].sum(axis=(1, 2))
    return np.sqrt(np.maximum(found, 0.0)), 1 - inside / total


def _measure(devices: Devices, upstream: Upstream, tell: Tell) -> Measured:
    film = SpotFrames(devices, require(upstream, SPOTS_KIND), "focus")
    dark, lit = (
        film.take(FRAMES, exposure_us=film.full_us, lit=lit)[0].mean(axis=0) for lit in (False, True)
    )
    film.close()
    pitch, n = film.pitch, len(dark) // 2
    width, rim = widths(lit - dark, pitch)
    middle = np.median(width, axis=0)
    error = MEDIAN * width.std(axis=0, ddof=1) / np.sqrt(len(width))
    worst = int(width.max(axis=1).argmax())
    at_rim = 100 * float(np.median(rim))
    return Measured(
        kind=KIND,
        arrays={
            "spot_width_px": width.reshape(2, -1, 2),
            "rim_share": rim.reshape(2, -1),
        },
        quantities=(
            Quantity("spot width, down", float(middle[0]), float(error[0]), "px", high=WIDEST * pitch,
                     words="rms, median"),
            Quantity("spot width, across", float(middle[1]), float(error[1]), "px", high=WIDEST * pitch,
                     words="rms, median"),
            Quantity("widest spot", float(width[worst].max()), float(width.std(ddof=1)), "px",
                     words=f"output {worst % n}, path {worst // n}"),
            Quantity("light at the rim", at_rim, 100 * float(MEDIAN * rim.std(ddof=1) / np.sqrt(len(rim))),
                     "%", high=MOST_AT_RIM, words="of a spot's square, median"),
        ),
        settings={"frames": FRAMES, "emitter_code": film.code, "exposure_us": film.full_us},
        findings=(
            f"spots are {middle[0]:.2f} px high and {middle[1]:.2f} px wide (rms); {at_rim:.2g}% of their "
            "light lies at the rim of their squares",
        ),
        plots=(
            Plot("Width of the spots of the positive path", np.arange(n, dtype=np.float64), width[:n, 1],
                 "output channel", "rms width across (px)"),
        ),
    )  # fmt: skip


def _duration_s(devices: Devices) -> float:
    spec, panel = devices.get(Camera).spec, devices.get(WeightModulator).spec
    frame_us = spec.period_us(FULL_IN * spec.exposure_range_us[0], 24)
    return 1e-6 * (2 * panel.settle_time_us + 2 * FRAMES * frame_us)


FOCUS = Procedure(
    name="focus", kind=KIND, title="focus", needs=(SPOTS_KIND,), device=Camera,
    roles=(WeightModulator, LoopElectronics, Camera), validity_s=7 * DAY_S,
    notices=("an image out of focus", "a saturated or dark camera", "frames that come twice"),
    duration_s=_duration_s, measure=_measure, essential=False,
)  # fmt: skip
