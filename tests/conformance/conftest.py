"""The cases: every implementation of every interface, each with an independent view of what arrived.

A case is Case(id, interface, implementation, make). `make` builds a Subject: the thing under test, and
`probe()`, which looks at the world behind it (light through the panel, light emitted, time gone by), never
at the device's own bookkeeping. A new driver or twin adds its case here; test_completeness.py says if it
did not.
"""

from __future__ import annotations

import atexit
import ctypes
import importlib.util
import math
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from firmware_board import FirmwareBoard, missing
from foreign_bench import ForeignBench, ForeignElectronics, ForeignPanel, perfect_unit
from foreign_board import WaveformBoard, WaveformWorld
from labctl_calibration import (
    LightCalibration,
    calibrate_camera,
    calibrate_open_loop,
    nominal_panel_record,
    nominal_spot_record,
)
from labctl_drivers.alp4.dmd import Alp4DMD
from labctl_drivers.display.slm import DisplaySLM
from labctl_drivers.dlpc900.dmd import Dlpc900DMD
from labctl_drivers.genicam.gentl import GentlCamera
from labctl_drivers.genicam.gige import GenICamCamera
from labctl_drivers.genicam.pylon import PylonCamera
from labctl_drivers.link import ownership
from labctl_drivers.micromanager import MicroManagerDevice
from labctl_drivers.scpi.input_drive import ScpiInputDrive
from labctl_drivers.scpi.instruments import ScpiLaser, ScpiOscilloscope, ScpiPowerMeter, ScpiSignalGenerator
from labctl_drivers.scpi.loop_electronics import ScpiLoopElectronics
from labctl_drivers.scpi.panel import ScpiPanel
from labctl_drivers.serial_board import SerialOscillatorBoard
from labctl_drivers.slmsuite.camera import SlmsuiteCamera
from labctl_drivers.slmsuite.slm import SlmsuiteSLM
from labctl_drivers.template import TemplateLaser
from labctl_sim_devices import (
    CameraTwin,
    DmdTwin,
    ElectronicsTwin,
    EmitterTwin,
    FlatFieldTwin,
    OpticalBench,
    OscillatorBench,
    OscillatorBoardTwin,
    PanelTwin,
    PhasePanelTwin,
    load_oscillator_profile,
    load_profile,
    oscillator_profile_names,
)
from labctl_sim_devices.instruments import (
    GeneratorTwin,
    InstrumentBench,
    LaserTwin,
    OscilloscopeTwin,
    PowerMeterTwin,
)
from labctl_sim_devices.wires.dlpc900 import Dlpc900Face
from labctl_sim_devices.wires.emulated import EmulatedCamera, PictureFace
from labctl_sim_devices.wires.gige import GigeFace
from labctl_sim_devices.wires.scpi.drive import ScpiDriveFace
from labctl_sim_devices.wires.scpi.instruments import (
    ScpiGeneratorFace,
    ScpiLaserFace,
    ScpiOscilloscopeFace,
    ScpiPowerMeterFace,
)
from labctl_sim_devices.wires.scpi.loop import ScpiLoopFace
from labctl_sim_devices.wires.scpi.panel import ScpiPanelFace
from labctl_sim_devices.wires.screen import ScreenFace
from labctl_sim_devices.wires.serial_board import SerialBoardFace
from labctl_sim_devices.wires.template import TemplateFace
from labctl_sim_devices.wires.virtual_screen import VirtualScreen

from labctl.devices import (
    BoardImage,
    Camera,
    FlatField,
    InputDrive,
    LoopElectronics,
    OscillatorBoard,
    SettleCodes,
    WeightModulator,
    king,
)
from labctl.devices.instruments import Laser, Oscilloscope, PowerMeter, SignalGenerator
from labctl.engines import (
    CameraReadout,
    DigitalEngine,
    FixedPointEngine,
    OpticalHostLoopEngine,
    OpticalLoopEngine,
    SecondStarts,
    WeightPanel,
)
from labctl.engines.channel_order import OrderedElectronics

SCREEN_NEEDS = {
    "Xvfb": shutil.which("Xvfb") is None,
    "pygame": find_spec("pygame") is None,
    "mss": find_spec("mss") is None,
}
os.environ.setdefault("PYLON_CAMEMU", "2")  # emulated cameras; read once, when the SDK is loaded
# what a camera's data sheet says where no world has one
SHEET = {"full_well_e": 10e3, "quantum_efficiency": 0.6, "read_noise_e": 5.0, "line_us": 5.0}
# a camera of another maker's simulation: no bench sends it triggers, nothing pulls its cable, no data sheet
# says its times, and it has no thermometer
MICRO_MANAGER = ("pymmcore_plus", "mm_test_adapters")
ALONE = {
    "world": False, "triggers": False, "unplugs": False, "timed": False, "lacks": ("temperature_c",),
}  # fmt: skip
# SWIG's, and what slmsuite's imports warn of
THEIRS = tuple(
    pytest.mark.filterwarnings(f"ignore:{words}")
    for words in ("builtin type:DeprecationWarning", ":UserWarning", ":DeprecationWarning")
)
PROFILES = ("ideal", "adm", "nature2025")
SCPI = {
    WeightModulator: (PanelTwin, ScpiPanelFace, ScpiPanel),
    InputDrive: (EmitterTwin, ScpiDriveFace, ScpiInputDrive),
    LoopElectronics: (ElectronicsTwin, ScpiLoopFace, ScpiLoopElectronics),
}

INSTRUMENTS = {
    Laser: (LaserTwin, ScpiLaserFace, ScpiLaser),
    PowerMeter: (PowerMeterTwin, ScpiPowerMeterFace, ScpiPowerMeter),
    Oscilloscope: (OscilloscopeTwin, ScpiOscilloscopeFace, ScpiOscilloscope),
    SignalGenerator: (GeneratorTwin, ScpiGeneratorFace, ScpiSignalGenerator),
}


@dataclass
class Subject:
    """What a case builds: the thing under test and the world behind it."""

    device: Any
    bench: OpticalBench | None = None
    panel: PanelTwin | None = None
    pixel_error = 0.0  # of the light, where pixels are held in single precision
    view = {"Width": 16, "Height": 8}  # a camera's part of its sensor, small

    def lit_share(self, turned):
        """Share of its light that a bright frame has when its pixels have turned so far from dark."""
        return turned

    def probe(self) -> dict[str, Any]:
        """Light through both sign paths [2, n, n], light emitted [B, n] (units of phi = 1), clock (us)."""
        bench = self.bench
        return {
            "light": bench.optics.transmittances(bench.now_us),
            "emitted": bench.emitted_units.copy(),
            "clock_us": bench.now_us,
        }

    def another(self, name, kind=None):
        """A second device at the same place, unopened; of a kind derived from the first one's."""
        return (kind or type(self.device))(name, self.bench)

    def unplug(self) -> None:
        """The cable is pulled."""
        self.bench.unplug()

    def light_cells(self, cells):
        """Let light through cells {(path, row, column)} alone: a frame made here, given to the optics."""
        self.bench.optics.frame_changed(_levels_of(self.bench.profile, cells), self.bench.now_us)
        self.bench.advance(self.bench.profile.panel_settle_us)


def _levels_of(profile, cells):
    """The panel's levels with cells {(path, row, column)} fully on."""
    height, width = profile.cell_px
    levels = np.zeros(profile.panel_shape_px, np.uint16)
    for path, row, column in cells:
        top, left = profile.path_origin_px[path]
        y, x = top + row * height, left + column * width
        levels[y : y + height, x : x + width] = profile.panel_levels - 1
    return levels


class ForeignSubject(Subject):
    """A device of the foreign bench, perfect but for its noise; `bench.profile` is its data sheet."""

    pixel_error = 1e-6

    def lit_share(self, turned):
        return math.sin(0.5 * math.pi * turned) ** 2  # its directors turn, and the light follows

    def probe(self):
        bench = self.bench
        return {
            "light": bench.collected()[0],
            "emitted": bench.emitted_units.copy(),
            "clock_us": bench.now_us,
        }

    def light_cells(self, cells):
        self.bench.frame_changed(_levels_of(self.bench.profile, cells))
        self.bench.advance(self.bench.profile.panel_settle_us)


class ScreenSubject(Subject):
    """A panel that is a screen: whoever lets time pass or looks at its light looks at the screen first."""

    def __init__(self, profile, seed, noise_scale):
        bench = OpticalBench(load_profile(profile), seed=seed, noise_scale=noise_scale)
        self.face = ScreenFace(PanelTwin("panel", bench), threading.RLock(), screen=_screen_of(bench.profile))
        wire = self.face.start()
        # short times: an unplugged screen is waited for
        self.settings = {**wire.settings, "open_timeout_s": 2.5, "timeout_s": 2.5, "attempts": 1}
        self.address = wire.address
        super().__init__(self.another("device-under-test"), bench)
        advance = bench.advance
        seen = []  # the face's own looking lets time pass, too

        def looked_at(duration_us):
            if not seen:
                seen.append(True)
                self.face.look()
                seen.clear()
            advance(duration_us)

        bench.advance = looked_at

    def another(self, name, kind=None):
        return (kind or DisplaySLM)(name, self.address, **self.settings)

    def probe(self):
        self.face.look()
        return super().probe()

    def unplug(self):
        self.face.screen.stop()


class ReportSubject(Subject):
    """Mirrors behind a controller that takes HID reports."""

    def __init__(self, profile, seed, noise_scale):
        bench = OpticalBench(load_profile(profile), seed=seed, noise_scale=noise_scale)
        self.face = Dlpc900Face(DmdTwin("mirrors", bench), threading.RLock())
        wire = self.face.start()
        self.address = wire.address
        # short times: an unplugged controller is waited for
        self.settings = {**wire.settings, "open_timeout_s": 0.5, "timeout_s": 10.0, "attempts": 1}
        super().__init__(self.another("device-under-test"), bench)

    def another(self, name, kind=None):
        return (kind or Dlpc900DMD)(name, self.address, **self.settings)

    def unplug(self):
        self.face.stop()


class LibrarySubject(Subject):
    """Mirrors behind a vendor's library, in whose place stands one of our own."""

    def __init__(self, profile, seed, noise_scale):
        bench = OpticalBench(load_profile(profile), seed=seed, noise_scale=noise_scale)
        self.twin = DmdTwin("mirrors", bench)
        self.twin.open()
        height, width = self.twin.spec.shape_px
        path = alp_stub()

        def started(pixels):
            seen = np.ctypeslib.as_array(pixels, (height, width))
            self.twin.show((seen >= 128).astype(np.uint16), wait=False)

        def waited():  # the driver asks for the state after it has waited, and then alone
            bench.advance(self.twin.spec.settle_time_us)

        calls = (_ON_START(started), _ON_STATE(waited))
        _alp_calls.append(calls)  # the library calls them as long as it is loaded: longer than this lives
        self.library = ctypes.CDLL(str(path))
        self.library.stub_device(width, height, 7000 + seed, *calls)
        self.address = f"alp:{path}"
        self.settings = {
            "height_px": height, "width_px": width, "settle_us": self.twin.spec.settle_time_us,
            "simulated": True, "open_timeout_s": 0.5, "attempts": 1,
        }  # fmt: skip
        super().__init__(self.another("device-under-test"), bench)

    def another(self, name, kind=None):
        return (kind or Alp4DMD)(name, self.address, **self.settings)

    def unplug(self):
        self.library.stub_unplug()


_ON_START = ctypes.CFUNCTYPE(None, ctypes.POINTER(ctypes.c_uint8))
_ON_STATE = ctypes.CFUNCTYPE(None)
_alp_copies = count()
_alp_calls: list[tuple[Any, Any]] = []


@cache
def _alp_folder():
    folder = Path(tempfile.mkdtemp(prefix="labctl-alp-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    source = Path(__file__).with_name("alp_stub.c")
    command = [
        "gcc",
        "-std=c11",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-shared",
        "-fPIC",
        "-o",
        folder / "alp.so",
        source,
    ]
    subprocess.run(command, check=True)
    return folder


def alp_stub():
    """A library of its own for each device: loaded from another file, it has another memory."""
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    folder = _alp_folder()
    path = folder / f"alp{next(_alp_copies)}.so"
    shutil.copy(folder / "alp.so", path)
    return path


_screens: dict[tuple[int, int], VirtualScreen] = {}


def _screen_of(profile):
    """A virtual screen for panel and mark: one for all cases, a new one after an unplugging."""
    height, width = profile.panel_shape_px
    shape = height + 8, width
    if shape not in _screens or not _screens[shape].runs:
        _screens[shape] = VirtualScreen(shape, device="screen")
        _screens[shape].start()
    return _screens[shape]


SIMULATED_BY_SDK = ("gentl", "slmsuite", "micromanager", "pylon")


@pytest.fixture(autouse=True)
def _locks_of_this_process(request, monkeypatch, worker_id):
    """Cameras that an SDK simulates are in every process under one address: no other process holds ours."""
    if any(name in request.node.name for name in SIMULATED_BY_SDK):
        monkeypatch.setattr(ownership, "FOLDER", f"{ownership.FOLDER}-conformance-{worker_id}")


@pytest.fixture(scope="session", autouse=True)
def _screens_put_away():
    yield
    for screen in _screens.values():
        screen.stop()


class BoardSubject(Subject):
    """An oscillator board; nothing but its clock can be seen from outside."""

    def probe(self):
        return {"clock_us": self.bench.now_us}


class GigeSubject(Subject):
    """A camera twin behind GigE Vision. The wire ends with the device that stands on it."""

    def __init__(self, profile, seed, noise_scale):
        bench = OpticalBench(load_profile(profile), seed=seed, noise_scale=noise_scale)
        self.face = GigeFace(CameraTwin("device-under-test", bench), threading.RLock())
        wire = self.face.start()
        # short times: an unplugged camera is waited for
        self._wire = wire.address, {**wire.settings, "discovery_s": 0.2, "open_timeout_s": 0.5}
        super().__init__(self.another("device-under-test"), bench)
        weakref.finalize(self.device, self.face.stop)

    def another(self, name, kind=None):
        address, settings = self._wire
        return (kind or GenICamCamera)(name, address, **settings)

    def unplug(self):
        self.face.unplug()


class AloneSubject(Subject):
    """A camera of another maker's simulation, with no bench behind it."""

    def __init__(self, kind, address, view=Subject.view, **settings):
        self._made = kind, address, {**SHEET, "shutter": "global", "frame_wait_s": 5.0, **settings}
        self.view = view
        super().__init__(self.another("device-under-test"))

    def another(self, name, kind=None):
        own, address, settings = self._made
        return (kind or own)(name, address, **settings)

    def probe(self):
        return {}


class PylonSubject(Subject):
    """A camera twin behind the emulation in Basler's SDK: it takes the pictures that this one plays."""

    def __init__(self, profile, seed, noise_scale):
        bench = OpticalBench(load_profile(profile), seed=seed, noise_scale=noise_scale)
        self.face = PictureFace(CameraTwin("device-under-test", bench), threading.RLock())
        self._serial = f"0815-000{seed % 2}"
        super().__init__(self.another("device-under-test"), bench)
        weakref.finalize(self.device, self.face.stop)

    def another(self, name, kind=None):
        from pypylon import pylon

        settings = {**self.face.data_sheet(), "trigger_wait_s": 0.3, "frame_wait_s": 0.3}
        device = (kind or PylonCamera)(name, self._serial, **settings)
        connect = device._connect

        def before_a_world(deadline):
            wire = connect(deadline)
            wire._camera = EmulatedCamera(wire._camera, self.face, pylon.TimeoutHandling_Return)
            return wire

        device._connect = before_a_world
        return device


class SlmsuiteSubject(Subject):
    """A twin behind a class as slmsuite wants it."""

    def __init__(self, driver, twin, name, bench, settings):
        self._made = driver, f"simulated_slmsuite:{name}", {"arguments": {"twin": twin}, **settings}
        super().__init__(self.another("device-under-test"), bench)

    def another(self, name, kind=None):
        own, address, settings = self._made
        return (kind or own)(name, address, **settings)


class InstrumentSubject(Subject):
    """A bench instrument; the probe sees the light and the voltages that are there."""

    def probe(self):
        bench = self.bench
        return {"clock_us": bench.now_us, "laser_mw": bench.laser_mw, "outputs": str(bench.outputs)}


class WiredInstrumentSubject(InstrumentSubject):
    """A bench instrument behind a face. The wire ends with the device that stands on it."""

    def __init__(self, twin, face, driver, bench, **settings):
        served = face(twin("device-under-test", bench), threading.RLock())
        self._driver, self._wire = driver, served.start()
        self._settings = {"timeout_s": 0.6, "open_timeout_s": 1.8, **settings}
        device = self.another("device-under-test")
        weakref.finalize(device, served.stop)
        super().__init__(device, bench)

    def another(self, name, kind=None):
        return (kind or self._driver)(name, self._wire.address, **self._settings)


class ScpiSubject(Subject):
    """A twin behind SCPI. The wire ends with the device that stands on it."""

    def __init__(self, twin, face, driver, medium, bench):
        served = face(twin("device-under-test", bench), threading.RLock(), medium=medium)
        self._driver, self._wire = driver, served.start()
        device = self.another("device-under-test")
        weakref.finalize(device, served.stop)
        super().__init__(device, bench)

    def another(self, name, kind=None):
        return (kind or self._driver)(name, self._wire.address)


class SerialBoardSubject(BoardSubject):
    """A twin behind a serial line, unpaced. The line ends with the device that stands on it."""

    def __init__(self, bench):
        face = SerialBoardFace(OscillatorBoardTwin("device-under-test", bench), threading.RLock())
        self._address = face.start().address
        device = self.another("device-under-test")
        weakref.finalize(device, face.stop)
        super().__init__(device, bench)

    def another(self, name, kind=None):
        return (kind or SerialOscillatorBoard)(name, self._address, timeout_s=5.0)


class FirmwareSubject(Subject):
    """The reference firmware on an emulated microcontroller; its clock is looked up in its memory."""

    def __init__(self, seed):
        self._board = FirmwareBoard(serial_number=1 + seed)
        device = self.another("device-under-test")
        weakref.finalize(device, self._board.stop)
        super().__init__(device)

    def another(self, name, kind=None):
        return (kind or SerialOscillatorBoard)(
            name, self._board.address, attempts=1, timeout_s=3.0, open_timeout_s=3.0
        )

    def probe(self):
        return {"clock_us": self._board.clock_us()}

    def unplug(self):
        # as long as its other end is held, no other test's line gets the same name
        held = os.open(self._board.address, os.O_RDWR | os.O_NOCTTY)
        weakref.finalize(self, os.close, held)
        self._board.stop()


@dataclass(frozen=True)
class Case:
    """One implementation on one profile. Tolerances of its own and what it cannot do are in `notes`.

    Of devices: world (a bench stands behind it), unplugs (its cable can be pulled), lacks (operations that
    are refused in words, features that cannot be set). Of cameras: triggers (those of the bench reach it;
    "uncounted": lost ones are not known), timed (by the twin's clock), exposure_us (one that it has exactly).
    needs: packages without which its tests are skipped. slow: its tests are, as another case of the same
    implementation is tried every day.
    """

    id: str
    interface: type
    implementation: type
    make: Callable[..., Subject]
    notes: dict = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    slow: bool = False

    @property
    def world(self):
        return self.notes.get("world", True)

    @property
    def unplugs(self):
        return self.notes.get("unplugs", True)

    @property
    def absent(self):
        """What it needs and is not installed."""
        return ", ".join(name for name in self.needs if find_spec(name) is None)

    def as_parameter(self):
        """For parametrize: skipped in words where a package is not installed."""
        skip = pytest.mark.skipif(bool(self.absent), reason=f"{self.absent} is not installed")
        marks = [skip, *THEIRS] if self.needs else []
        return pytest.param(self, id=self.id, marks=[*marks, pytest.mark.slow] if self.slow else marks)


def _device_case(profile, interface, implementation, suffix):
    def make(*, seed=0, noise_scale=0.0):
        bench = OpticalBench(load_profile(profile), seed=seed, noise_scale=noise_scale)
        return Subject(implementation("device-under-test", bench), bench)

    return Case(f"{suffix}-twin-{profile}", interface, implementation, make, {"profile": profile})


def _gige_case(profile):
    def make(*, seed=0, noise_scale=0.0):
        return GigeSubject(profile, seed, noise_scale)

    notes = {"profile": profile}
    return Case(f"camera-gige-{profile}", Camera, GenICamCamera, make, notes, ("viva_genicam",))


def _pylon_case(profile):
    def make(*, seed=0, noise_scale=0.0):
        return PylonSubject(profile, seed, noise_scale)

    notes = {
        "profile": profile, "triggers": "uncounted", "timed": False, "unplugs": False, "exposure_us": 12.0,
        "lacks": ("temperature_c",),
    }  # fmt: skip
    return Case(f"camera-pylon-{profile}", Camera, PylonCamera, make, notes, ("pypylon",))


def _gentl_case():
    """Simulated cameras of the producer in genicam's wheel, one a seed; none reads less than 100 pixels."""

    def make(*, seed=0, noise_scale=0.0):
        producer = Path(find_spec("genicam").origin).with_name("viky.cti")
        address = f"{producer}::VikyTL_DEV_{('red', 'green', 'blue')[seed]}"
        return AloneSubject(GentlCamera, address, {"Width": 128, "Height": 100}, pixel_format="Mono8")

    notes = {**ALONE, "lacks": ("temperature_c", "OffsetX", "OffsetY", "ExposureTime")}
    return Case("camera-gentl", Camera, GentlCamera, make, notes, ("harvesters", "genicam"))


def _micromanager_case():
    """Micro-Manager's demonstration camera, by a configuration file."""

    def make(*, seed=0, noise_scale=0.0):
        import mm_test_adapters

        file = _configurations() / f"bench{seed}.cfg"
        file.write_text(f"Device,Eye{seed},DemoCamera,DCam\nProperty,Core,Initialize,1\n")
        return AloneSubject(
            MicroManagerDevice,
            f"{file}#Eye{seed}",
            adapter_paths=(str(mm_test_adapters.device_adapter_path()),),
            properties={"PixelType": "16bit", "BitDepth": "12"},
        )

    notes = {**ALONE, "exposure_us": 20.0}  # steps of 10 us
    return Case("camera-micromanager", Camera, MicroManagerDevice, make, notes, MICRO_MANAGER)


@cache
def _configurations():
    folder = Path(tempfile.mkdtemp(prefix="labctl-micromanager-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _slmsuite_case(interface, implementation, twin, name, profile, **settings):
    def make(*, seed=0, noise_scale=0.0):
        _slmsuite_classes()
        bench = OpticalBench(load_profile(profile), seed=seed, noise_scale=noise_scale)
        return SlmsuiteSubject(implementation, twin("device-under-test", bench), name, bench, settings)

    notes = {"profile": profile, "unplugs": False, "triggers": False, "timed": False}
    if interface is Camera:
        notes["lacks"] = ("temperature_c",)
    suffix = "camera" if interface is Camera else "panel"
    return Case(f"{suffix}-slmsuite-{profile}", interface, implementation, make, notes, ("slmsuite",))


@cache
def _slmsuite_classes():
    """The module beside this file, under the name that the addresses have."""
    where = importlib.util.spec_from_file_location(
        "simulated_slmsuite", Path(__file__).with_name("simulated_slmsuite.py")
    )
    made = importlib.util.module_from_spec(where)
    where.loader.exec_module(made)
    sys.modules["simulated_slmsuite"] = made


def _scpi_case(profile, interface, medium):
    twin, face, driver = SCPI[interface]

    def make(*, seed=0, noise_scale=0.0):
        bench = OpticalBench(load_profile(profile), seed=seed, noise_scale=noise_scale)
        return ScpiSubject(twin, face, driver, medium, bench)

    suffix = interface.__name__.lower()
    return Case(f"{suffix}-scpi-{medium}-{profile}", interface, driver, make, {"profile": profile})


def _instrument_case(interface, *, wired):
    twin, face, driver = INSTRUMENTS[interface]

    def make(*, seed=0, noise_scale=0.0):
        bench = InstrumentBench(seed=seed, noise_scale=noise_scale)
        if wired:
            return WiredInstrumentSubject(twin, face, driver, bench)
        return InstrumentSubject(twin("device-under-test", bench), bench)

    name = f"{interface.__name__.lower()}-{'scpi' if wired else 'twin'}"
    return Case(name, interface, driver if wired else twin, make, {"profile": "instruments"})


def _template_case():
    """The driver to copy: a case of this kind comes with the copy."""

    def make(*, seed=0, noise_scale=0.0):
        bench = InstrumentBench(seed=seed, noise_scale=noise_scale)
        return WiredInstrumentSubject(LaserTwin, TemplateFace, TemplateLaser, bench, attempts=1)

    return Case("laser-template", Laser, TemplateLaser, make, {"profile": "instruments"})


def _foreign_bench(seed, noise_scale):
    """The foreign bench, perfect but for its noise, with its data sheet as `profile`."""
    unit = perfect_unit()
    bench = ForeignBench(unit, seed=seed, noise_scale=noise_scale)
    bench.profile = SimpleNamespace(
        n_channels=48,
        panel_shape_px=(1080, 1920),
        panel_levels=256,
        cell_px=(22, 20),
        path_origin_px=((12, 0), (12, 960)),
        transmittance_off=0.0,
        transmittance_on=1.0,
        panel_kind="lcos-intensity",
        panel_settle_us=20_000.0,
        panel_tau_us=unit.rise_us,
        pedestal_units=unit.pedestal_units,
        gain_bits=8,
        state_gain_range=(5e-4, 1.0),
        hidden_gain_range=(0.02, 20.0),
        link_latency_us=50.0,
    )
    return bench


def _screen_case(profile):
    def make(*, seed=0, noise_scale=0.0):
        for needed, absent in SCREEN_NEEDS.items():
            if absent:
                pytest.skip(f"{needed} is not installed")
        return ScreenSubject(profile, seed, noise_scale)

    return Case(f"panel-on-screen-{profile}", WeightModulator, DisplaySLM, make, {"profile": profile})


def _report_case():
    def make(*, seed=0, noise_scale=0.0):
        return ReportSubject("dmd", seed, noise_scale)

    return Case("mirrors-on-reports", WeightModulator, Dlpc900DMD, make, {"profile": "dmd"})


def _library_case():
    def make(*, seed=0, noise_scale=0.0):
        return LibrarySubject("dmd", seed, noise_scale)

    return Case("mirrors-by-library", WeightModulator, Alp4DMD, make, {"profile": "dmd"})


def _foreign_case(interface, implementation, suffix):
    def make(*, seed=0, noise_scale=0.0):
        bench = _foreign_bench(seed, noise_scale)
        return ForeignSubject(implementation("device-under-test", bench), bench)

    return Case(
        f"{suffix}-foreign", interface, implementation, make, {"profile": "foreign", "sequencer": False}
    )


def _board_case(profile):
    def make(*, seed=0, noise_scale=0.0):
        bench = OscillatorBench(load_oscillator_profile(profile), seed=seed, noise_scale=noise_scale)
        return BoardSubject(OscillatorBoardTwin("device-under-test", bench), bench)

    return Case(f"board-twin-{profile}", OscillatorBoard, OscillatorBoardTwin, make, {"profile": profile})


def _serial_board_case(profile):
    def make(*, seed=0, noise_scale=0.0):
        bench = OscillatorBench(load_oscillator_profile(profile), seed=seed, noise_scale=noise_scale)
        return SerialBoardSubject(bench)

    return Case(f"board-serial-{profile}", OscillatorBoard, SerialOscillatorBoard, make, {"profile": profile})


def _firmware_case():
    def make(*, seed=0, noise_scale=0.0):
        return FirmwareSubject(seed)

    return Case("board-firmware", OscillatorBoard, SerialOscillatorBoard, make, {"profile": "firmware"})


def _foreign_board_case():
    def make(*, seed=0, noise_scale=0.0):
        world = WaveformWorld(king(3, 4), seed=seed)
        return BoardSubject(WaveformBoard("device-under-test", world), world)

    return Case("board-foreign", OscillatorBoard, WaveformBoard, make, {"profile": "foreign"})


def _ordered_case(profile):
    """Electronics behind a channel order: the identity, as the suite knows channels by number."""

    def make(*, seed=0, noise_scale=0.0):
        bench = OpticalBench(load_profile(profile), seed=seed, noise_scale=noise_scale)
        inner = ElectronicsTwin("device-under-test", bench)
        return Subject(OrderedElectronics(inner, np.arange(bench.profile.n_channels)), bench)

    return Case(
        f"electronics-in-order-{profile}", LoopElectronics, OrderedElectronics, make, {"profile": profile}
    )


def _optical_engine_case(profile, overrides, *, audited=False, **notes):
    def make(*, seed=0, noise_scale=1.0):
        bench = OpticalBench(load_profile(profile, overrides), seed=seed, noise_scale=noise_scale)
        panel, electronics = PanelTwin("panel", bench), ElectronicsTwin("electronics", bench)
        panel.open()
        electronics.open()
        record = nominal_panel_record(panel.spec, bench.profile.n_channels, "case")
        engine = OpticalLoopEngine(panel, electronics, record, calibrate_open_loop)
        return Subject(SecondStarts(engine, 3) if audited else engine, bench, panel)

    name = f"optical-loop-{profile}" + ("-second-starts" if audited else "")
    return Case(name, FixedPointEngine, SecondStarts if audited else OpticalLoopEngine, make, notes)


def _foreign_engine_case(wait_us, **notes):
    """The optical engine on a bench of other equations."""

    def make(*, seed=0, noise_scale=1.0):
        bench = _foreign_bench(seed, noise_scale)
        panel = ForeignPanel("panel", bench)
        electronics = ForeignElectronics("electronics", bench, wait_us=wait_us)
        panel.open()
        electronics.open()
        record = nominal_panel_record(panel.spec, electronics.spec.n_channels, "case")
        engine = OpticalLoopEngine(panel, electronics, record, calibrate_open_loop)
        return ForeignSubject(engine, bench, panel)

    return Case("optical-loop-foreign", FixedPointEngine, OpticalLoopEngine, make, notes)


def _camera_engine_case(profile, overrides, **notes):
    """The optical engine, its states read through a camera."""
    build = _optical_engine_case(profile, overrides).make

    def make(*, seed=0, noise_scale=1.0):
        subject = build(seed=seed, noise_scale=noise_scale)
        bench = subject.bench
        camera = CameraTwin("camera", bench)
        camera.open()
        spots = nominal_spot_record(camera.spec, bench.profile.n_channels, "case")
        panel_record = nominal_panel_record(subject.panel.spec, bench.profile.n_channels, "case")

        def calibrate(electronics, camera, exposure_us):
            return calibrate_camera(
                subject.panel, electronics, camera, panel_record=panel_record, spots=spots,
                exposure_us=exposure_us,
            )  # fmt: skip

        subject.device.camera = CameraReadout(camera, spots, calibrate)
        return subject

    return Case(f"optical-loop-camera-{profile}", FixedPointEngine, OpticalLoopEngine, make, notes)


def _host_engine_case(profile, **notes):
    """Panel, emitters and camera; the host closes the loop."""

    def make(*, seed=0, noise_scale=1.0):
        bench = OpticalBench(load_profile(profile), seed=seed, noise_scale=noise_scale)
        panel, drive = PanelTwin("panel", bench), EmitterTwin("emitters", bench)
        camera = CameraTwin("camera", bench)
        for device in (panel, drive, camera):
            device.open()
        record = nominal_panel_record(panel.spec, bench.profile.n_channels, "case")
        spots = nominal_spot_record(camera.spec, bench.profile.n_channels, "case")
        engine = OpticalHostLoopEngine(WeightPanel(panel, record), drive, camera, LightCalibration(spots))
        return Subject(engine, bench, panel)

    return Case(f"optical-host-{profile}", FixedPointEngine, OpticalHostLoopEngine, make, notes)


def _digital_engine_case(method, **notes):
    def make(*, seed=0, noise_scale=1.0):
        return Subject(DigitalEngine(48, method=method, max_iterations=2000))

    return Case(f"digital-{method}", FixedPointEngine, DigitalEngine, make, notes)


DEVICE_CASES = [
    _device_case(profile, interface, implementation, suffix)
    for interface, implementation, suffix in (
        (WeightModulator, PanelTwin, "panel"),
        (InputDrive, EmitterTwin, "emitters"),
        (LoopElectronics, ElectronicsTwin, "electronics"),
        (Camera, CameraTwin, "camera"),
    )
    for profile in PROFILES
]
DEVICE_CASES.append(_device_case("adm", FlatField, FlatFieldTwin, "flat-field"))
DEVICE_CASES.append(_device_case("dmd", WeightModulator, DmdTwin, "mirrors"))
DEVICE_CASES.append(_device_case("phase", WeightModulator, PhasePanelTwin, "gratings"))
DEVICE_CASES.append(_screen_case("adm"))
DEVICE_CASES.append(_report_case())
DEVICE_CASES.append(_library_case())
DEVICE_CASES.append(_foreign_case(WeightModulator, ForeignPanel, "panel"))
DEVICE_CASES.append(_foreign_case(LoopElectronics, ForeignElectronics, "electronics"))
DEVICE_CASES += [_gige_case(profile) for profile in ("ideal", "adm")]
DEVICE_CASES += [_pylon_case("adm"), _gentl_case(), _micromanager_case()]
DEVICE_CASES += [
    _slmsuite_case(WeightModulator, SlmsuiteSLM, PanelTwin, "BenchSLM", "adm", kind="lcos-intensity"),
    _slmsuite_case(Camera, SlmsuiteCamera, CameraTwin, "BenchCamera", "adm", **SHEET, shutter="global"),
]
DEVICE_CASES += [
    _scpi_case("adm", interface, medium) for interface in SCPI for medium in ("socket", "hislip")
]
DEVICE_CASES += [
    _instrument_case(interface, wired=wired) for interface in INSTRUMENTS for wired in (False, True)
]
DEVICE_CASES.append(_template_case())
DEVICE_CASES.append(_scpi_case("ideal", LoopElectronics, "hislip"))
DEVICE_CASES += [_board_case(profile) for profile in oscillator_profile_names()]
DEVICE_CASES += [_serial_board_case(profile) for profile in ("board50", "chip1ghz", "ideal")]
if not missing():  # tests/firmware says so in words where it is
    DEVICE_CASES.append(_firmware_case())
DEVICE_CASES.append(_foreign_board_case())
ORDERED_CASE = _ordered_case("adm")  # of the interface, but built around a device, not on a bench
# Waits of 40 tau and more: what a shipped wait leaves is tested elsewhere. quiet, noisy: largest error of a
# state (units) with noise off (codes of bias, trim, ADC; emitters and pixels) and on (None: there is none);
# batch: what another batching may change. weights: error of measured weights with noise off; warm: iterations
# from a start at the solution.
ENGINE_CASES = [
    _optical_engine_case("ideal", {"wait_us": 60.0}, quiet=1e-6, noisy=None, batch=1e-9),
    _optical_engine_case("adm", {"wait_us": 30.0}, quiet=1.5e-3, noisy=0.03, batch=1e-5),
    _optical_engine_case("nature2025", {"wait_us": 8.0}, quiet=1.5e-3, noisy=0.03, batch=1e-5),
    _foreign_engine_case(30.0, quiet=1.5e-3, noisy=0.03, batch=1e-5),
    _camera_engine_case("adm", {"wait_us": 30.0}, quiet=1e-2, noisy=0.3, batch=1e-3, camera=True),
    _optical_engine_case("nature2025", {"wait_us": 8.0}, audited=True, quiet=1.5e-3, noisy=0.03, batch=1e-5),
    _host_engine_case("adm", quiet=5e-3, noisy=0.1, batch=1e-9, weights=1e-3, warm=40, host=True),
    _digital_engine_case("picard", quiet=1e-8, noisy=None, batch=1e-9),
    _digital_engine_case("anderson", quiet=1e-8, noisy=None, batch=1e-8),
]

# Beside another case of the same implementation, or a bench and a board of the tests' own.
SLOW_PROFILES = ("ideal", "nature2025", "foreign", "firmware", "unit50", "bench100khz", "pcb1mhz", "chip1ghz")
DEVICE_CASES = [replace(case, slow=case.notes.get("profile") in SLOW_PROFILES) for case in DEVICE_CASES]
SLOW_ENGINES = (
    "optical-loop-ideal",
    "optical-loop-nature2025",
    "optical-loop-foreign",
    "optical-loop-camera-adm",
)
ENGINE_CASES = [replace(case, slow=case.id in SLOW_ENGINES) for case in ENGINE_CASES]

FIXTURES = {
    "device_case": DEVICE_CASES,
    "modulator_case": [c for c in DEVICE_CASES if c.interface is WeightModulator],
    "drive_case": [c for c in DEVICE_CASES if c.interface is InputDrive],
    "loop_case": [*(c for c in DEVICE_CASES if c.interface is LoopElectronics), ORDERED_CASE],
    "chain_case": [
        *(c for c in DEVICE_CASES if c.interface is LoopElectronics and c.notes.get("sequencer", True)),
        ORDERED_CASE,
    ],
    "camera_case": [c for c in DEVICE_CASES if c.interface is Camera],
    "lit_case": [c for c in DEVICE_CASES if c.interface is Camera and c.world],
    "triggered_case": [c for c in DEVICE_CASES if c.interface is Camera and c.notes.get("triggers", True)],
    "counting_case": [
        c for c in DEVICE_CASES if c.interface is Camera and c.notes.get("triggers", True) is True
    ],
    "laser_case": [c for c in DEVICE_CASES if c.interface is Laser],
    "meter_case": [c for c in DEVICE_CASES if c.interface is PowerMeter],
    "scope_case": [c for c in DEVICE_CASES if c.interface is Oscilloscope],
    "generator_case": [c for c in DEVICE_CASES if c.interface is SignalGenerator],
    "board_case": [c for c in DEVICE_CASES if c.interface is OscillatorBoard],
    "engine_case": ENGINE_CASES,
}


def pytest_generate_tests(metafunc):
    for name, cases in FIXTURES.items():
        if name in metafunc.fixturenames:
            metafunc.parametrize(name, [case.as_parameter() for case in cases])


@pytest.fixture
def all_cases():
    """Every case of every interface."""
    return [*DEVICE_CASES, ORDERED_CASE, *ENGINE_CASES]


@pytest.fixture
def opened():
    """Factory: a subject whose device is open; closed again at the end."""
    subjects = []

    def build(case, **options):
        subject = case.make(**options)
        subject.device.open()
        subjects.append(subject)
        return subject

    yield build
    for subject in subjects:
        subject.device.close()


@pytest.fixture
def unchanged():
    """Compare two probes: nothing arrived between them, and no time went by."""

    def compare(before, after):
        for name in before:
            np.testing.assert_array_equal(before[name], after[name], err_msg=name)

    return compare


@pytest.fixture
def board_image():
    """Factory of a BoardImage of random codes, every one in range: board_image(spec, segments, seed=0)."""

    def build(spec, segments=2, *, seed=0, **tables):
        rng = np.random.Generator(np.random.Philox(key=seed))
        n, e = spec.n, spec.topology.n_edges

        def signed(top, *shape):
            return rng.integers(-top, top + 1, shape)

        unit_ticks = max(1, round(0.4 * spec.unit_us / spec.tick_us))
        full = round(min(1.0, spec.max_scale_units) / spec.scale_units_per_code)
        drawn = {
            "coupling": signed(spec.max_coupling_code, segments, e) * spec.usable,
            "scale": np.full(segments, full),
            "in_phase": signed(spec.injection.max_code // 2, segments, n),
            "quadrature": signed(spec.injection.max_code // 2, segments, n),
            "second": signed(spec.second.max_code // 2, segments, n),
            "detuning": signed(spec.detuning.max_code // 2, segments, n),
            "ticks": np.full(segments, unit_ticks),
            "start_phase": rng.integers(0, spec.max_start_code + 1, n),
            "start_amplitude": rng.integers(0, spec.max_amplitude_code + 1, n),
        }
        return BoardImage(spec.topology.hash, **{**drawn, **tables})

    return build


@pytest.fixture
def settle_codes():
    """Factory of SettleCodes; scalars and rows broadcast: settle_codes(spec, 2, bias=[...], gain=17)."""

    def build(spec, batch=1, *, bias=0, gain=0, leak=None, gain_range=0, start=0, step_id=0, sample_id=None):
        n, leak = spec.n_channels, spec.max_leak_code if leak is None else leak

        def spread(value, rows):
            return np.broadcast_to(np.asarray(value, dtype=np.int64), (rows, n)).copy()

        return SettleCodes(
            bias=spread(bias, batch),
            gain=spread(gain, 1),
            leak=spread(leak, 1),
            gain_range=spread(gain_range, 1)[0],
            start=spread(start, batch),
            step_id=step_id,
            sample_id=np.arange(batch) if sample_id is None else np.asarray(sample_id),
        )

    return build
