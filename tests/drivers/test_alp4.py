"""ALP: the library's errors in words, sequences given back, another library refused. Frames: conformance."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from labctl_drivers.alp4.dmd import Alp4DMD

from labctl.devices import ConfigError, DeviceFault, DeviceUnavailable

STUB = Path(__file__).parents[1] / "conformance" / "alp_stub.c"
SHAPE = (12, 40)
START = ctypes.CFUNCTYPE(None, ctypes.POINTER(ctypes.c_uint8))

if shutil.which("gcc") is None:
    pytest.skip("gcc is not installed", allow_module_level=True)


@pytest.fixture
def stub(tmp_path):
    """A library with one device of 12 x 40 mirrors, number 7, and what it shows."""
    path = tmp_path / "libalp43.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", path, STUB], check=True)
    library = ctypes.CDLL(str(path))
    library.path, library.shown = path, []

    def started(pixels):
        library.shown.append(np.ctypeslib.as_array(pixels, SHAPE).copy())

    library.start = START(started)
    library.stub_device(SHAPE[1], SHAPE[0], 7, library.start, None)
    return library


def driver_of(library, number="", **settings):
    height, width = SHAPE
    usual = {"height_px": height, "width_px": width, "attempts": 1, "open_timeout_s": 0.3, "settle_us": 0.0}
    return Alp4DMD("dmd", f"alp:{library.path}{number}", **{**usual, **settings})


@pytest.mark.dialogue("alp4.dmd", source="ALP4lib 1.1.0, ALP4.py")
def test_entry_points_are_called_with_the_wrappers_numbers(stub, monkeypatch):
    """As its SeqAlloc, SeqControl, SetTiming, SeqPut, Halt, Run and FreeSeq call them."""
    called = []
    with driver_of(stub, picture_us=20_000) as driver:
        driver.show(np.zeros(SHAPE, np.uint16))
        monkeypatch.setattr(driver.wire_log, "sent", called.append)
        driver.show(np.ones(SHAPE, np.uint16))
        monkeypatch.undo()
    begun = [call.partition(b"(")[0].decode() for call in called]
    start = begun.index("AlpSeqAlloc")
    assert begun[start : start + 7] == [
        "AlpSeqAlloc", "AlpSeqControl", "AlpSeqTiming", "AlpSeqPut", "AlpDevHalt", "AlpProjStartCont",
        "AlpSeqFree",
    ]  # fmt: skip
    assert called[start].startswith(b"AlpSeqAlloc(1, 1, 1, ")  # device, bits, pictures
    assert called[start + 1].endswith(b", 2104, 2106)")  # ALP_BIN_MODE, ALP_BIN_UNINTERRUPTED
    assert called[start + 2].endswith(b", 0, 20000, 0, 0, 0)")  # illumination, picture, the rest default


@pytest.mark.dialogue("alp4.dmd", source="ALP4lib 1.1.0, ALP4.py")
def test_the_wrapper_shows_its_frames_through_the_same_library(stub):
    wrapper = pytest.importorskip("ALP4", reason="ALP4lib is not installed")
    mirrors = wrapper.ALP4(version="4.3", libDir=str(stub.path.parent))
    mirrors.Initialize()
    assert (mirrors.nSizeY, mirrors.nSizeX) == SHAPE
    frame = 255 * np.random.default_rng(1).integers(0, 2, SHAPE, dtype=np.uint8)
    mirrors.SeqAlloc(nbImg=1, bitDepth=1)
    mirrors.SeqControl(wrapper.ALP_BIN_MODE, wrapper.ALP_BIN_UNINTERRUPTED)
    mirrors.SeqPut(frame.ravel())
    mirrors.SetTiming(pictureTime=20_000)
    mirrors.Run(loop=True)
    np.testing.assert_array_equal(stub.shown[-1], frame)
    mirrors.Halt()
    mirrors.FreeSeq()
    mirrors.Free()
    with driver_of(stub) as driver:
        driver.show(frame // 255)
        np.testing.assert_array_equal(stub.shown[-1], frame)


def test_thirty_frames_arrive_and_their_memory_is_given_back(stub):
    with driver_of(stub) as driver:
        assert driver.open().serial == "7"
        for seed in range(30):
            frame = np.random.default_rng(seed).integers(0, 2, SHAPE, dtype=np.uint16)
            driver.show(frame)
            np.testing.assert_array_equal(stub.shown[-1], 255 * frame)
            assert stub.stub_sequences() == 1
    assert not stub.shown[-1].any()  # closed: dark
    assert stub.stub_sequences() == 0


def test_a_device_is_chosen_by_its_number(stub):
    with driver_of(stub, "#7") as driver:
        assert driver.open().serial == "7"
    with pytest.raises(
        DeviceUnavailable, match=r"AlpDevAlloc failed: device not found or not ready \(1001\)"
    ):
        driver_of(stub, "#8").open()


@pytest.mark.dialogue("alp4.dmd", source="ALP4lib 1.1.0, ALP4.py")
def test_the_librarys_errors_come_in_words(stub):
    with driver_of(stub) as driver:
        words = r"dmd: show: AlpSeqTiming failed: a parameter is invalid \(1005\)"
        with pytest.raises(DeviceFault, match=words) as caught:
            driver._run("show", lambda wire, deadline: wire.put_up(bytes(480), -1, deadline))
        assert b"AlpSeqTiming" in caught.value.wire
        driver.show(np.ones(SHAPE, np.uint16))  # works on
        assert (stub.shown[-1] == 255).all()


def test_other_mirrors_and_other_libraries_are_refused(stub, tmp_path):
    with pytest.raises(DeviceUnavailable, match=r"mirrors of 12 x 40; the settings say height_px = 11"):
        driver_of(stub, height_px=11).open()
    other = tmp_path / "other.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-x", "c", "-o", other, "/dev/null"], check=True)
    for path in (other, tmp_path / "absent.so"):
        with pytest.raises(DeviceUnavailable, match=r"is no ALP library .* ViALUX delivers it"):
            Alp4DMD("dmd", f"alp:{path}", attempts=1).open()
    with pytest.raises(ConfigError, match="address is 'usb'; allowed: alp:LIBRARY or alp:LIBRARY#SERIAL"):
        Alp4DMD("dmd", "usb")


def test_a_device_out_of_reach_is_told_at_close(stub):
    """With power and without its cable a controller goes on with its last frame: `close` is no success."""
    driver = driver_of(stub)
    driver.open()
    driver.show(np.ones(SHAPE, np.uint16))
    stub.stub_unplug()
    with pytest.raises(DeviceUnavailable, match="dmd: close: ") as caught:
        driver.close()
    assert any("safe state could not be commanded" in note for note in caught.value.__notes__)
    assert not driver.is_open
