"""What every input drive promises. The probe sees emitted light, in units of phi = 1."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from labctl.devices import DeviceValueError


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
    with Delicate("delicate", subject.bench) as device:
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
