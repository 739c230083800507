"""Do triggers arrive? A known number is sent with the camera armed, and what it saw is compared with that."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from labctl.devices import (
    Camera,
    DeviceError,
    DeviceTimeout,
    DeviceValueError,
    Hold,
    InputDrive,
    LoopElectronics,
    SettleCodes,
)
from labctl.engines.spots import hold_of
from labctl.rig.checking import Finding

TEST = "triggers"
SENT = 4
COUNT_S = 0.2  # that a camera's counter may be behind
STEP_ID = 2**31 - 2  # of the twin's draws: no run's

TriggerSource = LoopElectronics | InputDrive


@dataclass(frozen=True)
class TriggerCount:
    """What a camera saw of SENT triggers sent back to back.

    early: pulses that came before any was sent. seen: after them, those of lost images included. singly: how
    many of SENT came when sent one at a time, where not all did back to back. line: where the camera listens,
    of `lines`.
    """

    source: str
    camera: str
    line: str
    lines: tuple[str, ...]
    hold: Hold
    early: int
    seen: int
    singly: int

    @property
    def ok(self) -> bool:
        """Whether seen is what was sent."""
        return not self.early and self.seen == SENT

    @property
    def found(self) -> str:
        """In words."""
        if self.early:
            return f"{self.early} triggers came at {self.line} before {self.source} sent any"
        sent = f"{SENT} triggers sent by {self.source}"
        if self.seen < SENT:
            return f"{sent}, {self.seen} counted at {self.line}; one at a time, {self.singly} of {SENT} seen"
        return f"{sent}, {self.seen} seen at {self.line}"

    @property
    def remedy(self) -> str:
        """What to do about it; "" where all is well."""
        if self.ok:
            return ""
        if self.early or self.seen > SENT:
            return (
                f"something else pulses {self.line}: look for a second source on the line, for a floating "
                "input and for ringing (terminate the cable), and compare the polarity (TriggerActivation)"
            )
        if self.singly == SENT:
            return (
                f"{self.camera} is not ready for pulses {self.hold.period_us:.4g} us apart: take its "
                "shortest period from the data sheet into line_us, overhead_rows and delay_us of its settings"
            )
        if self.singly:
            return (
                f"a bad contact, or pulses too low or too short for {self.line}: reseat and terminate the "
                "cable and look at the pulses there with an oscilloscope"
            )
        return (
            f"check the cable from the trigger output of {self.source} to {self.line} of {self.camera}; if "
            f"it is in another socket, set TriggerSource (it has {', '.join(self.lines)}); look at the pulse "
            "there: its level, and its polarity against TriggerActivation (rising edge)"
        )


def trigger_findings(sources: Sequence[TriggerSource], cameras: Sequence[Camera]) -> Iterator[Finding]:
    """Every pair of a device with a trigger output and a camera with a trigger input.

    `sources`: the one whose triggers the rig works by comes first; of the others it is only worth knowing.
    """
    able = [source for source in sources if source.spec.max_hold_us > 0]
    listening = 0
    for camera in cameras:
        try:
            if not _listens(camera):
                yield Finding(camera.name, TEST, "no trigger input", True, note=True)
                continue
            listening += 1
            for source in able:
                used = source is able[0]
                count = count_triggers(source, camera, patient=used)
                if used:
                    yield Finding(camera.name, TEST, count.found, count.ok, remedy=count.remedy)
                else:
                    unused = count.found if count.ok else f"{count.found}; this rig does not use them"
                    yield Finding(camera.name, TEST, unused, True, note=True)
        except DeviceError as error:
            yield Finding(camera.name, TEST, str(error), False)
    for source in able if not listening else ():
        yield Finding(source.name, TEST, "a trigger output, and no camera that could count", True, note=True)


def count_triggers(source: TriggerSource, camera: Camera, *, patient: bool = True) -> TriggerCount:
    """Send SENT triggers in the dark (or with the gain off) and count them at the camera; its settings are
    as before then. patient: where some are missing, send as many again, one at a time.
    """
    before = camera.settings
    try:
        camera.configure({"TriggerMode": "On", "ExposureTime": camera.spec.exposure_range_us[0]})
        hold = hold_of(camera)
        camera.arm(SENT)
        early = camera.triggers_seen()
        seen = _heard(source, camera, SENT, hold) - early
        singly = seen
        if patient and seen < SENT:
            singly = 0
            for _ in range(SENT):
                camera.arm(1)
                singly += min(_heard(source, camera, 1, hold), 1)
    finally:
        with suppress(DeviceError):  # a camera that has gone says so above
            camera.configure({"TriggerMode": before.trigger_mode, "ExposureTime": before.exposure_us})
    line, lines = before.trigger_source, camera.spec.trigger_sources
    return TriggerCount(source.name, camera.name, line, lines, hold, early, seen, singly)


def _listens(camera: Camera) -> bool:
    """Whether it has a trigger input."""
    before = camera.settings.trigger_mode
    try:
        camera.configure({"TriggerMode": "On"})
    except DeviceValueError:
        return False
    camera.configure({"TriggerMode": before})
    return True


def _heard(source: TriggerSource, camera: Camera, n: int, hold: Hold) -> int:
    """Send n; how many the armed camera has seen, by its counter or by its images."""
    _send(source, n, hold)
    until_s = time.monotonic() + COUNT_S
    while (counted := camera.triggers_seen()) < n and time.monotonic() < until_s:
        time.sleep(0.01)
    try:
        camera.acquire(n)
    except DeviceTimeout:
        return min(counted, n - 1)
    return max(counted, n)


def _send(source: TriggerSource, n: int, hold: Hold) -> None:
    """n triggers of a queue that leaves everything at zero."""
    channels = source.spec.n_channels
    zeros = np.zeros((n, channels), np.int64)
    if isinstance(source, InputDrive):
        source.drive(zeros, hold=hold, step_id=STEP_ID, sample_id=np.arange(n))
        return
    gain, leak = zeros[:1], np.full((1, channels), source.spec.max_leak_code)
    codes = SettleCodes(
        bias=zeros, gain=gain, leak=leak, gain_range=zeros[0], start=zeros, step_id=STEP_ID,
        sample_id=np.arange(n),
    )  # fmt: skip
    source.settle(codes, hold=hold)
