"""A camera by Micro-Manager's core: its demonstration camera, where core and test adapters are installed."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest
from labctl_drivers.micromanager import MicroManagerDevice

from labctl.devices import ConfigError, DeviceFault, DeviceUnavailable, DeviceValueError

SHEET = {
    "full_well_e": 10e3, "quantum_efficiency": 0.6, "read_noise_e": 5.0, "line_us": 5.0, "shutter": "global",
}  # fmt: skip
MONO12 = {"PixelType": "16bit", "BitDepth": "12"}
core = pytest.mark.skipif(
    find_spec("pymmcore_plus") is None or find_spec("mm_test_adapters") is None,
    reason="pymmcore-plus and mm-test-adapters are not installed",
)


@pytest.fixture
def demo():
    """Factory: Micro-Manager's demonstration camera, open."""
    cameras = []

    def build(address="DemoCamera/DCam", **settings):
        import mm_test_adapters

        paths = (str(mm_test_adapters.device_adapter_path()),)
        camera = MicroManagerDevice("camera", address, adapter_paths=paths, **{**SHEET, **settings})
        camera.open()
        cameras.append(camera)
        return camera

    yield build
    for camera in cameras:
        camera.close()


@core
def test_it_says_who_it_is_and_reads_settings_back(demo):
    camera = demo(properties=MONO12)
    identity = camera.open()
    assert (identity.vendor, identity.model, identity.simulated) == ("DemoCamera", "DCam", True)
    assert (camera.spec.shape_px, camera.spec.pixel_format) == ((512, 512), "Mono12")
    wanted = {"Width": 64, "Height": 48, "OffsetX": 10, "OffsetY": 20, "ExposureTime": 5000.0}
    read = camera.configure(wanted).features()
    assert {name: read[name] for name in wanted} == wanted
    with pytest.raises(DeviceValueError, match=r"ExposureTime is 20000000\.0; allowed: 0 to 1e\+07 us"):
        camera.configure({"ExposureTime": 2e7})
    with pytest.raises(DeviceValueError, match="TriggerMode = On: this library cannot set it"):
        camera.configure({"TriggerMode": "On"})


@core
def test_images_are_those_of_the_core_itself(demo):
    """Of a region, in order, complete; the demonstration's waves fill the bits that are set."""
    camera = demo(properties=MONO12)
    camera.configure({"Width": 64, "Height": 48, "OffsetX": 10, "OffsetY": 20, "ExposureTime": 5000.0})
    frames = camera.acquire(5)
    assert frames.counts.shape == (5, 48, 64)
    assert (frames.frame_id.tolist(), frames.dropped) == ([0, 1, 2, 3, 4], 0)
    assert (np.diff(frames.timestamp_us) > 0).all()
    assert 0 < frames.counts.max() <= camera.spec.max_code
    again = camera.acquire(2)
    assert again.counts.shape == (2, 48, 64)
    assert again.frame_id.tolist() == [0, 1]


@core
def test_properties_become_features_where_the_rig_file_says_so(demo):
    plain = demo()
    assert plain.spec.gain_range_db == (0.0, 0.0)  # a property of that name may be in any unit
    plain.close()
    camera = demo(features={"Gain": "Gain", "DeviceTemperature": "CCDTemperature"})
    assert camera.spec.gain_range_db == (-5.0, 8.0)
    assert camera.configure({"Gain": 6}).gain_db == 6.0
    assert camera.temperature_c() == 0.0
    camera.close()
    with pytest.raises(DeviceFault, match="features: Gain is 'Verstärkung', which the adapter does not have"):
        demo(features={"Gain": "Verstärkung"})


@core
def test_a_configuration_file_names_its_cameras(demo, tmp_path):
    file = tmp_path / "bench.cfg"
    file.write_text(
        "Device,Eye,DemoCamera,DCam\nDevice,Wheel,DemoCamera,DWheel\nProperty,Core,Initialize,1\n"
        "Property,Core,Camera,Eye\n"
    )
    demo(str(file)).close()
    assert demo(f"{file}#Eye").open().serial == "Eye"
    with pytest.raises(DeviceUnavailable, match="has no camera 'Ear'; it has: Eye, Wheel, Core"):
        demo(f"{file}#Ear")


@core
def test_the_demonstration_configuration_is_found_without_its_path(demo):
    """Among the adapters, as pymmcore-plus looks for it; nothing is downloaded."""
    camera = demo("MMConfig_demo.cfg")
    assert camera.open().serial == "Camera"
    camera.configure({"Width": 32, "Height": 16})
    assert camera.acquire(2).counts.shape == (2, 16, 32)
    with pytest.raises(DeviceUnavailable, match=r"nowhere\.cfg"):
        demo("nowhere.cfg")


@core
def test_an_adapter_that_is_none_is_told(demo):
    with pytest.raises(DeviceUnavailable, match='Failed to load device adapter "Nothing"'):
        demo("Nothing/DCam")


def test_addresses_that_are_none():
    with pytest.raises(ConfigError, match=r"address is 'DemoCamera'; allowed: FILE\.cfg, FILE\.cfg#LABEL"):
        MicroManagerDevice("camera", "DemoCamera", **SHEET)
