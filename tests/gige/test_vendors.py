"""Drivers on other makers' simulated cameras: pylon's emulation, the GenTL producer in genicam's wheel.

What any camera must do, and what a bench behind pylon's shows, is in the conformance suite.
"""

from __future__ import annotations

import os
import signal
import threading
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from labctl_drivers.genicam.gentl import GentlCamera
from labctl_drivers.genicam.pylon import PylonCamera
from labctl_sim_devices import CameraTwin, OpticalBench, load_profile
from labctl_sim_devices.wires.emulated import PictureFace
from PIL import Image

from labctl.devices import DeviceStateError, DeviceTimeout, DeviceUnavailable, DeviceValueError

pytestmark = pytest.mark.filterwarnings("ignore:builtin type:DeprecationWarning")  # SWIG's, while they load
os.environ.setdefault("PYLON_CAMEMU", "2")  # read once, when the SDK is loaded; two for the suite
SHEET = {
    "full_well_e": 10e3, "quantum_efficiency": 0.6, "read_noise_e": 5.0, "line_us": 5.0, "shutter": "global",
}  # fmt: skip
pylon_sdk = pytest.mark.skipif(find_spec("pypylon") is None, reason="pypylon is not installed")
gentl_sdk = pytest.mark.skipif(
    find_spec("harvesters") is None or find_spec("genicam") is None, reason="harvesters is not installed"
)


@pytest.fixture
def emulated():
    """Factory: the SDK's emulated camera, open."""
    cameras = []

    def build(**settings):
        camera = PylonCamera("camera", "0815-0000", **{**SHEET, "frame_wait_s": 5.0, **settings})
        camera.open()
        cameras.append(camera)
        return camera

    yield build
    for camera in cameras:
        camera.close()


@pytest.fixture
def viky():
    """The red camera of the producer that comes with genicam."""
    folder = Path(find_spec("genicam").origin).parent
    address = f"{folder / 'viky.cti'}::VikyTL_DEV_red"
    with GentlCamera("camera", address, pixel_format="Mono8", frame_wait_s=5.0, **SHEET) as camera:
        yield camera


def show(camera, counts, bits, path):
    """Let the emulated camera see these counts; of Mono12 it takes the upper bits of a 16-bit picture."""
    Image.fromarray(counts if bits == 8 else counts << (16 - bits)).save(path)
    camera._exchange("inject", lambda wire, _: [wire.put(*feature) for feature in (
        ("TestImageSelector", "Off"), ("ImageFilename", str(path)), ("ImageFileMode", "On"),
    )])  # fmt: skip


def test_pictures_for_the_emulation_keep_every_bit(tmp_path):
    face = PictureFace(CameraTwin("camera", OpticalBench(load_profile("adm"))), threading.RLock())
    counts = np.random.default_rng(3).integers(0, 4096, (2, 21, 33), dtype=np.uint16)
    counts[0, 0, :3] = 0, 1, 4095
    face._folder = tmp_path
    face._write(counts)
    back = [np.asarray(Image.open(path)) for path in sorted(tmp_path.iterdir())]
    assert [image.dtype for image in back] == [np.uint16] * 2
    np.testing.assert_array_equal(back, counts << 4)


@pylon_sdk
@pytest.mark.parametrize("bits", [8, 12, 16])
def test_pylon_brings_images_bit_for_bit(emulated, tmp_path, bits):
    camera = emulated(pixel_format=f"Mono{bits}")
    shape = (48, 64)
    camera.configure({"Height": 48, "Width": 64, "OffsetX": 0, "OffsetY": 0})
    kind = np.uint8 if bits == 8 else np.uint16
    counts = np.random.Generator(np.random.Philox(key=bits)).integers(0, 2**bits, shape).astype(kind)
    show(camera, counts, bits, tmp_path / "seen.png")
    frames = camera.acquire(3)
    assert (frames.frame_id.tolist(), frames.dropped) == ([0, 1, 2], 0)
    for image in frames.counts:
        np.testing.assert_array_equal(image, counts)
    assert frames.saturated_px.tolist() == [int((counts == 2**bits - 1).sum())] * 3


@pylon_sdk
def test_pylon_counts_failed_buffers_and_never_uses_them(emulated):
    camera = emulated()
    camera.configure({"Height": 32, "Width": 32})
    camera._exchange(
        "inject", lambda wire, _: (wire.put("ForceFailedBufferCount", 2), wire.execute("ForceFailedBuffer"))
    )
    frames = camera.acquire(5)
    assert frames.dropped == 2
    assert len(frames.counts) == len(frames.frame_id) == 3


@pylon_sdk
def test_pylon_cameras_say_who_they_are_and_read_settings_back(emulated):
    camera = emulated()
    identity = camera.open()
    assert (identity.vendor, identity.model, identity.serial) == ("Basler", "CamEmu", "0815-0000")
    assert identity.simulated
    wanted = {
        "Width": 64,
        "OffsetX": 16,
        "ExposureTime": 250.0,
        "TriggerMode": "On",
        "TriggerSource": "Line2",
    }
    read = camera.configure(wanted).features()
    assert {name: read[name] for name in wanted} == wanted
    with pytest.raises(DeviceValueError, match=r"ExposureTime is 0\.1; allowed: 1 to 1e"):
        camera.configure({"ExposureTime": 0.1})


@pylon_sdk
def test_pylon_waits_for_triggers_that_do_not_come(emulated):
    camera = emulated(trigger_wait_s=0.2, frame_wait_s=0.2)
    camera.configure({"Height": 32, "Width": 32, "TriggerMode": "On", "TriggerSource": "Line1"})
    with pytest.raises(DeviceStateError, match=r"arm\(\)"):
        camera.acquire(1)
    camera.arm(2)
    with pytest.raises(DeviceTimeout, match="2 frames were asked for, 0 triggers came"):
        camera.acquire(2)


@pylon_sdk
def test_pylon_names_cameras_that_are_there():
    with pytest.raises(
        DeviceUnavailable, match=r"no Basler camera is 4711; others that are there: 0815-0000"
    ):
        PylonCamera("camera", "4711", **SHEET).open()


@gentl_sdk
def test_a_gentl_camera_is_opened_and_read(viky):
    identity = viky.open()
    assert (identity.model, identity.simulated) == ("Viky", True)
    read = viky.configure({"Width": 200, "Height": 100})
    assert (read.width_px, read.height_px, read.pixel_format) == (200, 100, "Mono8")
    frames = viky.acquire(4)
    assert frames.counts.shape == (4, 100, 200)
    assert (frames.frame_id.tolist(), frames.dropped) == ([0, 1, 2, 3], 0)
    assert frames.counts.max() > 0
    with pytest.raises(DeviceValueError, match="Width is 5000"):
        viky.configure({"Width": 5000})


@gentl_sdk
@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
def test_ctrl_c_stops_a_run_while_a_gentl_camera_is_open(viky):
    viky.acquire(1)
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
    viky.acquire(1)


@gentl_sdk
def test_a_gentl_address_that_is_none_is_told():
    producer = Path(find_spec("genicam").origin).parent / "viky.cti"
    with pytest.raises(DeviceUnavailable, match=r"no camera blau; it has: .*VikyTL_DEV_red"):
        GentlCamera("camera", f"{producer}::blau", **SHEET).open()
    with pytest.raises(DeviceUnavailable, match=r"no GenTL producer nothing\.cti"):
        GentlCamera("camera", "nothing.cti::1", **SHEET).open()
