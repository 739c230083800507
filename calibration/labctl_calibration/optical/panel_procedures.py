"""The panel's half of a bench as procedures: from darks to what every cell shows at every level."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from labctl.devices import LoopElectronics, Scalar, WeightModulator
from labctl_calibration import darks as darks_module
from labctl_calibration.darks import measure_darks
from labctl_calibration.emitters import DRIVES, measure_emitters
from labctl_calibration.emitters import REPEATS as EMITTER_REPEATS
from labctl_calibration.levels import DARK_ROUNDS, END_ROUNDS, KNOTS, measure_levels
from labctl_calibration.light_check import check_light
from labctl_calibration.linearity import DIVISIONS, measure_linearity
from labctl_calibration.linearity import ROUNDS as LINEARITY_ROUNDS
from labctl_calibration.optical.durations import taking
from labctl_calibration.optical.found import (
    darks_of,
    emitters_of,
    linearity_of,
    of_darks,
    of_emitters,
    of_light,
    of_linearity,
    of_registration,
    registration_of,
    sides_of,
)
from labctl_calibration.panel_record import KIND as PANEL_KIND
from labctl_calibration.panel_record import panel_arrays
from labctl_calibration.probing import ROUNDS, Probing
from labctl_calibration.procedure import Devices, Measured, Plot, Procedure, Quantity, Tell, Upstream, require
from labctl_calibration.registration import ROUNDS as REGISTRATION_ROUNDS
from labctl_calibration.registration import register

DARKS, LIGHT, LINEARITY, EMITTERS, REGISTRATION = (
    "dark levels", "light", "detector linearity", "emitters", "registration",
)  # fmt: skip
DAY_S = 86400.0
PLACES_PX = 0.5  # rms of centroids around the map: more, and cells take light from their neighbours
MOST_COMPRESSION = 20.0  # % at the largest current: the series that straightens it ends at the second order


def _probing(devices: Devices) -> Probing:
    return Probing(devices.get(WeightModulator), devices.get(LoopElectronics))


def _used(probing: Probing) -> Mapping[str, Scalar]:
    used = probing.used
    return {"frames": used.frames, "probes": used.probes, "device_s": used.modelled_s}


def _darks(devices: Devices, upstream: Upstream, tell: Tell) -> Measured:
    probing = Probing.by_channel(devices.get(WeightModulator), devices.get(LoopElectronics))
    found = measure_darks(probing)
    n, channels = len(found.level_units), np.arange(len(found.level_units), dtype=np.float64)
    worst = int(np.abs(found.level_units).argmax())
    noise = float(np.median(found.noise_units))
    return Measured(
        kind=DARKS,
        arrays=of_darks(found, darks_module.REPEATS),
        quantities=(
            Quantity(
                "largest dark level", float(found.level_units[worst]), float(found.error_units[worst]),
                "units", words="of a detector, in photocurrents of a full-scale weight",
            ),
            Quantity(
                "window noise", noise, noise / float(np.sqrt(2 * n * (darks_module.REPEATS - 1))), "units",
                words="of one read-out window in the dark, median of the detectors",
            ),
        ),
        settings=_used(probing),
        raw=probing.raw,
        findings=(found.found,),
        plots=(
            Plot("Dark levels", channels, found.level_units, "output channel", "dark level (units)",
                 sd=found.error_units),
        ),
    )  # fmt: skip


def _light(devices: Devices, upstream: Upstream, tell: Tell) -> Measured:
    probing = _probing(devices)
    found = check_light(probing, darks_of(require(upstream, DARKS)).by_row(probing.wiring))
    return Measured(
        kind=LIGHT,
        arrays=of_light(found),
        quantities=(Quantity("light of a cell", found.per_cell_units, np.nan, "units", words="median"),),
        settings=_used(probing),
        raw=probing.raw,
        findings=(found.found,),
    )


def _linearity(devices: Devices, upstream: Upstream, tell: Tell) -> Measured:
    probing = _probing(devices)
    found = measure_linearity(probing, sides_of(require(upstream, LIGHT)))
    k, largest = np.median(found.compression, axis=1), found.largest_units
    error = np.median(found.error, axis=1) / np.sqrt(found.error.shape[1])
    channels = np.arange(found.compression.shape[1], dtype=np.float64)
    return Measured(
        kind=LINEARITY,
        arrays=of_linearity(found),
        quantities=tuple(
            Quantity(
                f"compression, {sign} path", float(100 * k[path] * largest[path]),
                float(100 * error[path] * largest[path]), "%", high=MOST_COMPRESSION,
                words=f"of the detectors at {largest[path]:.3g} units, median",
            )
            for path, sign in enumerate(("positive", "negative"))
        ),
        settings=_used(probing),
        raw=probing.raw,
        findings=(found.found,),
        plots=tuple(
            Plot(f"Compression, {sign} path", channels, found.compression[path], "output channel",
                 "compression (1/unit)", sd=found.error[path])
            for path, sign in enumerate(("positive", "negative"))
        ),
    )  # fmt: skip


def _emitters(devices: Devices, upstream: Upstream, tell: Tell) -> Measured:
    probing = _probing(devices)
    linearity, sides = linearity_of(require(upstream, LINEARITY)), sides_of(require(upstream, LIGHT))
    found = measure_emitters(probing, linearity, sides)
    n = len(found.order)
    light, error = found.slope_units.min(axis=0), found.slope_error_units.max(axis=0)
    worst = int(found.order[n - 1 - len(found.dead)])
    best, names = int(found.order[0]), probing.wiring.channel_of_column
    return Measured(
        kind=EMITTERS,
        arrays=of_emitters(found),
        quantities=(
            Quantity("dead input channels", float(len(found.dead)), 0.0, words="of " + str(n)),
            Quantity("weak input channels", float(len(found.weak)), np.nan, words="below half of the median"),
            Quantity(
                "weakest live emitter", float(100 * light[worst] / light[best]),
                float(100 * np.hypot(error[worst], error[best]) / light[best]), "%",
                words=f"channel {names[worst]}, of the light of the best, {names[best]}",
            ),
        ),
        settings=_used(probing),
        raw=probing.raw,
        findings=(found.found,),
        plots=(
            Plot("Light of the emitters", np.arange(n, dtype=np.float64), light, "input channel",
                 "light (units for a unit of phi)", sd=error),
        ),
    )  # fmt: skip


def _registration(devices: Devices, upstream: Upstream, tell: Tell) -> Measured:
    probing = _probing(devices)
    found = register(probing)
    quantities = []
    for sign, path in zip(("positive", "negative"), found.paths, strict=True):
        quantities += [
            Quantity(
                f"{sign} field, down", float(path.shift_px[0]), path.error_px, "px",
                words="against the design",
            ),
            Quantity(
                f"{sign} field, right", float(path.shift_px[1]), path.error_px, "px",
                words="against the design",
            ),
            Quantity(
                f"{sign} field, scatter", path.residual_px, np.nan, "px", high=PLACES_PX,
                words=f"rms of {path.used} cells' centroids around the map",
            ),
        ]  # fmt: skip
    return Measured(
        kind=REGISTRATION,
        arrays=of_registration(found),
        quantities=tuple(quantities),
        settings={**_used(probing), "temperature_c": found.temperature_c, "swapped_planes": found.swapped},
        raw=probing.raw,
        findings=found.found,
    )


def _levels(devices: Devices, upstream: Upstream, tell: Tell) -> Measured:
    probing = _probing(devices)
    darks = darks_of(require(upstream, DARKS)).by_row(probing.wiring)
    emitters = emitters_of(require(upstream, EMITTERS))
    linearity = linearity_of(require(upstream, LINEARITY))
    registration = registration_of(require(upstream, REGISTRATION))
    found = measure_levels(probing, darks, emitters, registration)
    probing.show_half(0, 0)
    wiring = probing.electronics.wiring
    arrays = panel_arrays(darks, linearity, emitters, registration, found, wiring)
    lives = ~np.isin(np.arange(probing.spec.n_channels), emitters.dead)
    full = float(arrays["full_scale_units"][0])
    live_sd = found.span_error[:, :, lives]
    return Measured(
        kind=PANEL_KIND,
        arrays=arrays,
        quantities=(
            Quantity(
                "full scale", full, float(np.median(live_sd)), "units",  # cells share the light's flicker
                words="light that programs take as a full-scale weight: of the median live cell",
            ),
            Quantity(
                "leak of dark planes", float(100 * np.sqrt((found.zero_units**2).mean()) / full), np.nan, "%",
                words="what the two paths differ by with both planes dark, rms, of full scale",
            ),
        ),
        settings={
            "temperature_c": registration.temperature_c,
            "swapped_planes": registration.swapped,
            **_used(probing),
        },
        raw=probing.raw,
        findings=(
            found.found,
            f"programs take {full:.3f} units as full scale, what the median live cell gives",
        ),
        plots=tuple(
            Plot(f"Levels, {sign} path", found.knots.astype(np.float64),
                 np.median(found.shape[path][:, lives], axis=(0, 1)), "level of the panel",
                 "light of the median cell (of its brightest)")
            for path, sign in enumerate(("positive", "negative"))
        ),
    )  # fmt: skip


PANEL = (
    Procedure(
        name="darks", kind=DARKS, title="dark levels", needs=(), device=LoopElectronics,
        roles=(WeightModulator, LoopElectronics), validity_s=DAY_S,
        notices=("detectors that clip in the dark",),
        duration_s=taking(probes=darks_module.REPEATS), measure=_darks,
    ),
    Procedure(
        name="light", kind=LIGHT, title="light", needs=(DARKS,), device=LoopElectronics,
        roles=(WeightModulator, LoopElectronics), validity_s=DAY_S,
        notices=("no light, or a lens cap", "a blank panel", "too little light", "swapped sign planes"),
        duration_s=taking(frames=3, probes=48), measure=_light,
    ),
    Procedure(
        name="linearity", kind=LINEARITY, title="linearity", needs=(LIGHT,), device=LoopElectronics,
        roles=(WeightModulator, LoopElectronics), validity_s=30 * DAY_S,
        notices=("detectors that compress", "detectors that clip"),
        duration_s=taking(frames=2, probes=2 * LINEARITY_ROUNDS * DIVISIONS * 4), measure=_linearity,
    ),
    Procedure(
        name="emitters", kind=EMITTERS, title="emitters", needs=(LIGHT, LINEARITY), device=LoopElectronics,
        roles=(WeightModulator, LoopElectronics), validity_s=7 * DAY_S,
        notices=("dead or weak input channels", "more dead channels than calibration can help"),
        duration_s=taking(frames=2, probes_a_channel=4 * EMITTER_REPEATS * len(DRIVES) + 16),
        measure=_emitters,
    ),
    Procedure(
        name="registration", kind=REGISTRATION, title="registration", needs=(), device=WeightModulator,
        roles=(WeightModulator, LoopElectronics), validity_s=7 * DAY_S,
        notices=("a shifted, turned or distorted image", "mirrored or swapped planes", "blur",
                 "detectors that see their neighbours", "cells that do not answer"),
        duration_s=taking(frames=34, probes_a_channel=34 * REGISTRATION_ROUNDS), measure=_registration,
    ),
    Procedure(
        name="levels", kind=PANEL_KIND, title="levels", needs=(DARKS, LINEARITY, EMITTERS, REGISTRATION),
        device=WeightModulator, roles=(WeightModulator, LoopElectronics), validity_s=7 * DAY_S,
        notices=("a panel that does not brighten with its level", "cells that do not reach full scale"),
        duration_s=taking(frames=2 * KNOTS, probes_a_channel=2 * KNOTS * ROUNDS + 3 * END_ROUNDS
                          + 2 * DARK_ROUNDS),
        measure=_levels,
    ),
)  # fmt: skip
