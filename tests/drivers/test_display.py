"""A panel on a screen: what the window draws is what the screen shows and what the optics see."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from labctl_sim_devices import OpticalBench, PanelTwin, load_profile
from labctl_sim_devices.wires.screen import FrameMark, LookingLock, ScreenFace

from labctl import load_protocol, run
from labctl.devices import (
    ConfigError,
    DeviceError,
    DeviceFault,
    DeviceUnavailable,
    Identity,
    ModulatorSpec,
    ShowReceipt,
    WeightModulator,
)
from labctl.devices.weight_modulator import frame_checksum
from labctl.rig import ServedRig, load_rig, open_rig

pygame = pytest.importorskip("pygame", reason="pygame is not installed")
pytest.importorskip("mss", reason="mss is not installed")
if subprocess.run(["which", "Xvfb"], capture_output=True, check=False).returncode:
    pytest.skip("Xvfb is not installed", allow_module_level=True)

from labctl_drivers.display.slm import DisplaySLM  # noqa: E402

PATIENT = {"open_timeout_s": 30.0, "timeout_s": 20.0}  # a machine may be busy


class SmallPanel(PanelTwin):
    """A twin that only keeps what it is shown, of a size that divides by nothing."""

    def __init__(self, shape_px=(61, 307)):
        WeightModulator.__init__(self, "small")
        self._spec = ModulatorSpec(shape_px, 256, 100.0, 60.0, "lcos-intensity")
        self.frames, self.waited = [], []

    @property
    def spec(self):
        return self._spec

    def _require_bench(self, operation):
        pass

    def _do_open(self):
        return Identity("labctl", "small panel", "SMALL-1", "1", simulated=True)

    def _do_close(self):
        pass

    def _do_shown(self):
        return self.frames[-1] if self.frames else np.zeros(self._spec.shape_px, np.uint16)

    def _do_show(self, levels, wait):
        self.frames.append(levels.copy())
        self.waited.append(wait)
        return ShowReceipt(len(self.frames), frame_checksum(levels), True, wait, 0.0)


def frames_of(shape, count, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, shape).astype(np.uint16) for _ in range(count)]


@pytest.fixture
def wired():
    """Factory: (face, driver) over a device, the driver open."""
    faces, drivers = [], []

    def make(device, *, settings=None, open_it=True, lock=None, **options):
        face = ScreenFace(device, lock or threading.RLock(), **options)
        faces.append(face)
        wire = face.start()
        driver = DisplaySLM("slm", wire.address, **{**wire.settings, **PATIENT, **(settings or {})})
        drivers.append(driver)
        if open_it:
            driver.open()
        return face, driver

    yield make
    for driver in drivers:
        driver.close()
    for face in faces:
        face.stop()


@pytest.mark.parametrize("options", [{}, {"margin_px": 13}, {"mark": False}], ids=["", "placed", "bare"])
def test_thirty_random_frames_arrive_bit_for_bit(wired, options):
    panel = SmallPanel()
    face, driver = wired(panel, **options)
    frames = frames_of(driver.spec.shape_px, 30)
    for number, frame in enumerate(frames, start=1):
        receipt = driver.show(frame)
        grabbed, mark = face.grab()
        np.testing.assert_array_equal(grabbed, frame)
        assert receipt.frame_id == number
        assert not receipt.read_back  # a display answers nothing
        assert (mark is None) == (options.get("mark") is False)
        assert mark is None or (mark.number, mark.waits) == (number, True)
        face.look()
    assert len(panel.frames) == 30
    for frame, seen in zip(frames, panel.frames, strict=True):
        np.testing.assert_array_equal(seen, frame)


def test_red_green_and_blue_are_the_same_and_nothing_else_is_lit(wired):
    face, driver = wired(SmallPanel(), margin_px=9, mark=False)
    (frame,) = frames_of(driver.spec.shape_px, 1)
    driver.show(frame)
    pixels = face.screen.pixels()
    for colour in range(3):
        np.testing.assert_array_equal(pixels[9:, 9:, colour], frame)
    assert not pixels[:9].any()
    assert not pixels[:, :9].any()


def test_flips_through_the_renderer_are_as_exact(wired):
    """What a screen with a retrace gets; here there is none to wait for, and the snapshot says what came."""
    face, driver = wired(SmallPanel(), settings={"vsync": "asked"})
    for frame in frames_of(driver.spec.shape_px, 5):
        driver.show(frame)
        np.testing.assert_array_equal(face.grab()[0], frame)
    assert driver.snapshot()["flip_us"] > 0


def test_a_screen_without_retrace_is_refused_where_one_is_required(wired):
    _, driver = wired(SmallPanel(), settings={"vsync": "required", "refresh_hz": 0.5}, open_it=False)
    with pytest.raises(DeviceFault, match=r"open: flips come every .* us and the panel .* 2000000 us"):
        driver.open()
    assert not driver.is_open


@pytest.mark.parametrize("profile", ["adm", pytest.param("unit", marks=pytest.mark.slow)])
def test_the_world_sees_what_an_in_process_panel_would_show_it(wired, profile):
    """Light and clock bit-equal, waiting and not, with frames that stay and frames that come again."""
    here, there = (OpticalBench(load_profile(profile), seed=3) for _ in range(2))
    direct = PanelTwin("panel", here)
    direct.open()
    face, driver = wired(PanelTwin("panel", there))
    shape = direct.spec.shape_px
    first, second = frames_of(shape, 2, seed=5)
    for frame, wait in ((first, True), (second, False), (second, True), (first, False), (first, False)):
        direct.show(frame, wait=wait)
        driver.show(frame, wait=wait)
        face.look()
        assert there.now_us == here.now_us
        assert there.frames_shown == here.frames_shown
        np.testing.assert_array_equal(there.transmittances(), here.transmittances())
    direct.close()
    driver.close()
    face.look()
    np.testing.assert_array_equal(there.transmittances(), here.transmittances())


def test_frames_that_nothing_looked_at_are_counted(wired):
    panel = SmallPanel()
    face, driver = wired(panel)
    frames = frames_of(driver.spec.shape_px, 4)
    for frame in frames:
        driver.show(frame, wait=False)
    face.look()
    assert len(panel.frames) == 4
    assert not panel.frames[0].any()  # dark stands for what is lost
    np.testing.assert_array_equal(panel.frames[-1], frames[-1])
    assert panel.waited == [True, True, True, False]
    face.look()
    assert len(panel.frames) == 4
    # another window over the same screen counts from one again
    driver.close()
    driver.open()
    driver.show(frames[0])
    face.look()
    assert len(panel.frames) == 6
    assert not panel.frames[4].any()
    np.testing.assert_array_equal(panel.frames[5], frames[0])


def test_whoever_takes_the_worlds_lock_has_looked(wired):
    lock = LookingLock(threading.RLock())
    panel = SmallPanel()
    face, driver = wired(panel, lock=lock)
    lock.screens.append(face)
    (frame,) = frames_of(driver.spec.shape_px, 1)
    driver.show(frame)
    assert not panel.frames
    with lock, lock:
        assert len(panel.frames) == 1
    with lock:
        assert len(panel.frames) == 1


def test_a_mark_with_any_square_turned_is_none():
    said = 77 << 17 | 4711 << 1 | 1
    word = said << 7 | said % 127

    def strip(word):
        bits = np.array([word >> (31 - bit) & 1 for bit in range(32)], np.uint8) * 255
        return np.tile(bits.repeat(8), (8, 1))

    assert FrameMark.read(strip(word)) == FrameMark(77, 4711, True)
    for bit in range(32):
        assert FrameMark.read(strip(word ^ 1 << bit)) is None
    torn = strip(word)
    torn[4:] = strip(word ^ 0xFFFF)[4:]
    assert FrameMark.read(torn) is None
    assert FrameMark.read(np.zeros((8, 256), np.uint8)) is None
    assert FrameMark.read(np.full((8, 256), 7, np.uint8)) is None


def test_a_window_that_dies_comes_back_with_its_frame(wired):
    face, driver = wired(SmallPanel())
    first, second = frames_of(driver.spec.shape_px, 2)
    driver.show(first)
    driver.wire()._process.kill()
    driver.wire()._process.wait()
    np.testing.assert_array_equal(driver.shown(), first)
    np.testing.assert_array_equal(face.grab()[0], first)
    receipt = driver.show(second)
    assert receipt.frame_id == 2
    np.testing.assert_array_equal(face.grab()[0], second)


OWNER = """
import json, sys, time
import numpy as np
from labctl_drivers.display.slm import DisplaySLM
address, settings = json.loads(sys.argv[1])
driver = DisplaySLM("slm", address, **settings)
driver.open()
driver.show(np.full(driver.spec.shape_px, 255, np.uint16))
print("shown", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize(
    "how",
    [
        pytest.param(signal.SIGKILL, id="killed"),
        pytest.param(signal.SIGTERM, id="terminated", marks=pytest.mark.slow),
    ],
)
def test_a_screen_goes_dark_when_its_owner_dies(wired, how):
    face, driver = wired(SmallPanel(), open_it=False)
    settings = driver.settings.model_dump()
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, json.dumps([driver.address, settings])],
        stdout=subprocess.PIPE, text=True, env=os.environ,
    )  # fmt: skip
    try:
        assert owner.stdout.readline() == "shown\n"
        assert face.grab()[0].min() == 255
        with pytest.raises(DeviceUnavailable, match=f"is in use by process {owner.pid} "):
            driver.open()
        owner.send_signal(how)
        owner.wait(20)
        until = time.monotonic() + 20
        while face.grab()[0].any() and time.monotonic() < until:
            time.sleep(0.05)
        assert not face.screen.pixels().any()
    finally:
        owner.kill()
        owner.wait()
        owner.stdout.close()


def test_what_is_missing_or_wrong_is_said_in_words(wired, tmp_path, monkeypatch):
    face, _ = wired(SmallPanel(), open_it=False)
    wire = face.start()

    def refused(words, error=DeviceError, address=wire.address, **changes):
        with pytest.raises(error, match=words):
            DisplaySLM("slm", address, **{**wire.settings, **PATIENT, **changes}).open()

    refused("address is 'COM3'; allowed: screen:N, or screen:N@X-DISPLAY", ConfigError, address="COM3")
    refused("mark_top_px is 60; allowed: outside the panel", ConfigError, mark_top_px=60)
    refused("settle_us", ConfigError, settle_us=-1.0)
    refused("'heigth_px' is not known; did you mean 'height_px'", ConfigError, heigth_px=3)
    refused(r"the panel's region ends at \(\d+, 999\)", width_px=999, mark_top_px=None)
    refused(r"screen 7 is not there; allowed: 0 to 0", address=wire.address.replace("screen:0", "screen:7"))
    gone = wire.address.partition("@")[0] + "@:4242"
    refused("x11 not available", DeviceUnavailable, address=gone, attempts=1)
    (tmp_path / "pygame.py").write_text("raise ImportError('none here')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    refused(r"pygame is not installed; pip install .* \(none here\)", DeviceUnavailable)


@pytest.mark.slow  # three runs
def test_a_recipe_over_wires_with_the_panel_on_a_screen_gives_the_same_samples(tmp_path):
    """Panel by display.slm, electronics by SCPI: samples and clock bit-equal to both in process, twice."""
    recipe = load_protocol("sample_moons", {"samples": 8, "steps": 2, "audit": 0, "reference": 50})
    config = load_rig("optical-twin")
    config = config.model_copy(update={"device": tuple(d for d in config.device if d.name != "camera")})
    served = ServedRig(config, modulator="screen")
    results = []
    try:
        wired = served.start()
        assert "display.slm" in [device.driver for device in wired.device]
        for rig_config in (config, wired, wired):
            with open_rig(rig_config) as rig:
                results.append((run(recipe, rig, out=tmp_path).samples, rig.world.now_us))
    finally:
        served.stop()
    (here, clock_us), *there = results
    for samples, wired_us in there:
        np.testing.assert_array_equal(samples, here)
        assert wired_us == clock_us


def test_a_wire_that_is_none_for_the_panel_is_refused():
    with pytest.raises(ConfigError, match="modulator is 'hdmi'; allowed: scpi, screen, dlpc900"):
        ServedRig(load_rig("optical-twin"), modulator="hdmi")
    served = ServedRig(load_rig("optical-twin"), modulator="dlpc900")
    with pytest.raises(ConfigError, match="is of kind lcos-intensity; a DLPC900 drives mirrors: dmd"):
        served.start()


def test_a_panel_is_known_by_its_edid_where_the_settings_are_silent(wired, monkeypatch):
    from labctl_drivers.display import slm
    from labctl_drivers.display.edid import Edid
    from labctl_drivers.display.outputs import Output

    edid = Edid("HOL", 0x1234, "PLUTO", "6010-0042", 2019, (61, 307))
    monkeypatch.setattr(slm, "display_at", lambda screen, shape_px, x_display: Output("DP-1", shape_px, edid))
    silent = {"vendor": "", "model": "", "serial": ""}
    _, driver = wired(SmallPanel(), settings=silent)
    who = driver.open()
    assert (who.vendor, who.model, who.serial) == ("HOL", "PLUTO (1234)", "6010-0042")
    assert "EDID: HOL PLUTO (1234), serial 6010-0042" in who.firmware
    driver.close()
    monkeypatch.setattr(slm, "display_at", lambda screen, shape_px, x_display: Output("DP-1", shape_px, None))
    with pytest.raises(DeviceFault, match=r"needs a serial number, and the display tells none .*: set"):
        driver.open()
