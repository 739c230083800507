"""slmsuite's objects: its own simulated SLM and camera where it is installed, plain ones always."""

from __future__ import annotations

import sys
from importlib.util import find_spec

import numpy as np
import pytest
from labctl_drivers.slmsuite.camera import SlmsuiteCamera
from labctl_drivers.slmsuite.finding import _set_ups
from labctl_drivers.slmsuite.slm import SlmsuiteSLM

from labctl.devices import (
    ConfigError,
    DeviceFault,
    DeviceUnavailable,
    DeviceValueError,
)

SLM = "slmsuite.hardware.slms.simulated:SimulatedSLM"
SHEET = {
    "full_well_e": 10e3, "quantum_efficiency": 0.6, "read_noise_e": 5.0, "line_us": 5.0, "shutter": "global",
    "exposure_range_us": (10.0, 1e7),
}  # fmt: skip
installed = pytest.mark.skipif(find_spec("slmsuite") is None, reason="slmsuite is not installed")
# what its imports warn of is its own
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")

# a set-up as a script makes it, of objects with the names and signatures that slmsuite 0.5.0 has
PLAIN = """
import numpy as np

class Panel:
    name, shape, bitdepth, dtype, settle_time_s = "panel", (6, 8), 10, np.uint16, 0.0
    def __init__(self):
        self.sent, self.closed, self.broken = [], False, False
    def set_phase(self, phase, settle=None):
        if self.broken:
            raise OSError("cable")
        assert phase.dtype == self.dtype and phase.shape == self.shape
        self.sent.append(phase.copy())
    def close(self):
        self.closed = True

class Eye:
    name, sensor_shape, bitdepth, exposure_bounds_s = "eye", (6, 8), 8, (1e-5, 1.0)
    def __init__(self, slm):
        self.slm, self.woi, self.exposure_s, self.flushed = slm, (0, 8, 0, 6), 0.01, 0
    def get_woi(self):
        return self.woi
    def set_woi(self, woi):
        self.woi = woi
    def get_exposure(self):
        return self.exposure_s
    def set_exposure(self, exposure_s):
        self.exposure_s = exposure_s
    def flush(self):
        self.flushed += 1
    def get_image(self, timeout_s, averaging, hdr):
        x, width, y, height = self.woi
        return (self.slm.sent[-1] // 4).astype(np.uint8)[y : y + height, x : x + width]
    def close(self):
        pass

slm = Panel()
cam = Eye(slm)
"""


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "set_up.py"
    path.write_text(PLAIN)
    return path


def test_levels_reach_the_panel_of_a_script_and_its_camera_sees_them(script):
    levels = np.random.Generator(np.random.Philox(key=1)).integers(0, 1024, (6, 8))
    with SlmsuiteSLM("slm", f"{script}#slm") as slm, SlmsuiteCamera("eye", f"{script}#cam", **SHEET) as eye:
        panel = slm._wire.thing
        assert slm.spec.shape_px == (6, 8)
        assert slm.spec.n_levels == 1024
        receipt = slm.show(levels)
        assert (receipt.frame_id, receipt.read_back) == (1, False)
        np.testing.assert_array_equal(panel.sent[-1], levels)
        np.testing.assert_array_equal(slm.shown(), levels)
        read = eye.configure({"Width": 4, "Height": 3, "OffsetX": 2, "OffsetY": 1, "ExposureTime": 250.0})
        assert (read.width_px, read.offset_x_px, read.exposure_us) == (4, 2, 250.0)
        frames = eye.acquire(2)
        assert (frames.frame_id.tolist(), frames.dropped) == ([0, 1], 0)
        for image in frames.counts:
            np.testing.assert_array_equal(image, levels[1:4, 2:6] // 4)
    assert panel.closed
    assert not panel.sent[-1].any()  # closed: level 0


def test_a_script_is_run_once_and_again_when_all_is_closed(script):
    slm, eye = SlmsuiteSLM("slm", f"{script}#slm"), SlmsuiteCamera("eye", f"{script}#cam", **SHEET)
    slm.open()
    eye.open()
    panel = slm._wire.thing
    assert eye._wire._camera.slm is panel
    slm.close()
    with pytest.raises(DeviceUnavailable, match=r"is closed, its set-up is not: close the other devices"):
        slm.open()
    eye.close()
    slm.open()
    assert slm._wire.thing is not panel
    slm.close()


def test_a_script_may_import_what_lies_beside_it_and_keep_its_devices_in_an_object(tmp_path):
    (tmp_path / "plain_parts_of_a_lab.py").write_text(PLAIN)
    script = tmp_path / "set_up.py"
    script.write_text(
        "from plain_parts_of_a_lab import Eye, Panel\n"
        "class FourierSLM:\n    def __init__(self, cam, slm):\n        self.cam, self.slm = cam, slm\n"
        "slm = Panel()\nfs = FourierSLM(Eye(slm), slm)\n"
        "if __name__ == '__main__':\n    1 / 0\n"
    )
    path = list(sys.path)
    with (
        SlmsuiteSLM("slm", f"{script}#fs.slm") as slm,
        SlmsuiteCamera("eye", f"{script}#fs.cam", **SHEET) as eye,
    ):
        slm.show(np.full((6, 8), 40))
        assert (eye.acquire(1).counts == 10).all()
        with pytest.raises(DeviceUnavailable, match="is held by another device"):
            SlmsuiteSLM("again", f"{script}#slm", attempts=1).open()  # the same by another name
        with pytest.raises(DeviceUnavailable, match=r"makes no fs\.panel"):
            SlmsuiteSLM("none", f"{script}#fs.panel").open()
    assert sys.path == path
    sys.modules.pop("plain_parts_of_a_lab")


def test_a_panel_that_raises_is_named_with_its_words(script):
    with SlmsuiteSLM("slm", f"{script}#slm") as slm:
        slm.show(np.ones((6, 8), int))
        slm._wire.thing.broken = True
        with pytest.raises(DeviceFault, match=r"slm: show: set_phase: OSError: cable \("):
            slm.show(np.zeros((6, 8), int))
        assert (slm.shown() == 1).all()
        with pytest.raises(DeviceValueError, match="levels"):
            slm.show(np.full((6, 8), 1024))
        slm._wire.thing.broken = False


def test_triggers_and_gain_are_refused(script):
    with SlmsuiteCamera("eye", f"{script}#cam", **SHEET) as eye:
        with pytest.raises(DeviceValueError, match="TriggerMode = On: this library cannot set it"):
            eye.configure({"TriggerMode": "On"})
        with pytest.raises(DeviceValueError, match="Gain is 3; allowed: 0 to 0 dB"):
            eye.configure({"Gain": 3})
        assert eye.spec.exposure_range_us == pytest.approx((10.0, 1e6))  # its own, before the rig file's


def test_addresses_that_are_none(script, tmp_path):
    with pytest.raises(ConfigError, match=r"address is 'slm'; allowed: module:Class or FILE\.py#name"):
        SlmsuiteSLM("slm", "slm")
    with pytest.raises(ConfigError, match="the script has its own"):
        SlmsuiteSLM("slm", f"{script}#slm", arguments={"resolution": [8, 6]})
    with pytest.raises(DeviceUnavailable, match="makes no panel"):
        SlmsuiteSLM("slm", f"{script}#panel").open()
    with pytest.raises(DeviceUnavailable, match="is a Eye without shape, dtype, settle_time_s, set_phase"):
        SlmsuiteSLM("slm", f"{script}#cam").open()
    with SlmsuiteCamera("eye", f"{script}#cam", **SHEET):  # what was not wanted has stayed as it was
        pass
    with pytest.raises(DeviceUnavailable, match="there is no script"):
        SlmsuiteSLM("slm", f"{tmp_path / 'none.py'}#slm").open()
    (tmp_path / "bad.py").write_text("1 / 0")
    with pytest.raises(DeviceUnavailable, match="failed: ZeroDivisionError: division by zero"):
        SlmsuiteSLM("slm", f"{tmp_path / 'bad.py'}#slm").open()
    with pytest.raises(DeviceUnavailable, match="module fractions has no Nothing"):
        SlmsuiteSLM("slm", "fractions:Nothing").open()


@installed
def test_slmsuites_own_panel_shows_every_level_as_it_is():
    arguments = {"resolution": [160, 120], "bitdepth": 10}
    with SlmsuiteSLM("slm", SLM, arguments=arguments, settle_us=0.0) as slm:
        identity = slm.open()
        assert (identity.vendor, identity.model, identity.simulated) == ("slmsuite", "SimulatedSLM", True)
        assert (slm.spec.shape_px, slm.spec.n_levels) == ((120, 160), 1024)
        for seed in range(10):
            levels = np.random.Generator(np.random.Philox(key=seed)).integers(0, 1024, (120, 160))
            slm.show(levels)
            np.testing.assert_array_equal(slm._wire.thing.display, levels)


@installed
def test_slmsuites_own_optics_see_a_grating_move_the_light(tmp_path):
    """A grating of 8 pixels a period sends the light of 128 columns 16 of them to the side, one row of it."""
    script = tmp_path / "bench.py"
    script.write_text(
        "from slmsuite.hardware.slms.simulated import SimulatedSLM\n"
        "from slmsuite.hardware.cameras.simulated import SimulatedCamera\n"
        "slm = SimulatedSLM((128, 128))\ncam = SimulatedCamera(slm, bitdepth=12)\n"
    )
    with SlmsuiteSLM("slm", f"{script}#slm") as slm, SlmsuiteCamera("eye", f"{script}#cam", **SHEET) as eye:
        assert eye.open().simulated
        eye.configure({"ExposureTime": 1000.0})
        seen = []
        for step in (0, 32):  # 256 / 32 levels: 8 columns
            slm.show(np.broadcast_to(step * np.arange(128) % 256, (128, 128)))
            image = eye.acquire(1).counts[0]
            seen.append(np.unravel_index(image.argmax(), image.shape))
        (row, column), (moved_row, moved_column) = seen
        assert row == moved_row
        assert abs(int(moved_column) - int(column)) == 16


SET_UP = """
import numpy as np
from slmsuite.hardware.cameras.simulated import SimulatedCamera
from slmsuite.hardware.cameraslms import FourierSLM
from slmsuite.hardware.slms.simulated import SimulatedSLM

slm = SimulatedSLM((256, 192), pitch_um=(10, 10), wav_um=0.78)
slm.set_source_analytic()
cam = SimulatedCamera(slm, (256, 256), pitch_um=(4, 4), bitdepth=12, gain=50)
cam.set_affine(f_eff=30000.0, units="um", theta=0.1)
cam.set_exposure(0.01)
fs = FourierSLM(cam, slm)
fs.fourier_calibrate(array_shape=(7, 7), array_pitch=12, plot=False)
"""


@installed
@pytest.mark.filterwarnings("ignore")
def test_a_scripts_fourier_set_up_is_taken_over_as_it_stands(tmp_path):
    """slmsuite's own calibration says where a blaze sends the light; our camera sees it there."""
    script = tmp_path / "set_up.py"
    script.write_text(SET_UP)
    with (
        SlmsuiteSLM("slm", f"{script}#fs.slm") as slm,
        SlmsuiteCamera("eye", f"{script}#fs.cam", **SHEET) as eye,
    ):
        from slmsuite.holography.toolbox.phase import blaze

        assert slm.spec.shape_px == (192, 256)
        assert eye.spec.shape_px == (256, 256)
        assert eye.settings.exposure_us == pytest.approx(1e4)
        fourier = next(iter(_set_ups.values())).names["fs"]
        for column, row in ((158, 108), (103, 163)):
            phase = blaze(fourier.slm, fourier.ijcam_to_kxyslm(np.array([[column], [row]])).ravel())
            slm.show(fourier.slm._format_phase_hw(phase).astype(np.int64))
            image = eye.acquire(1).counts[0]
            assert np.unravel_index(image.argmax(), image.shape) == (row, column)
            assert image.max() > 50 * np.median(image) + 100
