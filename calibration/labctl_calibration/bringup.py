"""Bring-up: from a bench that nobody has measured to two records, through the interfaces alone.

First the panel's half (`panel_bringup`), then the rows with the loop closed, on a dense random frame, so that
every row is tied to every other and what is found belongs to the bench, not to a program. Then known
answers: states that the records predict under biases the fit has not seen, against the states that settle.
Last, what the bench is good for: a noise budget, and the gain at which it would oscillate.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from labctl.devices import (
    CalibrationRecord,
    Camera,
    DeviceFault,
    Identity,
    LoopElectronics,
    WeightModulator,
)
from labctl.physics import FittedMap
from labctl.programs import encode_frame
from labctl_calibration.camera_bringup import bring_up_camera
from labctl_calibration.closed_loop import CLEAR_OF_RANGE, Rows, equilibria, measure_rows
from labctl_calibration.effective_map import EffectiveMap, measure_map
from labctl_calibration.gain_ramp import GainMargin, ramp_gain
from labctl_calibration.noise_budget import NoiseBudget, measure_noise
from labctl_calibration.open_loop import calibrate_open_loop
from labctl_calibration.panel_bringup import bring_up_panel
from labctl_calibration.rows_record import rows_record
from labctl_calibration.store import RecordStore

FloatArray = NDArray[np.float64]
Tell = Callable[[str, int, int], None]
DENSE_PROBES = 3200
KNOWN_ANSWERS = 256
WORST_ANSWER = 0.01  # of full scale, rms: more means that the records do not describe this bench


@dataclass(frozen=True, eq=False)
class BringUp:
    """The records of a bench, what was found in words, and how far known answers were missed (units, rms).

    spots: of the camera; None without one, or where it does not see them (a finding says so).
    """

    panel: CalibrationRecord
    rows: CalibrationRecord
    spots: CalibrationRecord | None
    findings: tuple[str, ...]
    known_answer_units: float
    noise: NoiseBudget
    margin: GainMargin
    electronics: Identity

    def rows_resting_on(self, panel_id: str) -> CalibrationRecord:
        """The rows' record, with the panel's as what it rests on."""
        return replace(self.rows, upstream=(panel_id,))

    def keep(self, store: RecordStore) -> None:
        """Put every record into a store, each with what it rests on."""
        panel = store.put(self.panel)
        rows = store.put(self.rows_resting_on(panel))
        if self.spots is not None:
            store.put(replace(self.spots, upstream=(panel,)))
        for record in (self.noise.record(self.electronics), self.margin.record(self.electronics)):
            store.put(replace(record, upstream=(panel, rows)))


def bring_up(
    modulator: WeightModulator,
    electronics: LoopElectronics,
    camera: Camera | None = None,
    *,
    tell: Tell | None = None,
) -> BringUp:
    """Measure a bench; about ten seconds of device time. `tell(what, done, total)` hears of each step.

    Raises DeviceFault, naming the device and what is allowed, for what cannot be measured, and where known
    answers are missed by more than 1% of full scale.
    """
    spec = electronics.spec
    n = spec.n_channels
    electronics.set_offset_null(np.zeros(n, np.int64))
    panel = bring_up_panel(modulator, electronics, tell=tell)
    record = _at_median(panel.record)
    full_scale_units = float(record.array("full_scale_units")[0])

    def say(what: str, done: int) -> None:
        if tell is not None:
            tell(what, done, 5)

    spots = None
    if camera is not None:
        say("the camera's spots", 0)
        spots = bring_up_camera(modulator, electronics, camera, record)
    say("rows, loop closed", 1)
    rng = np.random.Generator(np.random.Philox(key=n))
    dense = rng.choice([-1.0, -0.5, 0.5, 1.0], size=(n, n))
    modulator.show(encode_frame(dense, modulator.spec, record).levels)
    calibrate_open_loop(electronics)
    light = measure_map(electronics, probes=DENSE_PROBES)
    rows = measure_rows(electronics, light)
    say("known answers", 2)
    missed = _known_answers(electronics, light, rows)
    full_scale = spec.adc.range_units
    if not missed <= WORST_ANSWER * full_scale:
        raise DeviceFault(
            f"states miss what the records predict by {missed:.3g} units rms; allowed: "
            f"{WORST_ANSWER * full_scale:.3g}",
            device=electronics.name, operation="bring up",
        )  # fmt: skip
    say("noise", 3)
    noise = measure_noise(modulator, electronics, light, rows)
    say("gain margin", 4)
    margin = ramp_gain(modulator, electronics, record, rows)
    say("done", 5)
    curve = rows.curve
    found = (
        f"leaks are {rows.leak_scale.mean():.4f} of what is set (sd {rows.leak_scale.std():.4f}), and "
        f"{rows.leak_offset.mean():+.4f} (sd {rows.leak_offset.std():.4f})",
        f"gains are {rows.gain_scale.mean():.3f} of what is set (sd {rows.gain_scale.std():.3f}); offsets "
        f"{rows.offset_units.mean():+.3f} units (sd {rows.offset_units.std():.3f}), in front of the gain "
        f"{rows.light_offset.mean():+.3f} (sd {rows.light_offset.std():.3f})",
        f"the electronics' curve saturates at {float(curve.reach.mean()):.3f} with slope "
        f"{float((curve.reach * curve.scale).mean()):.3f} at zero; equations of all rows hold within "
        f"{rows.residual.mean():.4f} units rms",
        margin.finding,
        f"{KNOWN_ANSWERS} known answers: missed by {missed:.4f} units rms, {100 * missed / full_scale:.2f}% "
        "of full scale",
    )
    chosen = f"programs take {full_scale_units:.3f} units as full scale, what the median live cell gives"
    identity = electronics.open()
    by_rows = rows_record(identity, rows, upstream=())
    seen = () if spots is None else (spots.finding,)
    return BringUp(
        record,
        by_rows,
        None if spots is None else spots.record,
        (*panel.findings, chosen, *seen, *found),
        missed,
        noise,
        margin,
        identity,
    )


def _at_median(panel: CalibrationRecord) -> CalibrationRecord:
    """The panel's record with the median live cell's light as full scale.

    What nearly every cell reaches is a third of that, and gains would have to make up for it beyond their
    range, noise with them. Programs put what matters on good channels; what weaker cells lack is in the map
    that compensation trains through.
    """
    lives = panel.array("dead_channels") == 0
    light = float(np.median(panel.array("span_units")[:, :, lives]))
    return replace(panel, arrays={**panel.arrays, "full_scale_units": np.array([light])})


def _known_answers(electronics: LoopElectronics, light: EffectiveMap, rows: Rows) -> float:
    """rms distance of settled states to the fixed points of the fitted equations, for new biases."""
    gains, biases, settled = equilibria(electronics, light, seed=7, count=KNOWN_ANSWERS)
    fitted = FittedMap(torch.from_numpy(light.powers), rows.curve, torch.from_numpy(rows.light_offset))
    leak = torch.from_numpy(rows.leak_scale + rows.leak_offset)
    gain = torch.from_numpy(rows.gain_scale) * torch.from_numpy(gains)
    bias = torch.from_numpy(biases + rows.offset_units)
    z = torch.zeros_like(bias)
    for _ in range(400):
        z = z + 0.5 * ((gain * fitted(z) + bias) / leak - z)
    inside = (np.abs(settled) < CLEAR_OF_RANGE * electronics.spec.adc.range_units).all(axis=1)
    return float(np.sqrt(np.mean((z.numpy() - settled)[inside] ** 2)))
