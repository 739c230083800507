"""Limits: compared before every command, on every device; absolute ones are passed by nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from labctl_sim_devices import DmdTwin, EmitterTwin, OpticalBench, load_profile
from pydantic import ValidationError

from labctl.devices import ConfigError, DeviceValueError, Guard, LimitExceeded, Limits, SettleCodes

LIGHT = {"ma_per_unit": 4.0, "pedestal_units": 1.1, "mw_per_ma": 0.25, "panel_area_cm2": 0.85}


def limits(**values: object) -> Limits:
    return Limits(**{"light": LIGHT, **values})


@pytest.fixture
def emitters():
    """EmitterTwin of 48 channels, 0 to 20 mA, opened, and the light it emits."""
    drive = EmitterTwin("emitters", OpticalBench(load_profile("adm")))
    with drive:
        yield drive


def codes(drive: EmitterTwin, *current_ma: float):
    """A pattern [1, 48] that begins with these currents; the rest are 0."""
    pattern = np.zeros((1, drive.spec.n_channels), np.int64)
    pattern[0, : len(current_ma)] = np.rint(np.array(current_ma) / drive.spec.ma_per_code)
    return pattern


def emitted(drive: EmitterTwin) -> float:
    return float(drive._bench.emitted_units.sum())


@pytest.mark.parametrize(
    ("limit", "current_ma", "told"),
    [
        ({"channel_ma": 5.0}, (5.2,), "current of a channel would be 5.2"),
        ({"total_ma": 12.0}, (5.0, 5.0, 2.1), "total current would be 12.1"),
        ({"irradiance_w_cm2": 0.001}, (3.0, 1.0), "irradiance of the panel would be 0.00117"),
    ],
)
def test_light_beyond_a_limit_is_not_sent(emitters, limit, current_ma, told) -> None:
    (name,) = limit
    emitters.guard = Guard(limits(**limit))
    emitters.drive(codes(emitters, 2.0))
    before = emitted(emitters)
    with pytest.raises(LimitExceeded) as caught:
        emitters.drive(codes(emitters, *current_ma))
    assert emitted(emitters) == before
    assert told in str(caught.value)
    assert f"software limit {name}: {limit[name]:.4g}" in str(caught.value)
    assert f'--override "{name}: REASON" passes it' in str(caught.value)
    assert isinstance(caught.value, DeviceValueError)


def test_an_override_passes_a_software_limit_and_is_counted(emitters) -> None:
    guard = emitters.guard = Guard(
        limits(channel_ma=5.0, absolute={"channel_ma": 8.0}), {"channel_ma": "a brighter target"}
    )
    emitters.drive(codes(emitters, 4.0))
    assert guard.passed == {}
    emitters.drive(codes(emitters, 7.0))
    emitters.drive(codes(emitters, 6.0))
    assert guard.passed == {"channel_ma": pytest.approx(7.0, abs=0.01)}
    with pytest.raises(LimitExceeded, match="absolute limit channel_ma: 8 mA, nothing passes it"):
        emitters.drive(codes(emitters, 8.1))


def test_only_what_is_a_software_limit_can_be_overridden() -> None:
    with pytest.raises(ConfigError, match="override of 'total_ma': it is no software limit of this rig"):
        Guard(limits(channel_ma=5.0, absolute={"total_ma": 8.0}), {"total_ma": "because"})


@given(st.lists(st.floats(0, 19), min_size=1, max_size=48), st.floats(0, 20), st.floats(0, 20), st.booleans())
def test_no_command_ever_passes_an_absolute_limit(current_ma, soft, hard, overridden) -> None:
    soft, hard = sorted((soft, hard))
    guard = Guard(
        limits(channel_ma=soft, absolute={"channel_ma": hard}), {"channel_ma": "x"} if overridden else {}
    )
    allowed = hard if overridden else soft
    drive = EmitterTwin.__new__(EmitterTwin)  # a name for the message is all that is needed
    drive.name = "emitters"
    try:
        guard.current(drive, "drive", [current_ma])
    except LimitExceeded:
        assert max(current_ma) > allowed
    else:
        assert max(current_ma) <= allowed * (1 + 1e-8)


def test_it_must_be_cool_and_a_missing_reading_is_not(emitters, monkeypatch) -> None:
    emitters.guard = Guard(limits(temperature_c=45.0))
    emitters.drive(codes(emitters, 1.0))
    for reading, told in ((46.0, "46 °C"), (float("nan"), "nan °C")):
        monkeypatch.setattr(emitters, "_do_temperature_c", lambda value=reading: value)
        with pytest.raises(LimitExceeded, match=f"temperature would be {told}"):
            emitters.drive(codes(emitters, 1.0))


def test_loop_electronics_are_compared_by_what_the_loop_may_ask_for(twin) -> None:
    """Pedestal 1.1 + 1 units at 4 mA: 8.4 mA a channel, 403.2 mA in all."""
    bench = twin("adm")
    n = bench.electronics.spec.n_channels
    top = bench.electronics.spec.probe_dac.max_code
    for name, enough in (
        ("channel_ma", 8.4),
        ("total_ma", 403.2),
        ("irradiance_w_cm2", 403.2 * 0.25e-3 / 0.85),
    ):
        bench.electronics.guard = Guard(limits(**{name: enough}))
        bench.electronics.probe(np.full((1, n), top))
        bench.electronics.guard = Guard(limits(**{name: 0.99 * enough}))
        with pytest.raises(LimitExceeded, match=name):
            bench.electronics.probe(np.full((1, n), top))
        bench.electronics.probe(np.full((1, n), -top))
        bench.electronics.probe(np.full((1, n), top), at="emitter")  # without the pedestal


def test_a_loop_is_not_closed_beyond_a_limit(twin) -> None:
    bench = twin("adm")
    electronics, n = bench.electronics, bench.electronics.spec.n_channels
    none = np.zeros((1, n), np.int64)
    codes = SettleCodes(none, none, none, none[0], none, step_id=0, sample_id=np.zeros(1, np.int64))
    electronics.guard = Guard(limits(total_ma=400.0))
    before = bench.bench.now_us
    with pytest.raises(LimitExceeded, match="settle: total current would be 403"):
        electronics.settle(codes)
    assert bench.bench.now_us == before
    electronics.guard = Guard(limits(total_ma=404.0))
    electronics.settle(codes)


def test_mirrors() -> None:
    panel = DmdTwin("mirrors", OpticalBench(load_profile("dmd")))
    with panel:
        panel.guard = Guard(Limits(mirror_duty=0.5))
        height, width = panel.spec.shape_px
        half = np.zeros((height, width), np.int64)
        half[: height // 2] = 1
        panel.show(half)
        with pytest.raises(LimitExceeded, match="share of mirrors that are on would be 1; software limit"):
            panel.show(np.ones((height, width), np.int64))
        np.testing.assert_array_equal(panel.shown(), half)
        planes, least_us = np.stack([half, half + (half == 0)]), panel.spec.min_plane_us
        with pytest.raises(LimitExceeded, match=r"would be 0\.75"):
            panel.show_sequence(planes, [least_us, least_us])
        panel.guard = Guard(Limits(mirror_duty=0.6))
        panel.show_sequence(planes, [9 * least_us, least_us])  # 0.55 of the time


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"channel_ma": 5.0, "absolute": {"channel_ma": 4.0}}, "allowed: at most its absolute limit, 4"),
        ({"irradiance_w_cm2": 1.0, "light": {}}, "cannot be checked without light.mw_per_ma"),
        ({"channel_ma": -1.0}, "greater than or equal to 0"),
        ({"mirror_duty": 1.5}, "less than or equal to 1"),
        ({"channel_mA": 5.0}, "channel_mA"),
        ({"total_ma": float("nan")}, "finite"),
    ],
)
def test_limits_that_make_no_sense(values, told) -> None:
    with pytest.raises(ValidationError, match=told.replace(".", r"\.")):
        limits(**values)
