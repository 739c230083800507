"""Rigs: from a file to open devices and an engine, and back to safe."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from labctl_calibration.camera_bringup import bring_up_camera
from labctl_calibration.nominal import nominal_panel_record
from labctl_calibration.store import RecordStore
from labctl_sim_devices import CameraTwin, ElectronicsTwin, OpticalBench, PanelTwin

from labctl.devices import (
    Camera,
    ConfigError,
    DeviceFault,
    DeviceUnavailable,
    InputDrive,
    LoopElectronics,
    WeightModulator,
)
from labctl.engines import DigitalEngine, OpticalLoopEngine
from labctl.rig import Rig, RigConfig, check_rig, load_rig, open_rig


def test_a_rig_opens_its_devices_and_engine() -> None:
    with open_rig("optical-twin") as rig:
        assert isinstance(rig.engine, OpticalLoopEngine)
        roles = (WeightModulator, InputDrive, LoopElectronics, Camera)
        assert [rig.device(role).name for role in roles] == ["panel", "emitters", "electronics", "camera"]
        assert rig.simulated
        assert all(device.is_open for device in rig.devices.values())
        devices = list(rig.devices.values())
    assert not any(device.is_open for device in devices)
    with pytest.raises(ConfigError, match="not open"):
        _ = rig.engine


def test_the_digital_rig_has_no_devices() -> None:
    with open_rig("digital") as rig:
        assert isinstance(rig.engine, DigitalEngine)
        assert rig.loop_spec is None
        with pytest.raises(ConfigError, match="has no WeightModulator"):
            rig.device(WeightModulator)


def test_closing_leaves_the_panel_dark_and_can_be_repeated() -> None:
    rig = open_rig("optical-twin")
    panel = rig.device(WeightModulator)
    frame = panel.shown()
    frame[:] = 7
    panel.show(frame)
    rig.close()
    rig.close()
    panel.open()
    assert panel.shown().max() == 0


def test_a_rig_can_be_opened_again() -> None:
    rig = open_rig("optical-twin")
    rig.close()
    with rig:
        assert isinstance(rig.engine, OpticalLoopEngine)
        assert rig.open() is rig


def test_a_device_that_fails_to_open_closes_the_others(monkeypatch) -> None:
    closed = []
    monkeypatch.setattr(PanelTwin, "_do_close", lambda self: closed.append(self.name))

    def absent(self):
        raise DeviceUnavailable("nobody answers", device=self.name, operation="open")

    monkeypatch.setattr(ElectronicsTwin, "_do_open", absent)
    with pytest.raises(DeviceUnavailable, match="electronics: open: nobody answers"):
        open_rig("optical-twin")
    assert closed == ["panel"]


def test_every_device_gets_its_chance_to_become_safe(monkeypatch) -> None:
    closed = []

    def jammed(self) -> None:
        raise DeviceUnavailable("jammed", device=self.name, operation="close")

    monkeypatch.setattr(ElectronicsTwin, "_do_close", jammed)
    monkeypatch.setattr(PanelTwin, "_do_close", lambda self: closed.append(self.name))
    rig = open_rig("optical-twin")
    with pytest.raises(DeviceUnavailable, match="jammed"):
        rig.close()
    assert closed == ["panel"]
    assert rig.devices == {}


def test_building_talks_to_nobody(monkeypatch) -> None:
    def touched(*_args: object) -> None:
        raise AssertionError("a device was opened")

    monkeypatch.setattr(PanelTwin, "_do_open", touched)
    assert list(Rig(load_rig("optical-twin")).build()) == ["panel", "emitters", "electronics", "camera"]


def test_noise_scales_multiply() -> None:
    config = load_rig("optical-twin").model_dump()
    config["world"]["noise_scale"] = 2.0
    with open_rig(RigConfig(**config)) as rig:
        quiet = rig.world.profile.noise
        assert rig.world.noise == quiet.scaled(2.0)
        rig.set_noise_scale(3.0)
        assert rig.world.noise == quiet.scaled(6.0)
    with open_rig("digital") as rig, pytest.raises(ConfigError, match="noise_scale is 2"):
        rig.set_noise_scale(2)


def test_a_check_reports_as_it_goes_and_closes_at_the_end(monkeypatch) -> None:
    opened = []
    made = OpticalBench.__init__

    def noted(self, *args, **kwargs) -> None:
        made(self, *args, **kwargs)
        opened.append(self)

    monkeypatch.setattr(OpticalBench, "__init__", noted)
    findings = check_rig(load_rig("optical-twin"))
    first = next(findings)
    assert (first.device, first.test, first.ok) == ("panel", "identity", True)
    opened[0].unplug()
    rest = list(findings)
    assert {finding.device for finding in rest if not finding.ok} == {
        "panel", "emitters", "electronics", "camera",
    }  # fmt: skip
    assert all("disappeared" in finding.found for finding in rest if not finding.ok)


def test_the_camera_is_read_through_the_stored_record_of_this_machine(tmp_path, monkeypatch):
    """An image that lies five pixels off: refused by the design, read with the record; another machine's
    record is not taken."""
    made = CameraTwin.__init__

    def shifted(self, name, bench):
        made(self, name, bench)
        self._sensor._x = self._sensor._x + 5.0

    monkeypatch.setattr(CameraTwin, "__init__", shifted)
    store = RecordStore(tmp_path)
    with open_rig("optical-twin") as rig:
        modulator, camera = rig.device(WeightModulator), rig.device(Camera)
        panel = nominal_panel_record(modulator.spec, 48, "design")
        found = bring_up_camera(modulator, rig.device(LoopElectronics), camera, panel).record
    store.put(replace(found, device_serial="another"))

    def calibrated(rig):
        rig.device(WeightModulator).show(np.zeros((1080, 1920), np.uint16))
        rig.set_readout("camera")
        rig.engine.camera.load(rig.device(LoopElectronics))
        return rig.engine.camera.record.array("spot_centre_px")

    with (
        open_rig("optical-twin", records=tmp_path) as rig,
        pytest.raises(DeviceFault, match="pixels from its"),
    ):
        calibrated(rig)
    store.put(found)
    for compensated in (True, False):
        with open_rig("optical-twin", records=tmp_path, compensated=compensated) as rig:
            assert np.abs(calibrated(rig)).max() < 0.6
