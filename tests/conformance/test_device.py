"""DeviceContract: what every device promises, whatever it is."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import pytest

from labctl.devices import (
    Camera,
    DeviceFault,
    DeviceStateError,
    DeviceUnavailable,
    FlatField,
    Identity,
    InputDrive,
    LoopElectronics,
    OscillatorBoard,
    RunCodes,
    WeightModulator,
)
from labctl.devices.instruments import Laser, Oscilloscope, PowerMeter, SignalGenerator, Wave

UNIT_SUFFIXES = (
    "_us",
    "_s",
    "_hz",
    "_mhz",
    "_ma",
    "_ua",
    "_v",
    "_c",
    "_units",
    "_rad",
    "_um",
    "_nm",
    "_mw",
    "_db",
    "_px",
)
NOT_QUANTITIES = ("_id", "_crc32", "_count", "_codes", "_name", "_version", "_serial")


class Stumble(Exception):
    """Something of the caller's own that goes wrong while a device is open."""


@pytest.fixture
def operations(settle_codes, board_image):
    """Public operations of an interface with arguments that are in order."""

    def of(subject, interface):  # looked up when called: a modulator has no settle
        device, profile = subject.device, getattr(subject.bench, "profile", None)
        n = getattr(profile, "n_channels", 0)
        zeros = np.zeros((1, n), np.int64)

        def from_spec(made):  # a closed device refuses whatever it is given, and may not know its spec yet
            return made(device.spec) if device.is_open else None

        table = {
            WeightModulator: {
                "show": lambda: device.show(np.zeros(profile.panel_shape_px, np.uint16)),
                "shown": lambda: device.shown(),
            },
            InputDrive: {
                "drive": lambda: device.drive(zeros),
                "temperature_c": lambda: device.temperature_c(),
            },
            LoopElectronics: {
                "set_offset_null": lambda: device.set_offset_null(zeros[0]),
                "probe": lambda: device.probe(zeros),
                "settle": lambda: device.settle(from_spec(settle_codes)),
                "temperature_c": lambda: device.temperature_c(),
            },
            Camera: {
                "configure": lambda: device.configure({**subject.view, "TriggerMode": "Off"}),
                "settings": lambda: device.settings,
                "acquire": lambda: device.acquire(1),
                "temperature_c": lambda: device.temperature_c(),
            },
            FlatField: {
                "set_photons_per_us": lambda: device.set_photons_per_us(1.0),
                "photons_per_us": lambda: device.photons_per_us,
            },
            Laser: {
                "set_power_mw": lambda: device.set_power_mw(1.0),
                "power_mw": lambda: device.power_mw(),
                "emit": lambda: device.emit(True),
                "emitting": lambda: device.emitting(),
            },
            PowerMeter: {
                "set_wavelength_nm": lambda: device.set_wavelength_nm(850.0),
                "wavelength_nm": lambda: device.wavelength_nm(),
                "read_mw": lambda: device.read_mw(),
            },
            Oscilloscope: {
                "set_screen": lambda: device.set_screen(1, volts=1.0, seconds=1e-3),
                "acquire": lambda: device.acquire(1),
            },
            SignalGenerator: {
                "set_wave": lambda: device.set_wave(1, Wave("sine", 1e3, 1.0)),
                "wave": lambda: device.wave(1),
                "output": lambda: device.output(1, True),
            },
            OscillatorBoard: {
                "load": lambda: device.load(from_spec(board_image)),
                "loaded": lambda: device.loaded(),
                "run": lambda: device.run(RunCodes(np.arange(2))),
                "run_us": lambda: device.run_us(),
                "count_frequency": lambda: device.count_frequency(from_spec(lambda s: s.gate_range_us[0])),
                "temperature_c": lambda: device.temperature_c(),
            },
        }
        return {**table[interface], "snapshot": lambda: device.snapshot()}

    return of


def test_building_talks_to_nobody(device_case, unchanged):
    subject = device_case.make()
    before = subject.probe()
    subject.another("another")
    unchanged(before, subject.probe())
    assert not subject.device.is_open
    if not device_case.unplugs:
        return
    subject.unplug()  # a bench that is not there is noticed by open, not by the constructor
    device = subject.another("another")
    with pytest.raises(DeviceUnavailable, match=r"^another: open: "):
        device.open()
    assert not device.is_open


def test_open_says_who_it_is_and_opening_again_says_the_same(device_case):
    device = device_case.make().device
    first = device.open()
    assert isinstance(first, Identity)
    assert first.simulated is True
    assert all((first.vendor, first.model, first.serial, first.firmware))
    assert device.open() == first
    assert device.is_open
    device.close()
    assert not device.is_open


def test_two_benches_have_two_serials(device_case):
    serials = set()
    for seed in (0, 1):
        with device_case.make(seed=seed).device as device:
            serials.add(device.open().serial)
    assert len(serials) == 2


def test_closing_twice_and_closing_unopened_are_harmless(device_case):
    device = device_case.make().device
    device.close()
    device.open()
    device.close()
    device.close()
    assert not device.is_open


def test_a_closed_device_refuses_every_operation(device_case, operations, unchanged):
    subject = device_case.make()
    for reopen in (False, True):
        if reopen:
            subject.device.open()
            subject.device.close()
        before = subject.probe()
        for name, call in operations(subject, device_case.interface).items():
            with pytest.raises(DeviceStateError, match=rf"^device-under-test: {name}: .*open\(\)") as caught:
                call()
            assert (caught.value.device, caught.value.operation) == ("device-under-test", name)
        unchanged(before, subject.probe())


def test_a_device_works_again_after_reopening(device_case, operations):
    subject = device_case.make()
    for _ in range(2):
        with subject.device:
            for name, call in operations(subject, device_case.interface).items():
                if name in device_case.notes.get("lacks", ()):
                    with pytest.raises(DeviceFault, match=f"^device-under-test: {name}: "):
                        call()
                else:
                    call()


def test_the_context_closes_after_an_exception(device_case):
    device = device_case.make().device
    with pytest.raises(Stumble), device:
        raise Stumble
    assert not device.is_open


def test_a_device_that_disappears_is_named_with_the_operation(device_case, operations):
    if not device_case.unplugs:
        pytest.skip("what simulates it has no cable that could be pulled")
    subject = device_case.make()
    subject.device.open()
    subject.unplug()
    for name, call in operations(subject, device_case.interface).items():
        with pytest.raises(DeviceUnavailable, match=f"^device-under-test: {name}: ") as caught:
            call()
        assert (caught.value.device, caught.value.operation) == ("device-under-test", name)
    with suppress(DeviceUnavailable):  # where nothing can make it safe any more, it says so
        subject.device.close()  # still possible, so that a rig can be put away
    assert not subject.device.is_open


def test_snapshot_keys_carry_units_and_values_are_scalars(device_case):
    with device_case.make().device as device:
        snapshot = device.snapshot()
    assert snapshot
    for key, value in snapshot.items():
        assert isinstance(value, str | int | float | bool), key
        assert key.endswith(UNIT_SUFFIXES + NOT_QUANTITIES), key
        if isinstance(value, float):
            assert key.endswith(UNIT_SUFFIXES), key
            assert np.isfinite(value), key
