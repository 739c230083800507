"""Bring-up: from a bench that nobody has measured to its records, through the interfaces alone.

All procedures of an optical bench in their order, from nothing: the panel's half, then the rows with the loop
closed, on a dense random frame, so that every row is tied to every other and what is found belongs to the
bench, not to a program. Then known answers: states that the records predict under biases the fit has not
seen, against the states that settle. Last, what the bench is good for: a noise budget, and the gain at which
it would oscillate.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from labctl.devices import (
    CalibrationRecord,
    Camera,
    Device,
    DeviceFault,
    Identity,
    LoopElectronics,
    WeightModulator,
)
from labctl_calibration.gain_ramp import KIND as MARGIN_KIND
from labctl_calibration.gain_ramp import GainMargin, margin_of
from labctl_calibration.known_answers import WORST_ANSWER
from labctl_calibration.noise_budget import KIND as NOISE_KIND
from labctl_calibration.noise_budget import NoiseBudget, budget_of
from labctl_calibration.optical import LOOP, PANEL
from labctl_calibration.optical.loop_procedures import ANSWERS, SETTLING, WEIGHTS
from labctl_calibration.panel_record import KIND as PANEL_KIND
from labctl_calibration.procedure import Devices, Tell
from labctl_calibration.rows_record import KIND as ROWS_KIND
from labctl_calibration.spots import KIND as SPOTS_KIND
from labctl_calibration.store import RecordStore
from labctl_calibration.taking import Taken, keep_all, silent, take_all

STEPS = tuple(procedure for procedure in LOOP if procedure.kind != SETTLING)


@dataclass(frozen=True, eq=False)
class BringUp:
    """The records of a bench, what was found in words, and how far known answers were missed (units, rms).

    taken: all that was measured, by kind. spots: of the camera; None without one, or where it does not see
    them (a finding says so).
    """

    taken: Mapping[str, Taken]
    findings: tuple[str, ...]
    known_answer_units: float
    noise: NoiseBudget
    margin: GainMargin
    electronics: Identity

    @property
    def panel(self) -> CalibrationRecord:
        """What frames are made by."""
        return self.taken[PANEL_KIND].record

    @property
    def rows(self) -> CalibrationRecord:
        """Errors of the rows, loop closed."""
        return self.taken[ROWS_KIND].record

    @property
    def spots(self) -> CalibrationRecord | None:
        """Where the camera has them."""
        return self.taken[SPOTS_KIND].record if SPOTS_KIND in self.taken else None

    def rows_resting_on(self, panel_id: str) -> CalibrationRecord:
        """The rows' record, with the panel's as what it rests on."""
        return replace(self.rows, upstream=(panel_id,))

    def keep(self, store: RecordStore) -> None:
        """Put every record into a store, each with what it rests on."""
        keep_all(self.taken, store)


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
    by_role: dict[type[Device], Device] = {WeightModulator: modulator, LoopElectronics: electronics}
    if camera is not None:
        by_role[Camera] = camera
    devices = Devices(by_role)
    procedures = [one for one in (*PANEL, *STEPS) if devices.has(*one.roles)]
    last = next(k for k, one in enumerate(procedures) if one.kind == ANSWERS) + 1
    say = tell or silent
    found, failed = take_all(
        procedures[:last],
        devices,
        lambda what, done, _: None if done == last else say(what, done, len(procedures)),
    )
    missed = float(found[ANSWERS].measured.settings["missed_units"])
    allowed = WORST_ANSWER * electronics.spec.adc.range_units
    if not missed <= allowed:
        raise DeviceFault(
            f"states miss what the records predict by {missed:.3g} units rms; allowed: {allowed:.3g}",
            device=electronics.name, operation="bring up",
        )  # fmt: skip
    found, _ = take_all(
        procedures[last:], devices, lambda what, done, _: say(what, last + done, len(procedures)), found
    )
    words = [one.kind for one in PANEL] + [SPOTS_KIND, WEIGHTS, ROWS_KIND, MARGIN_KIND, ANSWERS]
    lines = [line for kind in words if kind in found for line in found[kind].measured.findings]
    at = len([line for one in PANEL for line in found[one.kind].measured.findings])
    return BringUp(
        taken=found,
        findings=(*lines[:at], *failed, *lines[at:]),
        known_answer_units=missed,
        noise=budget_of(found[NOISE_KIND].record),
        margin=margin_of(found[MARGIN_KIND].record),
        electronics=electronics.open(),
    )
