"""Warm-up: the light is kept on, and read, until it changes slowly.

Model: over the last two minutes the light of all outputs is a line in time. Estimator: least squares over
blocks; the mean of the outputs' magnitudes, each relative to its own mean. Uncertainty: their
scatter around the line. Accepted when the slope is below the limit; after `LONGEST_S` in vain a record is out
of range, which says how fast the bench still drifts.
"""

from __future__ import annotations

import numpy as np

from labctl.devices import DeviceFault, LoopElectronics, WeightModulator
from labctl_calibration.darks import REPEATS as DARK_REPEATS
from labctl_calibration.probing import Probing
from labctl_calibration.procedure import Devices, Measured, Plot, Procedure, Quantity, Tell, Upstream

KIND, TEMPERATURE = "warm-up", "temperature"
BLOCK_S = 10.0
BLOCKS = 12  # of a line
WINDOWS = 1024  # of a reading: some milliseconds, a period or more of what panels flicker by
LONGEST_S = 40 * 60.0
LIMIT = 0.05  # % a minute
LEAST_LIGHT = 0.05  # units a channel, emitters at rest: less is the leak of a dark panel, or nothing
VALID_S = 4 * 3600.0


def _measure(devices: Devices, upstream: Upstream, tell: Tell) -> Measured:
    electronics = devices.get(LoopElectronics)
    probing = Probing(devices.get(WeightModulator), electronics)
    n, window_us = probing.spec.n_channels, probing.spec.window_us
    dark = probing.probe(np.zeros((DARK_REPEATS, n)))
    probing.show_half(0, probing.panel.n_levels - 1)
    repeats = max(1, round(BLOCK_S * 1e6 / window_us) - WINDOWS)
    block_s = (repeats + WINDOWS) * window_us * 1e-6
    light: list[np.ndarray] = []
    temperature: list[float] = []
    slope = sd = np.inf
    most = int(LONGEST_S / block_s)
    while len(light) < max(most, BLOCKS):
        tell("warming up", len(light), max(most, BLOCKS))
        light.append(probing.probe(np.zeros((WINDOWS, n)), at="phi").mean(axis=0) - dark.mean(axis=0))
        electronics.probe(np.zeros((1, n), np.int64), repeats=repeats)  # the light stays on
        temperature.append(electronics.temperature_c())
        if len(light) == 1:
            _require_light(light[0], electronics)
        if len(light) >= BLOCKS:
            slope, sd = _slope(np.stack(light), block_s)
            if abs(slope) + 2 * sd <= LIMIT:
                break
    probing.show_half(0, 0)
    seen = np.stack(light)
    relative = np.asarray(100 * (np.abs(seen) / np.abs(seen[0]).clip(1e-12)).mean(axis=1), np.float64)
    time_min = np.asarray(block_s / 60 * np.arange(len(light)), np.float64)
    return Measured(
        kind=KIND,
        arrays={"slope_percent_per_min": np.array([slope]), "slope_percent_per_min_sd": np.array([sd])},
        raw={"light_units": seen, "temperature_c": np.array(temperature)},
        quantities=(
            Quantity("slope of the light", slope, sd, "%/min", low=-LIMIT, high=LIMIT,
                     words="over the last two minutes"),
            Quantity("warmed up in", float(block_s * len(light)), block_s / np.sqrt(12), "s"),
            Quantity(TEMPERATURE, temperature[-1], np.nan, "C", words="of the electronics, at the end"),
        ),
        settings={"blocks": len(light), "block_s": block_s},
        findings=(
            f"after {block_s * len(light):.0f} s the light changes by {slope:+.3f}% a minute at "
            f"{temperature[-1]:.1f} C",
        ),
        plots=(Plot("Warm-up", time_min, relative, "time (min)", "light (% of the first reading)"),),
    )  # fmt: skip


def _slope(light: np.ndarray, block_s: float) -> tuple[float, float]:
    """% a minute over the last `BLOCKS` blocks [B, n], and its standard error."""
    last = light[-BLOCKS:]
    relative = (np.abs(last) / np.abs(last).mean(axis=0).clip(1e-12)).mean(axis=1)
    time_min = block_s / 60 * (np.arange(BLOCKS) - (BLOCKS - 1) / 2)
    square = float((time_min**2).sum())
    slope = float((time_min * relative).sum()) / square
    left = relative - relative.mean() - slope * time_min
    return 100 * slope, 100 * float(np.sqrt((left**2).sum() / (BLOCKS - 2) / square))


def _require_light(light: np.ndarray, electronics: LoopElectronics) -> None:
    seen, least = float(np.median(np.abs(light))), LEAST_LIGHT * electronics.spec.n_channels
    if seen < least:
        raise DeviceFault(
            f"no light to watch: outputs have {seen:.3g} units with the emitters at rest and a bright panel; "
            f"allowed: {least:.3g} or more; is a lens cap on, is the panel blank?",
            device=electronics.name, operation="warm up",
        )  # fmt: skip


def _duration_s(devices: Devices) -> float:
    return BLOCK_S * BLOCKS


WARM_UP = Procedure(
    name="warm-up", kind=KIND, title="warm-up", needs=(), device=LoopElectronics,
    roles=(WeightModulator, LoopElectronics), validity_s=VALID_S,
    notices=("a bench that still drifts", "no light, or a lens cap"),
    duration_s=_duration_s, measure=_measure, essential=False,
)  # fmt: skip
