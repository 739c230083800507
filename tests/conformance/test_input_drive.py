"""What every input drive promises. The probe sees emitted light, in units of phi = 1."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from labctl_sim_devices import CameraTwin

from labctl.devices import DeviceValueError, Hold, UnsupportedFeature
from labctl.engines.spots import hold_of


def patterns(spec, batch=3, seed=0):
    """Random codes with their sum well below the total limit."""
    top = int(0.5 * spec.max_total_ma / spec.n_channels / spec.ma_per_code)
    return np.random.default_rng(seed).integers(0, top, (batch, spec.n_channels))


def light_of(subject, codes):
    """Data sheet: code / (n_codes - 1) of full scale, emitter_ma_per_unit for one unit of light."""
    profile = subject.bench.profile
    return codes / (profile.emitter_codes - 1) * profile.emitter_max_channel_ma / profile.emitter_ma_per_unit


def test_what_was_driven_is_what_is_emitted(drive_case, opened):
    subject = opened(drive_case)
    codes = patterns(subject.device.spec)
    receipt = subject.device.drive(codes)
    np.testing.assert_allclose(subject.probe()["emitted"], light_of(subject, codes), rtol=1e-12)
    per_unit = subject.bench.profile.emitter_ma_per_unit
    np.testing.assert_allclose(receipt.current_ma, subject.probe()["emitted"] * per_unit, rtol=1e-12)
    assert receipt.coercions == ()


def test_the_callers_codes_can_change_afterwards(drive_case, opened, unchanged):
    subject = opened(drive_case)
    codes = patterns(subject.device.spec)
    receipt = subject.device.drive(codes)
    before, applied = subject.probe(), receipt.current_ma.copy()
    codes[:] = 0
    unchanged(before, subject.probe())
    np.testing.assert_array_equal(receipt.current_ma, applied)
    receipt.current_ma[:] = 0
    unchanged(before, subject.probe())


@pytest.mark.parametrize(
    "spoil",
    [
        lambda c, top: c[0],
        lambda c, top: c[:, :-1],
        lambda c, top: c.T,
        lambda c, top: c[:0],
        lambda c, top: c.astype(float),
        lambda c, top: np.full_like(c, np.nan, dtype=float),
        lambda c, top: c - c.max() - 1,
        lambda c, top: np.where(np.arange(c.shape[1]) == 5, top + 1, c),
    ],
    ids=["1-d", "short", "transposed", "empty", "float", "nan", "below", "above"],
)
def test_wrong_codes_are_refused_and_the_light_stays(drive_case, opened, unchanged, spoil):
    subject = opened(drive_case)
    codes = patterns(subject.device.spec)
    subject.device.drive(codes)
    before = subject.probe()
    with pytest.raises(DeviceValueError, match=r"^device-under-test: drive: codes "):
        subject.device.drive(spoil(codes, subject.device.spec.n_codes - 1))
    unchanged(before, subject.probe())


def test_first_and_last_code_of_one_channel(drive_case, opened):
    subject = opened(drive_case)
    spec = subject.device.spec
    codes = np.zeros((2, spec.n_channels), np.int64)
    codes[1, 5] = spec.n_codes - 1
    subject.device.drive(codes)
    emitted = subject.probe()["emitted"]
    assert not emitted[0].any()
    assert np.flatnonzero(emitted[1]).tolist() == [5]
    assert emitted[1, 5] * subject.bench.profile.emitter_ma_per_unit == pytest.approx(spec.full_scale_ma)


def test_the_total_limit_is_refused_one_code_above_it(drive_case, opened, unchanged):
    subject = opened(drive_case)
    spec = subject.device.spec
    below = int(spec.max_total_ma / spec.n_channels / spec.ma_per_code)
    allowed = np.zeros((2, spec.n_channels), np.int64)
    allowed[1] = below
    subject.device.drive(allowed)
    before = subject.probe()
    with pytest.raises(DeviceValueError, match=r"total current would be 600\.\d+ mA; allowed: 0 to 600 mA"):
        subject.device.drive(np.vstack([allowed, allowed[1:] + 1]))
    unchanged(before, subject.probe())


def test_the_channel_limit_is_refused_not_clipped(drive_case, unchanged):
    """A data sheet whose DAC reaches beyond what the emitters bear."""

    class Delicate(drive_case.implementation):
        @property
        def spec(self):
            return replace(super().spec, max_channel_ma=5.0)

    subject = drive_case.make()
    with subject.another("delicate", Delicate) as device:
        limit = int(5.0 / device.spec.ma_per_code)
        codes = np.zeros((1, device.spec.n_channels), np.int64)
        codes[0, 3] = limit
        device.drive(codes)
        before = subject.probe()
        codes[0, 3] = limit + 1
        with pytest.raises(
            DeviceValueError, match=r"delicate: drive: channel current would be .* allowed: 0 to 5 mA"
        ):
            device.drive(codes)
        unchanged(before, subject.probe())


def test_a_queue_takes_time_and_its_last_pattern_stays_on(drive_case, opened):
    subject = opened(drive_case)
    before = subject.probe()["clock_us"]
    codes = patterns(subject.device.spec, batch=5)
    subject.device.drive(codes)
    assert subject.probe()["clock_us"] > before
    total = subject.device.snapshot()["total_current_ma"]
    per_unit = subject.bench.profile.emitter_ma_per_unit
    assert total == pytest.approx(light_of(subject, codes)[-1].sum() * per_unit)


def test_closing_switches_the_light_off(drive_case):
    subject = drive_case.make()
    with subject.device as device:
        device.drive(patterns(device.spec))
    assert not subject.probe()["emitted"].any()


def test_a_temperature_is_told(drive_case, opened):
    assert -40 < opened(drive_case).device.temperature_c() < 150


def filming(subject, frames):
    """A camera on the bench that waits for the drive's triggers, and what its shutter needs of them."""
    camera = CameraTwin("camera", subject.bench)
    camera.open()
    camera.configure({"TriggerMode": "On", "Height": 24, "OffsetY": 596, "ExposureTime": 20.0})
    camera.arm(frames)
    return camera, hold_of(camera)


def test_each_pattern_of_a_queue_triggers_the_camera_and_stays_on_for_it(drive_case, opened):
    subject = opened(drive_case)
    subject.light_cells({(0, 3, 3), (0, 7, 7)})
    codes = np.zeros((5, subject.device.spec.n_channels), np.int64)
    codes[[1, 3], 3], codes[2, 7] = 400, 800
    camera, hold = filming(subject, 5)
    before_us = subject.probe()["clock_us"]
    subject.device.drive(codes, hold=hold)
    assert subject.probe()["clock_us"] - before_us == pytest.approx(5 * max(hold.hold_us, hold.period_us))
    frames = camera.acquire(5)
    assert frames.dropped == 0
    counts = frames.counts.sum(axis=(1, 2), dtype=np.int64)
    light = counts - counts[0]
    assert light[1] == pytest.approx(light[3], rel=1e-2)
    assert light[2] == pytest.approx(2 * light[1], rel=1e-2)
    assert light[1] > 1000
    assert light[4] == 0


def test_a_samples_draws_depend_neither_on_its_batch_nor_on_its_order(drive_case, opened):
    def film(order):
        subject = opened(drive_case, noise_scale=1.0)
        subject.light_cells({(0, 3, 3)})
        camera, hold = filming(subject, len(order))
        codes = np.zeros((len(order), subject.device.spec.n_channels), np.int64)
        codes[:, 3] = 400 + np.asarray(order)
        subject.device.drive(codes, hold=hold, step_id=9, sample_id=order)
        return camera.acquire(len(order)).counts

    together, alone = film([0, 1, 2]), film([2, 0])
    np.testing.assert_array_equal(alone, together[[2, 0]])


def test_a_hold_out_of_range_and_wrong_sample_ids_are_refused(drive_case, opened, unchanged):
    subject = opened(drive_case)
    spec = subject.device.spec
    codes = patterns(spec)
    subject.device.drive(codes)
    before = subject.probe()
    with pytest.raises(DeviceValueError, match=r"drive: hold_us is .*; allowed: 0 to"):
        subject.device.drive(codes, hold=Hold(spec.max_hold_us * 1.01, 0.0))
    with pytest.raises(DeviceValueError, match=r"drive: sample_id has shape \(2,\); allowed: \(3\)"):
        subject.device.drive(codes, sample_id=np.arange(2))
    unchanged(before, subject.probe())


def test_drivers_without_a_trigger_output_say_so(drive_case):
    class Plain(drive_case.implementation):
        @property
        def spec(self):
            return replace(super().spec, max_hold_us=0.0)

    subject = drive_case.make()
    told = pytest.raises(UnsupportedFeature, match="no trigger output")
    with subject.another("plain", Plain) as device, told:
        device.drive(patterns(device.spec), hold=Hold(1.0, 1.0))
