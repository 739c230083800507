"""A rig's self-test, through the same interfaces that a run uses; every finding in numbers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import numpy as np
from labctl_calibration import (
    calibrate_camera,
    calibrate_open_loop,
    find_spots,
    nominal_panel_record,
    nominal_spot_record,
)
from labctl_calibration.store import RecordStore

from labctl.devices import (
    CalibrationMissing,
    Camera,
    ConfigError,
    Device,
    DeviceError,
    InputDrive,
    InterlockTripped,
    LoopElectronics,
    OscillatorBoard,
    ProgramError,
    SettleCodes,
    WeightModulator,
    frame_checksum,
)
from labctl.programs import encode_frame
from labctl.rig.board_health import BOARD_TESTS
from labctl.rig.checking import Finding, require
from labctl.rig.config import DeviceConfig, RigConfig
from labctl.rig.remedies import remedy
from labctl.rig.rig import Rig
from labctl.rig.standing import Standing
from labctl.rig.trigger_check import TriggerSource, trigger_findings

DRIVE_SHARE = 0.1  # of the absolute limits, for the emitter test
MAX_CROSSTALK = 0.05  # of a full-scale weight
MIN_WEIGHT, MAX_WEIGHT = 0.5, 1.5  # of a full-scale weight: less is a dead channel, more a wrong gain
MAX_ERROR_PERCENT = 1.0  # of full scale, asked against read
MAX_NOISE_PERCENT = 1.0  # of full scale, standard deviation of one read-out
REPEATS = 64
OPEN_S = 4.5  # for all devices on wires together, side by side


def check_rig(config: RigConfig, records: RecordStore | None = None) -> Iterator[Finding]:
    """Open every device, ask each how it is, then test frame, emitters, triggers, light path and loop;
    interlocks are looked at before anything is lit. With `records`, say at the end whether they hold a
    bring-up of these devices.

    A device that fails is reported and the others are still tested; tests that need it are left out. The rig
    is closed at the end, however it ends. Raises UserError for a rig that cannot even be built.
    """
    rig = Rig(config)
    try:
        sound: list[Device] = []
        rig.build()
        for device, findings in _all_opened(rig):
            yield from findings
            if all(finding.ok for finding in findings):
                sound.append(device)
        if config.interlock:
            yield _interlocks(rig)
        for device in sound:
            if isinstance(device, WeightModulator):
                yield _tested(device, "frame", partial(_frame, device))
            elif isinstance(device, InputDrive):
                yield _tested(device, "drive", partial(_drive, device))
            elif isinstance(device, OscillatorBoard):
                for test, run in BOARD_TESTS.items():
                    yield _tested(device, test, partial(run, device))
        cameras = [d for d in sound if isinstance(d, Camera)]
        for finding in trigger_findings(_trigger_sources(sound), cameras):
            yield finding
            if not finding.ok:  # what needs its images would only say the same again
                cameras = [camera for camera in cameras if camera.name != finding.device]
        modulators = [d for d in sound if isinstance(d, WeightModulator)]
        for electronics in (d for d in sound if isinstance(d, LoopElectronics)):
            if modulators:
                panel = modulators[0]
                yield _tested(electronics, "light path", partial(_light_path, panel, electronics))
                for camera in cameras:
                    yield _tested(camera, "spots", partial(_spots, panel, electronics, camera))
            yield _tested(electronics, "loop", partial(_loop, electronics))
            if records is not None and modulators:
                standing = Standing.of(
                    records, records.newest, modulators[0].open().serial, electronics.open().serial
                )
                yield Finding(config.name, "bring-up", standing.words(), True, note=True)
        drives = [d for d in sound if isinstance(d, InputDrive)]
        if modulators and drives and cameras and not any(isinstance(d, LoopElectronics) for d in sound):
            search = partial(_driven_spots, modulators[0], drives[0], cameras[0])
            yield _tested(cameras[0], "spots", search)
    finally:
        rig.close()


def _trigger_sources(devices: list[Device]) -> list[TriggerSource]:
    """The electronics before the drive: where there are any, a camera reads what they settle."""
    loops = [device for device in devices if isinstance(device, LoopElectronics)]
    return [*loops, *(device for device in devices if isinstance(device, InputDrive))]


def _all_opened(rig: Rig) -> Iterator[tuple[Device, list[Finding]]]:
    """Every device with what was found of it, in the rig's order; those on real wires open side by side."""
    opening = {
        device.name: _Opening(rig.config, device, rig.devices[device.name])
        for device in rig.config.device
        if device.address
    }
    by_s = time.monotonic() + OPEN_S
    for name, device in rig.devices.items():
        if name in opening:
            yield device, opening[name].findings(by_s)
        else:
            yield device, list(_opened(device))


class _Opening:
    """A device on a wire that opens in a thread of its own, so that a dead one holds nobody up."""

    def __init__(self, rig: RigConfig, config: DeviceConfig, device: Device) -> None:
        self._rig, self._config, self._device = rig, config, device
        self._found: list[Finding] = []
        self._given_up = False
        self._thread = threading.Thread(target=self._open, name=f"open {device.name}", daemon=True)
        self._thread.start()

    def findings(self, by_s: float) -> list[Finding]:
        """What was found, at the latest at that moment (monotonic clock)."""
        self._thread.join(max(0.0, by_s - time.monotonic()))
        if self._thread.is_alive():
            self._given_up = True
            error = f"{self._device.name}: open: no answer in {OPEN_S:g} s ({self._config.address})"
            return [self._advised(Finding(self._device.name, "open", error, False))]
        return self._found

    def _open(self) -> None:
        self._found = [self._advised(finding) for finding in _opened(self._device)]
        if self._given_up:
            self._device.close()

    def _advised(self, finding: Finding) -> Finding:
        advice = "" if finding.ok else remedy(self._rig, self._config, finding.found)
        return replace(finding, remedy=advice)


def _opened(device: Device) -> Iterator[Finding]:
    try:
        who = device.open()
        kind = "simulated" if who.simulated else "real"
        named = f"{who.vendor} {who.model}, serial {who.serial}, firmware {who.firmware}, {kind}"
        yield Finding(device.name, "identity", named, True)
        settings = ", ".join(f"{key} {_value(value)}" for key, value in device.snapshot().items())
        yield Finding(device.name, "health", settings, True)
    except DeviceError as error:
        yield Finding(device.name, error.operation, str(error), False)


def _interlocks(rig: Rig) -> Finding:
    """Every interlock as a run would find it now."""
    try:
        rig.interlocks.check("now")
    except InterlockTripped as error:
        return Finding(rig.name, "interlocks", str(error), False)
    good = ", ".join(f"{interlock.name} good" for interlock in rig.config.interlock)
    return Finding(rig.name, "interlocks", good, True)


def _value(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _tested(device: Device, test: str, run: Callable[[], str]) -> Finding:
    """What a test found; a device's fault, or a value outside what is allowed, makes it fail."""
    try:
        return Finding(device.name, test, run(), True)
    except (DeviceError, CalibrationMissing, ConfigError, ProgramError) as error:
        return Finding(device.name, test, str(error), False)


def _frame(panel: WeightModulator) -> str:
    """Show random levels; where the device says what it shows, that is compared with what was sent."""
    spec = panel.spec
    rng = np.random.Generator(np.random.Philox(key=0))
    levels = rng.integers(0, spec.n_levels, spec.shape_px, dtype=np.uint16)
    receipt = panel.show(levels)
    wrong = int(np.count_nonzero(panel.shown() != levels))
    how = "read back differently" if receipt.read_back else "of the driver's own copy differ"
    require(wrong == 0, f"{wrong:,} of {levels.size:,} pixels {how}", panel, "frame")
    sent = frame_checksum(levels)
    require(receipt.checksum == sent, f"the receipt says {receipt.checksum}, sent was {sent}", panel, "frame")
    height, width = spec.shape_px
    said = "read back as sent" if receipt.read_back else "sent; it cannot say what it shows"
    return f"{width} x {height} pixels, {spec.n_levels} levels, {said} (CRC-32 {sent})"


def _drive(drive: InputDrive) -> str:
    """A tenth of the limits on every channel, then dark again."""
    spec = drive.spec
    most_ma = min(spec.max_channel_ma, spec.max_total_ma / spec.n_channels)
    code = int(DRIVE_SHARE * most_ma / spec.ma_per_code)
    receipt = drive.drive(np.full((1, spec.n_channels), code))
    drive.drive(np.zeros((1, spec.n_channels), np.int64))
    asked = code * spec.ma_per_code
    error = float(np.abs(receipt.current_ma - asked).max())
    require(error <= spec.ma_per_code, f"asked {asked:.4g} mA, applied off by {error:.4g} mA", drive, "drive")
    return (
        f"{spec.n_channels} channels at {asked:.3g} mA as asked, dark again, {drive.temperature_c():.1f} °C"
    )


def _light_path(panel: WeightModulator, electronics: LoopElectronics) -> str:
    """Show the unit matrix and probe it: each input channel must light its own output and no other."""
    n = electronics.spec.n_channels
    record = nominal_panel_record(panel.spec, n, panel.open().serial, electronics.wiring)
    panel.show(encode_frame(np.eye(n), panel.spec, record).levels)
    measured = calibrate_open_loop(electronics)
    weights, offsets = measured.array("effective_fractions"), measured.array("offset_units")
    own = np.diag(weights)
    worst = int(np.argmax(np.abs(own - 1)))
    require(
        bool(((own > MIN_WEIGHT) & (own < MAX_WEIGHT)).all()),
        f"channel {worst} answers {own[worst]:.3f} to a full-scale weight; "
        f"allowed: {MIN_WEIGHT} to {MAX_WEIGHT}",
        electronics,
        "light path",
    )
    crosstalk = np.abs(weights - np.diag(own))
    row, column = (int(i) for i in np.unravel_index(int(crosstalk.argmax()), crosstalk.shape))
    require(
        float(crosstalk.max()) < MAX_CROSSTALK,
        f"input {column} leaks {crosstalk.max():.3f} of a full-scale weight into output {row}; "
        f"allowed: below {MAX_CROSSTALK}",
        electronics,
        "light path",
    )
    return (
        f"{n} channels answer {own.min():.3f} to {own.max():.3f} of full scale, crosstalk at most "
        f"{crosstalk.max():.1e}, offset nulled {np.abs(offsets).max():.3f} units"
    )


def _spots(panel: WeightModulator, electronics: LoopElectronics, camera: Camera) -> str:
    """Find and calibrate every spot, with the frame that is on display."""
    n = electronics.spec.n_channels
    measured = calibrate_camera(
        panel,
        electronics,
        camera,
        panel_record=nominal_panel_record(panel.spec, n, panel.open().serial),
        spots=nominal_spot_record(camera.spec, n, camera.open().serial),
        exposure_us=0.0,
    )
    gains, centres = measured.array("spot_gain_counts"), measured.array("spot_centre_px")
    return (
        f"{2 * n} spots within {np.abs(centres).max():.2f} pixels of their places, alike to "
        f"{100 * gains.std() / gains.mean():.2f}%, {gains.mean():.4g} counts a unit of light in "
        f"{camera.settings.exposure_us:.3g} us, {camera.spec.shutter} shutter"
    )


def _driven_spots(panel: WeightModulator, drive: InputDrive, camera: Camera) -> str:
    """Find every spot by the light of the emitters, where no electronics do it."""
    record = nominal_panel_record(panel.spec, drive.spec.n_channels, panel.open().serial)
    return find_spots(panel, drive, camera, record).found


def _loop(electronics: LoopElectronics) -> str:
    """Settle known biases with the gain off: what was asked must be read; the spread is the read noise."""
    spec = electronics.spec
    n, levels = spec.n_channels, np.linspace(-0.8, 0.8, 9)
    bias = np.rint(np.repeat(levels, REPEATS) * spec.dac.max_code).astype(np.int64)
    batch = len(bias)
    readout = electronics.settle(
        SettleCodes(
            bias=np.repeat(bias[:, None], n, axis=1),
            gain=np.zeros((1, n), np.int64),
            leak=np.full((1, n), spec.max_leak_code),
            gain_range=np.zeros(n, np.int64),
            start=np.zeros((batch, n), np.int64),
            step_id=2**31 - 1,
            sample_id=np.arange(batch),
        )
    )
    percent = 100.0 / spec.adc.range_units
    read = (readout.counts * spec.adc.units_per_code).reshape(len(levels), REPEATS, n)
    asked = bias.reshape(len(levels), REPEATS)[:, :1] * spec.dac.units_per_code
    error = np.abs(read.mean(axis=1) - asked).max(axis=0) * percent
    noise = read.std(axis=1, ddof=1).max(axis=0) * percent
    for what, values, limit in (
        ("is off by", error, MAX_ERROR_PERCENT),
        ("has noise of", noise, MAX_NOISE_PERCENT),
    ):
        worst = int(values.argmax())
        require(
            float(values[worst]) <= limit,
            f"channel {worst} {what} {values[worst]:.2f}% of full scale; allowed: {limit:g}%",
            electronics,
            "loop",
        )
    return (
        f"bias read back within {error.max():.3f}% of full scale, read noise {noise.max():.3f}%, "
        f"{electronics.temperature_c():.1f} °C"
    )
