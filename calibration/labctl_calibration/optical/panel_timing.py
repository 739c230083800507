"""The panel in time: how long it takes to brighten and to darken, and how its light flickers.

Settling needs no model: the light of a half that was switched, read in short probes from the moment of the
frame on; settled from when it stays within 1% of its swing. Between probes the emitters stay on. Uncertainty:
the time between probes, evenly distributed, and what flicker moves a reading by. Flicker: lines in a series
of probes of steady light (rms of the whole, relative to the light), by least squares; its uncertainty by what
the lines leave.
"""

from __future__ import annotations

import numpy as np

from labctl.devices import DeviceFault, LoopElectronics, WeightModulator
from labctl_calibration.probing import Probing, half
from labctl_calibration.procedure import (
    Devices,
    FloatArray,
    Measured,
    Plot,
    Procedure,
    Quantity,
    Tell,
    Upstream,
)
from labctl_calibration.series import find_lines

KIND = "panel timing"
READS = 32  # probes of a settling
WINDOWS = 16  # of one probe
SPAN = 1.0  # of the data sheet's settling time that is watched
BAND = 0.01  # of the swing
DRIVE = 0.25  # of full emitter drive: bright detectors compress what flickers
STEADY = 4096  # probes of steady light
LEAST_SWING = 0.05  # units: less, and the panel does not switch
MOST_FLICKER = 2.0  # %
DAY_S = 86400.0


def _switched(probing: Probing, level: int) -> tuple[FloatArray, FloatArray]:
    """(times us [READS], light [READS] mean of the outputs) from the moment a level is shown on one half."""
    modulator, electronics = probing.modulator, probing.electronics
    spec = probing.spec
    frame = np.zeros(probing.panel.shape_px, np.uint16)
    frame[:, half(probing.panel, 0)] = level
    step_us = SPAN * probing.panel.settle_time_us / READS
    drive = round(DRIVE * spec.probe_dac.max_code)
    rest = max(1, round((step_us - WINDOWS * spec.window_us) / spec.window_us))
    still = np.full((1, spec.n_channels), drive, np.int64)
    modulator.show(frame, wait=False)
    time_us, times, seen = 0.0, [], []
    for _ in range(READS):
        read = electronics.probe(still, at="emitter", repeats=WINDOWS)
        times.append(time_us)
        seen.append(float(probing.wiring.rows(read.counts).mean()) * spec.offset_dac.units_per_code)
        electronics.probe(still, at="emitter", repeats=rest)
        time_us += (WINDOWS + rest) * spec.window_us
    return np.array(times), np.array(seen)


def settled_us(time_us: FloatArray, light: FloatArray) -> tuple[float, float]:
    """When the light enters the band around its end for good, between two readings by a line, and by how much
    of its end an error of a reading moves that (us a share); infinite where it does not stay for a quarter of
    the series.
    """
    end = float(light[-len(light) // 8 :].mean())
    away = np.abs(light - end) / max(abs(float(light[0]) - end), 1e-12)
    outside = np.flatnonzero(away > BAND)
    if not len(outside):
        return 0.0, 0.0
    last = int(outside[-1])
    if last >= 3 * len(light) // 4:
        return float("inf"), 0.0
    fall, step_us = float(away[last] - away[last + 1]), float(time_us[last + 1] - time_us[last])
    brightest = float(np.abs(light[[last, last + 1]]).max()) / max(abs(float(light[0]) - end), 1e-12)
    return float(time_us[last]) + (float(away[last]) - BAND) / fall * step_us, step_us / fall * brightest


def _measure(devices: Devices, upstream: Upstream, tell: Tell) -> Measured:
    modulator, electronics = devices.get(WeightModulator), devices.get(LoopElectronics)
    probing = Probing(modulator, electronics)
    n, top = probing.spec.n_channels, probing.panel.n_levels - 1
    probing.show_half(0, 0)
    dark = probing.probe(np.zeros((64, n))).mean(axis=0)
    time_us, rising = _switched(probing, top)
    probing.show_half(0, top)
    steady = probing.probe(np.full((STEADY, n), DRIVE))
    _, falling = _switched(probing, 0)
    swing = abs(float(rising[-1] - rising[0]))
    if swing < LEAST_SWING:
        raise DeviceFault(
            f"the panel does not switch: from dark to full the light changes by {swing:.3g} units; allowed: "
            f"{LEAST_SWING:g} or more",
            device=modulator.name, operation="panel timing",
        )  # fmt: skip
    step_us = float(time_us[1])
    lines = find_lines(steady, probing.spec.window_us)
    mean = steady.mean(axis=0) - dark
    relative = lines.amplitude / mean
    flicker = float(np.sqrt((np.abs(relative.mean(axis=1)) ** 2).sum() / 2))
    flicker_sd = float(np.sqrt(np.mean(lines.rest.var(axis=0) / mean**2) / STEADY / n))
    strongest = np.abs(relative.mean(axis=1)).argmax() if len(relative) else None
    frequency_hz = float("nan") if strongest is None else float(lines.frequency_hz[strongest])
    limit_us = probing.panel.settle_time_us
    (rise_us, rise_by), (fall_us, fall_by) = (settled_us(time_us, light) for light in (rising, falling))
    rise_sd, fall_sd = (
        float(np.hypot(step_us / np.sqrt(12), np.sqrt(2) * flicker * by)) for by in (rise_by, fall_by)
    )
    return Measured(
        kind=KIND,
        arrays={
            "time_us": time_us,
            "rising_units": rising,
            "falling_units": falling,
        },
        quantities=(
            Quantity("brightens in", rise_us, rise_sd, "us", high=limit_us,
                     words="to within 1% of the swing"),
            Quantity("darkens in", fall_us, fall_sd, "us", high=limit_us,
                     words="to within 1% of the swing"),
            Quantity("flicker", 100 * flicker, 100 * flicker_sd, "%", high=MOST_FLICKER,
                     words="of the light, rms of its lines"),
            Quantity("flicker frequency", frequency_hz, np.nan, "Hz", words="of the strongest line"),
        ),
        settings={"probes": STEADY, "reads": READS},
        findings=(
            f"the panel brightens in {rise_us / 1e3:.1f} ms and darkens in {fall_us / 1e3:.1f} (data sheet "
            f"{limit_us / 1e3:.1f} ms); its light flickers by {100 * flicker:.2g}% rms",
        ),
        plots=(
            Plot("The panel brightens", time_us / 1e3, rising, "time (ms)", "light (units)"),
            Plot("The panel darkens", time_us / 1e3, falling, "time (ms)", "light (units)"),
        ),
    )  # fmt: skip


def _duration_s(devices: Devices) -> float:
    panel, loop = devices.get(WeightModulator).spec, devices.get(LoopElectronics).spec
    return 1e-6 * ((2 + 2 * SPAN) * panel.settle_time_us + (STEADY + 64) * loop.window_us)


PANEL_TIMING = Procedure(
    name="panel-timing", kind=KIND, title="panel settling and flicker", needs=(), device=WeightModulator,
    roles=(WeightModulator, LoopElectronics), validity_s=7 * DAY_S,
    notices=("a panel slower than its data sheet", "a panel that does not switch", "strong flicker"),
    duration_s=_duration_s, measure=_measure, essential=False,
)  # fmt: skip
