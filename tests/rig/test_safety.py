"""Limits, interlocks, safe order and watchdog of a rig file."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from labctl.devices import (
    ConfigError,
    DeviceUnavailable,
    InputDrive,
    InterlockTripped,
    LimitExceeded,
    WeightModulator,
)
from labctl.rig import Rig, check_rig, load_rig
from labctl.rig.interlocks import MIN_LOOKS, InterlockConfig, Interlocks

SAFETY = """
[limits]
channel_ma = 15.0
total_ma = 500.0
[limits.absolute]
channel_ma = 18.0
[limits.light]
ma_per_unit = 4.0
pedestal_units = 1.1

[[interlock]]
name = "emitters-cool"
device = "emitters"
reading = "temperature_c"
low = 5.0
high = 45.0
frozen_s = 0.0
"""


def rig_file(tmp_path: Path, safety: str = SAFETY, **replaced: str) -> Path:
    """The shipped optical-twin with these tables behind it."""
    shipped = Path(__file__).parents[2] / "protocols/labctl_recipes/rigs/optical-twin.toml"
    for old, new in replaced.items():
        assert old in safety
        safety = safety.replace(old, new)
    path = tmp_path / "bench.toml"
    path.write_text(shipped.read_text("utf-8") + safety, encoding="utf-8")
    return path


def patterns(drive: InputDrive, current_ma: float):
    return np.full((1, drive.spec.n_channels), round(current_ma / drive.spec.ma_per_code))


# limits


def test_the_limits_of_a_rig_file_hold_on_its_devices(tmp_path) -> None:
    with Rig(load_rig(rig_file(tmp_path))) as rig:
        drive = rig.device(InputDrive)
        drive.drive(patterns(drive, 10.0))
        with pytest.raises(LimitExceeded, match="software limit total_ma: 500 mA"):
            drive.drive(patterns(drive, 11.0))
        assert rig.passed == {}


def test_an_override_of_a_rig(tmp_path) -> None:
    rig = Rig(load_rig(rig_file(tmp_path)), overrides=["total_ma: two rows of spares are off"])
    with rig:
        drive = rig.device(InputDrive)
        drive.drive(patterns(drive, 11.0))
        assert rig.passed == {"total_ma": "up to 527.9"}
        one = np.zeros((1, drive.spec.n_channels), np.int64)
        one[0, 5] = patterns(drive, 16.0)[0, 5]
        with pytest.raises(LimitExceeded, match="software limit channel_ma"):
            drive.drive(one)


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("total_ma", 'allowed: "NAME: REASON"'),
        ("total_ma:  ", 'allowed: "NAME: REASON"'),
        ("totl_ma: why", "no such software limit or interlock, nor records; did you mean 'total_ma'?"),
        ("irradiance_w_cm2: why", "allowed: channel_ma, total_ma, emitters-cool"),
    ],
)
def test_an_override_names_what_it_passes_and_why(tmp_path, override, told) -> None:
    with pytest.raises(ConfigError) as caught:
        Rig(load_rig(rig_file(tmp_path)), overrides=[override])
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("replaced", "told"),
    [
        ({"total_ma = 500.0": "total_ma = -1"}, "limits.total_ma = -1: allowed: 0 or more"),
        ({"total_ma = 500.0": "totl_ma = 5"}, "'limits.totl_ma' is not known; did you mean 'total_ma'?"),
        ({"ma_per_unit = 4.0": ""}, "limit channel_ma cannot be checked without light.ma_per_unit"),
        ({"channel_ma = 18.0": "channel_ma = 14.0"}, "channel_ma is 15; allowed: at most its absolute"),
        ({'device = "emitters"': 'device = "emiters"'}, "not on this rig; did you mean 'emitters'?"),
        ({'name = "emitters-cool"': 'name = "total_ma"'}, "stands twice; allowed: each name once"),
        ({"low = 5.0": "equals = true"}, "allowed: low, high or both, or equals"),
        ({"low = 5.0": "low = 50.0"}, "low is 50; allowed: at most 45"),
    ],
)
def test_tables_that_make_no_sense_are_named(tmp_path, replaced, told) -> None:
    with pytest.raises(ConfigError) as caught:
        load_rig(rig_file(tmp_path, **replaced))
    assert told in str(caught.value)


# interlocks


class Readings:
    """A device that answers with what it is told; a fault that no twin produces."""

    def __init__(self, **values: object) -> None:
        self.values = values

    def snapshot(self):
        if "raises" in self.values:
            raise DeviceUnavailable("gone", device="sensor", operation="snapshot")
        return dict(self.values)


def keep_looking(watched: Interlocks) -> None:
    for _ in range(MIN_LOOKS + 8):
        time.sleep(0.02)
        watched.check("during")


def interlocks(sensor: Readings, overridden=None, **settings: object) -> Interlocks:
    config = {"name": "door", "device": "sensor", "reading": "level", "low": 1.0, "high": 2.0, **settings}
    return Interlocks([InterlockConfig(**config)], {"sensor": sensor}, overridden)


@pytest.mark.parametrize("value", [1.0, 1.5, 2.0, 2, True])
def test_a_good_reading(value) -> None:
    sensor = Readings(level=value)
    watched = interlocks(sensor)
    watched.check("now")
    sensor.values["level"] = 2.5
    with pytest.raises(InterlockTripped, match=r"level is 2\.5"):  # it was read, and is read again
        watched.check("now")


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"level": 0.99}, "sensor.level is 0.99; allowed: 1 to 2"),
        ({"level": float("nan")}, "sensor.level is nan: missing"),
        ({"level": "1.5"}, "sensor.level is '1.5'"),
        ({"lvel": 1.5}, "sensor.level is missing; did you mean 'lvel'?"),
        ({"raises": 1}, "sensor.level is missing: sensor: snapshot: gone"),
    ],
)
def test_a_bad_or_missing_reading_trips(values, told) -> None:
    with pytest.raises(InterlockTripped) as caught:
        interlocks(Readings(**values)).check("before the run")
    assert str(caught.value).startswith("before the run: interlock door: ")
    assert told in str(caught.value)


def test_a_frozen_reading_trips_and_a_living_one_does_not() -> None:
    sensor = Readings(level=1.5)
    watched = interlocks(sensor, frozen_s=0.05)
    for look in range(8):
        sensor.values["level"] = 1.5 + 0.01 * (look % 2)
        watched.check("during")
        time.sleep(0.02)
    with pytest.raises(InterlockTripped, match=r"has been 1\.51 for 0\.\d s: frozen"):
        keep_looking(watched)


def test_a_heartbeat_shows_that_a_switch_is_alive() -> None:
    sensor = Readings(closed=True, beats=0)
    settings = {"reading": "closed", "low": None, "high": None, "equals": True, "frozen_s": 0.05}
    watched = interlocks(sensor, heartbeat="beats", **settings)
    for beat in range(8):
        sensor.values["beats"] = beat
        watched.check("during")
        time.sleep(0.02)
    with pytest.raises(InterlockTripped, match=r"sensor\.beats has been 7"):
        keep_looking(watched)
    with pytest.raises(ValueError, match="does not show that it is alive; allowed: a heartbeat, or frozen_s"):
        interlocks(sensor, **settings)
    sensor.values["closed"] = False
    with pytest.raises(InterlockTripped, match=r"sensor\.closed is False; allowed: True"):
        interlocks(sensor, **{**settings, "frozen_s": 0.0}).check("now")


def test_an_overridden_interlock_is_noted_and_an_absolute_one_is_not_overridden() -> None:
    watched = interlocks(Readings(level=3.0), {"door": "alignment"})
    watched.check("now")
    assert watched.passed == {"door": "sensor.level is 3.0"}
    with pytest.raises(ConfigError, match="override of interlock 'door': it is absolute"):
        interlocks(Readings(level=3.0), {"door": "alignment"}, absolute=True)


def test_a_rig_does_not_open_beside_a_bad_reading(tmp_path) -> None:
    rig = Rig(load_rig(rig_file(tmp_path, **{"high = 45.0": "high = 10.0"})))
    with pytest.raises(InterlockTripped, match="on opening: interlock emitters-cool"):
        rig.open()
    assert rig.devices == {}
    with Rig(rig.config, overrides=["emitters-cool: x"]) as opened:
        assert list(opened.passed) == ["emitters-cool"]


@pytest.mark.parametrize(("high", "ok"), [("high = 45.0", True), ("high = 10.0", False)])
def test_check_looks_at_the_interlocks(tmp_path, high, ok) -> None:
    config = load_rig(rig_file(tmp_path, **{"high = 45.0": high}))
    found = [finding for finding in check_rig(config) if finding.test == "interlocks"]
    assert [(one.ok, one.device) for one in found] == [(ok, "optical-twin")]
    assert ("emitters-cool good" in found[0].found) is ok


# order and watchdog


def test_a_bench_is_closed_light_first_then_loop_then_weights(monkeypatch) -> None:
    closed: list[str] = []
    rig = Rig(load_rig("optical-twin")).open()
    assert list(rig.devices) == ["panel", "emitters", "electronics", "camera"]
    for name, device in rig.devices.items():
        before = device._do_close

        def noted(name=name, before=before):
            closed.append(name)
            before()
            if name == "electronics":
                raise DeviceUnavailable("gone", device=name, operation="close")

        monkeypatch.setattr(device, "_do_close", noted)
    panel = rig.device(WeightModulator)
    with pytest.raises(DeviceUnavailable):
        rig.close()
    assert closed == ["emitters", "electronics", "panel", "camera"]
    assert not panel.is_open


def test_twins_need_no_watchdog() -> None:
    with Rig(load_rig("optical-twin")) as rig:
        assert rig._watchdog is None
