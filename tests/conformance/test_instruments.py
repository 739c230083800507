"""What laser, power meter, oscilloscope and signal generator promise. The probe sees light and voltages."""

from __future__ import annotations

import numpy as np
import pytest

from labctl.devices import DeviceValueError
from labctl.devices.instruments import Wave


def test_a_laser_emits_its_set_point_and_only_when_on(laser_case, opened):
    subject = opened(laser_case)
    laser = subject.device
    laser.set_power_mw(7.5)
    assert (laser.power_mw(), laser.emitting(), subject.probe()["laser_mw"]) == (7.5, False, 0.0)
    laser.emit(True)
    assert (laser.emitting(), subject.probe()["laser_mw"]) == (True, 7.5)
    laser.set_power_mw(2.25)
    assert subject.probe()["laser_mw"] == 2.25
    laser.emit(False)
    assert (laser.emitting(), subject.probe()["laser_mw"]) == (False, 0.0)


def test_a_closed_laser_is_dark(laser_case):
    subject = laser_case.make()
    with subject.device as laser:
        laser.set_power_mw(5.0)
        laser.emit(True)
        assert subject.probe()["laser_mw"] == 5.0
    assert subject.probe()["laser_mw"] == 0.0


@pytest.mark.parametrize("wrong", [-0.1, 20.5, float("nan"), float("inf"), "5", True])
def test_a_set_point_out_of_range_is_refused(laser_case, opened, unchanged, wrong):
    subject = opened(laser_case)
    subject.device.set_power_mw(1.0)
    subject.device.emit(True)
    before = subject.probe()
    with pytest.raises(DeviceValueError, match=r"set_power_mw: power_mw is .*; allowed: 0 to 20 mW"):
        subject.device.set_power_mw(wrong)
    unchanged(before, subject.probe())


def test_a_power_meter_sees_the_light(meter_case, opened):
    subject = opened(meter_case, noise_scale=1.0)
    meter = subject.device
    dark = [meter.read_mw() for _ in range(20)]
    assert np.abs(dark).max() < 1e-4
    subject.bench.laser_mw = 10.0
    bright = np.array([meter.read_mw() for _ in range(20)])
    assert bright.mean() == pytest.approx(8.0, rel=2e-3)
    assert len(set(bright)) == 20  # every reading has its own noise


def test_a_power_meter_is_set_to_a_wavelength(meter_case, opened):
    meter = opened(meter_case).device
    meter.set_wavelength_nm(532.5)
    assert meter.wavelength_nm() == 532.5
    for wrong in (399.0, 1101.0, float("nan")):
        with pytest.raises(DeviceValueError, match=r"wavelength_nm is .*; allowed: 400 to 1100 nm"):
            meter.set_wavelength_nm(wrong)
    assert meter.wavelength_nm() == 532.5


@pytest.mark.parametrize("shape", ["sine", "square", "ramp", "dc"])
def test_an_oscilloscope_records_what_is_there(scope_case, opened, shape):
    from labctl_sim_devices.instruments import voltage

    subject = opened(scope_case)
    wave = Wave(shape, 2500.0, 1.0, 0.25)
    subject.bench.outputs = {2: wave}
    scope = subject.device
    scope.set_screen(2, volts=2.0, seconds=1e-3)
    seen = scope.acquire(2)
    assert seen.codes.dtype == np.uint16
    assert len(seen.volts) == len(seen.time_s) > 100
    assert seen.time_s[-1] - seen.time_s[0] == pytest.approx(1e-3, rel=0.01)
    np.testing.assert_allclose(seen.volts, voltage(wave, seen.time_s), atol=0.6 * seen.volts_per_code)
    assert np.abs(scope.acquire(1).volts).max() <= seen.volts_per_code  # nothing is on the other one


def test_a_screen_out_of_range_is_refused(scope_case, opened):
    scope = opened(scope_case).device
    for settings, told in (
        ({"channel": 3, "volts": 1.0, "seconds": 1.0}, "channel is 3; allowed: 1 to 2"),
        ({"channel": 1, "volts": 1e-3, "seconds": 1.0}, "volts is 0.001; allowed: 0.008 to 40 V"),
        ({"channel": 1, "volts": 1.0, "seconds": 1e-9}, "seconds is 1e-09; allowed: 5e-08 to 500 s"),
    ):
        with pytest.raises(DeviceValueError, match=told):
            scope.set_screen(**settings)
    with pytest.raises(DeviceValueError, match="channel is 0; allowed: 1 to 2"):
        scope.acquire(0)


def test_a_generator_gives_its_wave_when_switched_on(generator_case, opened):
    subject = opened(generator_case)
    generator, wave = subject.device, Wave("square", 12_345.678, 1.5, -0.75)
    generator.set_wave(2, wave)
    assert generator.wave(2) == wave
    assert subject.bench.outputs == {}
    generator.output(2, True)
    assert subject.bench.outputs == {2: wave}
    generator.close()
    assert subject.bench.outputs == {}


def test_a_wave_out_of_range_is_refused(generator_case, opened, unchanged):
    subject = opened(generator_case)
    generator = subject.device
    before = subject.probe()
    for channel, wave, told in (
        (3, Wave("sine", 1.0, 1.0), "channel is 3"),
        (1, Wave("sine", 21e6, 1.0), "hz is .*; allowed: 0 to 2e\\+07 Hz"),
        (1, Wave("sine", 1.0, 8.0, 2.0), "offset_volts with half of volts_pp is 6.0; allowed: 0 to 5 V"),
        (1, Wave("saw", 1.0, 1.0), "shape is 'saw'; allowed: sine, square, ramp, dc"),
    ):
        with pytest.raises(DeviceValueError, match=told):
            generator.set_wave(channel, wave)
    unchanged(before, subject.probe())
