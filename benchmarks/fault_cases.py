"""A short day at each wire while the wire misbehaves: what became of it, as tests and the benchmark judge it.

What should become of it is data: `labctl_sim_devices.wires.stated`. Each stand is a twin behind a wire of
this machine with the real driver before it; `play` has it misbehave by name and seed.
"""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import import_module
from typing import Any, ClassVar

import numpy as np
from labctl_drivers.display.slm import DisplaySLM
from labctl_drivers.genicam.gige import GenICamCamera
from labctl_drivers.link.watchdog import Ward, Watchdog
from labctl_drivers.scpi.input_drive import ScpiInputDrive
from labctl_drivers.serial_board import SerialOscillatorBoard
from labctl_sim_devices import (
    CameraTwin,
    EmitterTwin,
    OpticalBench,
    OscillatorBench,
    OscillatorBoardTwin,
    PanelTwin,
    load_oscillator_profile,
    load_profile,
)
from labctl_sim_devices.damage import DamageRecord
from labctl_sim_devices.wires.faults import MISBEHAVIOURS, FaultLayer, Piece, Send
from labctl_sim_devices.wires.gige import GigeFace
from labctl_sim_devices.wires.scpi.drive import ScpiDriveFace
from labctl_sim_devices.wires.screen import ScreenFace
from labctl_sim_devices.wires.serial_board import SerialBoardFace
from labctl_sim_devices.wires.stated import (
    BOUND_S,
    HOWS,
    SAFE_S,
    WIRES,
    How,
    stated,
    words_of,
)

from labctl.devices import BoardImage, DeviceError, Identity, LimitExceeded, RunCodes
from labctl.devices.device import Device
from labctl.devices.limits import Guard, Limits, LimitValues
from labctl.devices.oscillator_wire import blocks

SEEDS = range(20)
HURRY = {"timeout_s": 0.5, "open_timeout_s": 1.5, "attempts": 3}
LATE_S = 0.8  # longer than a driver in a hurry waits
JOBS = 8
_GUARD = threading.Lock()


class WrongValue(Exception):
    """A driver gave a number that is not the instrument's."""


@dataclass(frozen=True)
class Seen:
    """What became of a day. outcome: "answered", an error's name, or "wrong value". safe None: out of reach.

    `words`: the error's own; `told`: it names device, operation, address and bytes. `driven`: another box in
    the old one's place was given an order.
    """

    outcome: str
    struck: int
    safe: bool | None
    violations: int
    damage: int
    took_s: float
    words: str = ""
    told: bool = True
    driven: bool = False


class Altered(FaultLayer):
    """Every (or one) answer that holds `old` comes with `new` in its place, of the same length."""

    def __init__(self, old: bytes, new: bytes, *, lasting: bool) -> None:
        super().__init__(None, lasting=lasting)
        self._old, self._new = old, new

    def sending(self, answer: bytes) -> tuple[Piece, ...]:
        if self._old in answer and (self.lasting or not self.struck):
            self.struck += 1
            answer = answer.replace(self._old, self._new)
        return (Send(answer),)


class Swapped(FaultLayer):
    """Another box in the old one's place: remembers the state it was in when it was first asked who it is."""

    def __init__(self, name: str, **how: Any) -> None:
        super().__init__(name, **how)
        self.state: Callable[[], Any] = lambda: None
        self.found: list[Any] = []

    def identity(self, found: Identity) -> Identity:
        if self._other_box and not self.found:
            self.found.append(self.state())
        return super().identity(found)

    @property
    def driven(self) -> bool:
        """Whether it is no longer as it was found."""
        return bool(self.found) and self.found[0] != self.state()


class Stand(ABC):
    """A twin behind a wire, and a driver that is not open yet."""

    driver: Device
    address: str
    damage: DamageRecord
    settings: dict[str, Any]
    target: str  # of the driver, for a watchdog

    @abstractmethod
    def work(self) -> None:
        """A short day; WrongValue where an answer is not the twin's."""

    @abstractmethod
    def safe(self) -> bool:
        """Whether the device's safe state is reached, by the twin's own physics."""

    @abstractmethod
    def state(self) -> Any:
        """What an order would change, in values that can be compared."""

    @abstractmethod
    def stop(self) -> None:
        """Pull the cable."""


class RiskyStand(Stand):
    """One at which a limit rests on an answer."""

    @abstractmethod
    def risk(self) -> None:
        """What a wrong number would make dangerous."""


def _guarded(driver: Device, damage: DamageRecord, limits: LimitValues) -> None:
    """The same absolute limits for the guard before the driver and for the twin's own counter."""
    driver.guard, damage.limits = Guard(Limits(absolute=limits)), limits


class DriveStand(RiskyStand):
    """Emitter drivers behind sealed SCPI."""

    target = "labctl_drivers.scpi.input_drive:ScpiInputDrive"
    LIMITS = LimitValues(channel_ma=2.0, total_ma=90.0)

    def __init__(self, medium: str, faults: FaultLayer | None) -> None:
        self._bench = OpticalBench(load_profile("adm"), noise_scale=1.0)
        self.damage = self._bench.damage
        self.twin = EmitterTwin("drive", self._bench)
        self._face = ScpiDriveFace(self.twin, threading.RLock(), medium=medium, faults=faults)
        self.address = self._face.start().address
        self.settings = {**HURRY, "batch_timeout_s": HURRY["timeout_s"]}
        self.driver = ScpiInputDrive("drive", self.address, **self.settings)
        _guarded(self.driver, self.damage, self.LIMITS)

    def work(self) -> None:
        drive, right = self.driver, self._bench.profile
        per_code = right.emitter_max_channel_ma / (right.emitter_codes - 1)
        for code in range(101, 111):
            receipt = drive.drive(np.full((1, right.n_channels), code))
            if not np.allclose(receipt.current_ma, code * per_code, rtol=1e-12):
                raise WrongValue(f"drive says {receipt.current_ma[0, 0]} mA")
            total_ma = drive.snapshot()["total_current_ma"]
            if not np.isclose(total_ma, right.n_channels * code * per_code, rtol=1e-9):
                raise WrongValue(f"snapshot says {total_ma} mA")

    ALTERED = (b'"full_scale_ma": 20.0', b'"full_scale_ma": 2.00')

    def risk(self) -> None:
        """1 mA a channel, by the data sheet: the guard lets it pass."""
        spec = self.driver.spec
        codes = np.full((1, spec.n_channels), min(round(1.0 / spec.ma_per_code), spec.n_codes - 1))
        self.driver.drive(codes)

    def safe(self) -> bool:
        return float(np.abs(self._bench.emitted_units).max()) == 0.0

    def state(self) -> Any:
        return self._bench.emitted_units.tolist()

    def stop(self) -> None:
        self._face.stop()


class BoardStand(RiskyStand):
    """An oscillator board behind a serial line."""

    target = "labctl_drivers.serial_board:SerialOscillatorBoard"
    WARM_C, COOL_C = 60.123456789, 20.123456789
    ALTERED = (struct.pack("<d", WARM_C), struct.pack("<d", COOL_C))

    def __init__(self, faults: FaultLayer | None) -> None:
        self._twin = _board()
        self.damage = self._twin._bench.damage
        self._face = SerialBoardFace(self._twin, threading.RLock(), faults=faults)
        self.address = self._face.start().address
        serial = f"SIM-OSC-{self._twin._bench.serial}"  # else another box could be there from the beginning
        self.settings = {**HURRY, "longest_s": 3.0, "lock_wait_s": 0.2, "serial": serial}
        self.driver = SerialOscillatorBoard("board", self.address, **self.settings)
        _guarded(self.driver, self.damage, LimitValues(temperature_c=45.0))

    def work(self) -> None:
        for (what, got), right in zip(_day_at(self.driver), _right_board(), strict=True):
            if not np.array_equal(got, right):
                raise WrongValue(f"{what} gives {got}")

    def risk(self) -> None:
        self._twin._bench.set_terms({"temperature": 0.0})
        self._twin._bench.profile = load_oscillator_profile(
            "board50", {"rows": 4, "columns": 4, "temperature_c": self.WARM_C}
        )
        self.driver.load(board_image(self.driver.spec))
        self.driver.run(RunCodes(np.arange(1)))

    def safe(self) -> bool:
        return self._twin._memory is None

    def state(self) -> Any:
        return id(self._twin._memory)

    def stop(self) -> None:
        self._face.stop()


class CameraStand(Stand):
    """A camera behind GigE Vision, whose control or stream misbehaves."""

    target = "labctl_drivers.genicam.gige:GenICamCamera"
    WINDOW: ClassVar = {"Width": 64, "Height": 24, "OffsetX": 680, "OffsetY": 596, "ExposureTime": 20.0}
    FRAMES = 6

    _listener: Any = None  # answers discoveries asked of 127.0.0.1 for all, whatever befalls the others

    def __init__(self, *, control: FaultLayer | None = None, stream: FaultLayer | None = None) -> None:
        self._bench, twin = _lit_camera()
        self._twin = twin
        self._runs = 3 if control is None else 1  # where an answer is late, each of hundreds waits for it
        with _GUARD:
            if CameraStand._listener is None:
                CameraStand._listener = GigeFace(_lit_camera()[1], threading.RLock())
                CameraStand._listener.start()
        self.damage = self._bench.damage
        self._face = GigeFace(twin, threading.RLock(), control=control, stream=stream)
        wire = self._face.start()
        self.address = wire.address
        self.settings = {
            **wire.settings, "timeout_s": 2.0, "attempts": 3, "discovery_s": 0.2, "open_timeout_s": 6.0,
            "frame_wait_s": 1.0, "packet_size": 1500, "serial": twin.open().serial,
        }  # fmt: skip
        self.driver = GenICamCamera("camera", self.address, **self.settings)

    def work(self) -> None:
        camera = self.driver
        for run, (what, frames) in enumerate(_film(camera, self._runs)):
            # a run that began anew is the twin's next one, bit for bit
            if not any(_same_pictures(frames, right) for right in _right_frames()[run:]):
                raise WrongValue(f"{what} gives another picture")
            if len(frames.counts) + frames.dropped != self.FRAMES:
                raise WrongValue(f"{what} gives {len(frames.counts)} frames, {frames.dropped} dropped")
            exposure_us = camera.snapshot()["exposure_us"]
            if exposure_us != 20.0:
                raise WrongValue(f"snapshot says {exposure_us} us")

    def safe(self) -> bool:
        return not self._face.busy

    def state(self) -> Any:
        return self._twin.settings

    def stop(self) -> None:
        self._face.stop()


class ScreenStand(Stand):
    """A panel that is a screen. A display answers nothing: nothing about it can misbehave but its host."""

    target = "labctl_drivers.display.slm:DisplaySLM"

    def __init__(self, _faults: FaultLayer | None) -> None:
        bench = OpticalBench(load_profile("adm"))
        self.damage = bench.damage
        self._face = ScreenFace(PanelTwin("panel", bench), threading.RLock())
        wire = self._face.start()
        self.address, self.settings = wire.address, dict(wire.settings)
        self.driver = DisplaySLM("panel", self.address, **self.settings)

    def work(self) -> None:
        for level in (200, 77):
            self.driver.show(np.full(self.driver.spec.shape_px, level, np.uint16))
            if not (self._face.grab()[0] == level).all():
                raise WrongValue(f"the screen does not show level {level}")

    def safe(self) -> bool:
        return not self._face.grab()[0].any()

    def state(self) -> Any:
        return self._face.grab()[0].tobytes()

    def stop(self) -> None:
        self._face.stop()


def _lit_camera() -> tuple[OpticalBench, CameraTwin]:
    """A camera that looks at a bright panel; every seed alike."""
    bench = OpticalBench(load_profile("adm"), seed=5)
    bench.optics.frame_changed(np.full(bench.profile.panel_shape_px, 255, np.uint16), 0.0)
    bench.advance(bench.profile.panel_settle_us)
    bench.emitted_units = np.full((1, bench.profile.n_channels), 0.02)
    return bench, CameraTwin("camera", bench)


def _film(camera: Any, runs: int = 3) -> Any:
    """Free runs."""
    camera.configure(CameraStand.WINDOW)
    for run in range(runs):
        yield f"run {run}", camera.acquire(CameraStand.FRAMES)


def _same_pictures(frames: Any, right: Any) -> bool:
    kept = [list(right.frame_id).index(one) for one in frames.frame_id]
    return np.array_equal(frames.counts, right.counts[kept])


_right_film: list[Any] = []


def _right_frames() -> list[Any]:
    """The same film of a twin in process."""
    with _GUARD:
        if not _right_film:
            _, twin = _lit_camera()
            with twin as beside:
                _right_film.extend(frames for _, frames in _film(beside))
    return _right_film


def _board() -> OscillatorBoardTwin:
    profile = load_oscillator_profile("board50", {"rows": 4, "columns": 4})
    return OscillatorBoardTwin("board", OscillatorBench(profile, seed=2))


def board_image(spec: Any) -> BoardImage:
    tables = {name: np.zeros(t.shape, np.int64) for name, t in blocks.image_tables(spec, 2).items()}
    tables["in_phase"] += 40
    tables["ticks"] += 90
    tables["start_amplitude"] += 200
    return BoardImage(spec.topology.hash, **tables)


def _day_at(board: Any) -> Any:
    """Results of a short day, with what was asked."""
    yield "load", board.load(board_image(board.spec)).crc
    yield "run", board.run(RunCodes(np.arange(3))).codes
    yield "temperature_c", board.temperature_c()
    yield "loaded", board.loaded().crc
    yield "run", board.run(RunCodes(np.arange(3), 1)).codes
    yield "temperature_c", board.temperature_c()


_right: list[Any] = []


def _right_board() -> list[Any]:
    """The same day at a twin in process."""
    with _GUARD:
        if not _right:
            with _board() as beside:
                _right.extend(result for _, result in _day_at(beside))
    return _right


@dataclass(frozen=True)
class Place:
    """How to make a stand of a wire; its faults hit one of `within` answers after the first `after`.

    altered: bytes of an answer, and those that make a dangerous order look harmless.
    """

    make: Callable[[FaultLayer | None], Stand]
    within: int
    after: int
    altered: tuple[bytes, bytes] = (b"", b"")


PLACES: dict[str, Place] = {
    "SCPI socket": Place(lambda faults: DriveStand("socket", faults), 20, 2, DriveStand.ALTERED),
    "SCPI HiSLIP": Place(lambda faults: DriveStand("hislip", faults), 20, 2, DriveStand.ALTERED),
    "serial board": Place(BoardStand, 24, 0, BoardStand.ALTERED),
    "GigE control": Place(lambda faults: CameraStand(control=faults), 200, 1),
    "GigE stream": Place(lambda faults: CameraStand(stream=faults), 60, 0),
    "display": Place(ScreenStand, 1, 0),
}


def cases(wire: str) -> list[tuple[str, How]]:
    """(fault, how) of every line of the table for a wire."""
    stated = WIRES[wire]
    found = [(fault, how) for fault in stated.faults() for how in HOWS]
    if stated.believed:
        found += [("believed", how) for how in HOWS]
    return [*found, ("host-dies", "once")] if stated.safe else found


def play(wire: str, fault: str, how: How, seed: int) -> Seen:
    """One day, by the name of its fault."""
    place = PLACES[wire]
    if fault == "host-dies":
        return _died(place.make(None), wire, seed)
    if fault == "believed":
        layer: FaultLayer = Altered(*place.altered, lasting=how == "lasting")
        risky = place.make(layer)
        if not isinstance(risky, RiskyStand):
            raise ValueError(f"{wire}: no limit rests on an answer")
        return _played(risky, layer, lambda _: risky.risk(), False)
    kind = Swapped if fault == "other-box" else FaultLayer
    layer = kind(
        fault, seed=seed, lasting=how == "lasting", within=place.within, after=place.after, late_s=LATE_S
    )
    stand = place.make(layer)
    if isinstance(layer, Swapped):
        layer.state = stand.state
    return _played(stand, layer, lambda stand: stand.work(), fault == "other-box" and not WIRES[wire].gone)


def problems(wire: str, fault: str, how: How, seen: Seen) -> list[str]:
    """What is not as the table states it; nothing where all is."""
    allowed = words_of(stated(wire, fault, how))
    if fault in MISBEHAVIOURS and not seen.struck:
        allowed = ("answered",)  # the day was over before it could strike
    found = [] if seen.outcome in allowed else [f"{seen.outcome}, stated: {' or '.join(allowed)}"]
    if seen.safe is False:
        found.append("no safe state")
    if seen.violations or seen.damage:
        found.append(f"{seen.violations} limits violated, {seen.damage} parts damaged")
    if seen.driven:
        found.append("the other box was driven")
    if not seen.told:
        found.append("the error does not name device, operation, address and bytes")
    if seen.took_s > BOUND_S:
        found.append(f"took {seen.took_s:.0f} s")
    words = " ".join(seen.words.split())
    return [f"{one}: {words}" for one in found]


def _played(stand: Stand, layer: FaultLayer, work: Callable[[Stand], None], out_of_reach: bool) -> Seen:
    outcome, words, told, began_s = "answered", "", True, time.monotonic()
    driver = stand.driver
    try:
        driver.open()
        work(stand)
    except DeviceError as error:
        outcome, words, told = type(error).__name__, str(error), _names(error, driver.name, stand.address)
    except WrongValue as error:
        outcome, words = "wrong value", str(error)
    try:
        driver.close()
    except DeviceError as error:
        if outcome == "answered":
            outcome, words, told = type(error).__name__, str(error), _names(error, driver.name, stand.address)
    took_s = time.monotonic() - began_s
    gone = out_of_reach and layer.struck > 0
    safe = _until_safe(stand, 0.0 if gone else SAFE_S)
    driven = isinstance(layer, Swapped) and layer.driven
    stand.stop()
    seen = None if gone and not safe else safe
    violations, damage = len(stand.damage.violations), len(stand.damage.events)
    return Seen(outcome, layer.struck, seen, violations, damage, took_s, words, told, driven)


def _names(error: DeviceError, device: str, address: str) -> bool:
    """Whether it names device, operation, address and bytes; what the guard refused has no bytes."""
    if isinstance(error, LimitExceeded):
        return bool(error.operation) and error.device == device
    complete = error.device == device and bool(error.operation) and error.wire is not None
    return complete and address in str(error)


def _until_safe(stand: Stand, seconds: float) -> bool:
    """What was commanded without an answer is on its way."""
    end_s = time.monotonic() + seconds
    while not stand.safe():
        if time.monotonic() > end_s:
            return False
        time.sleep(0.01)
    return True


def _died(stand: Stand, wire: str, seed: int) -> Seen:
    """A process of its own drives the stand and is killed at a moment that the seed draws."""
    rng = np.random.Generator(np.random.Philox(key=seed))
    order = {"wire": wire, "address": stand.address, "target": stand.target, "settings": stand.settings}
    command = [sys.executable, __file__, json.dumps(order)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    user = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
        start_new_session=True,
    )  # fmt: skip
    said = user.stdout.readline().strip() if user.stdout else ""
    lit = said.isdigit() and not stand.safe()
    time.sleep(float(rng.uniform(0, 0.2)))
    began_s = time.monotonic()
    os.killpg(user.pid, signal.SIGKILL)
    safe = _until_safe(stand, SAFE_S)
    took_s = time.monotonic() - began_s
    _, words = user.communicate()  # the watchdog writes there until it has gone
    stand.stop()
    outcome = "answered" if lit else "never driven"
    damage = stand.damage
    return Seen(outcome, 1, safe, len(damage.violations), len(damage.events), took_s, words)


def drive_until_killed(order: dict[str, Any]) -> None:
    """In the process that is killed: watched over, it drives, says so, and goes on for ever."""
    watchdog = Watchdog([Ward("device", order["target"], order["address"], order["settings"])])
    watchdog.start()
    module, _, name = order["target"].partition(":")
    driver = getattr(import_module(module), name)("device", order["address"], **order["settings"])
    driver.open()
    USES[order["wire"]](driver)
    print(os.getpid(), flush=True)
    while True:
        driver.snapshot()


def _light(driver: Any) -> None:
    driver.drive(np.full((1, driver.spec.n_channels), 100))


def _load(driver: Any) -> None:
    driver.load(board_image(driver.spec))


def _arm(driver: Any) -> None:
    driver.configure({"TriggerMode": "On"})
    driver.arm(3)


def _show(driver: Any) -> None:
    driver.show(np.full(driver.spec.shape_px, 200, np.uint16))


USES: dict[str, Callable[[Any], None]] = {
    "SCPI socket": _light,
    "SCPI HiSLIP": _light,
    "serial board": _load,
    "GigE control": _arm,
    "display": _show,
}


def side_by_side(work: Callable[..., Seen], cases: Iterable[tuple[Any, ...]], jobs: int = JOBS) -> list[Seen]:
    """`work(*case)` of every case, in their order: days are mostly waiting."""
    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(lambda case: work(*case), cases))


if __name__ == "__main__":
    drive_until_killed(json.loads(sys.argv[1]))
