"""Runs that read states by camera: what the file says, and what is refused before the first step."""

from __future__ import annotations

import pytest

from labctl import load_protocol, open_rig, run
from labctl.devices import ConfigError
from labctl.procedures import chains_of
from labctl.rig import RigConfig, load_rig
from labctl.runlog import RunReader

SMALL = {"samples": 40, "audit": 0, "reference": 50}


def protocol(**settings):
    return load_protocol("sample_moons", {**SMALL, **settings})


def rig_with(**overrides):
    config = load_rig("optical-twin").model_dump()
    config["world"]["overrides"] = overrides
    return open_rig(RigConfig(**config))


def test_a_run_by_camera_says_so(tmp_path) -> None:
    with open_rig("optical-twin") as rig:
        result = run(protocol(readout="camera", audit=8), rig, out=tmp_path)
        plain = run(protocol(), rig, out=tmp_path)
    assert not any(key.startswith("camera_") for key in plain.panels[0].metrics)
    metrics = result.panels[0].metrics
    assert 5 <= metrics["camera_exposure_us"] <= 20
    assert metrics["camera_transient_allowed"] is True
    assert metrics["camera_saturated_samples"] == 0
    assert 0 <= metrics["camera_transient_share_p95"] < 0.5
    assert metrics["camera_shot_noise_rms_units"] > metrics["camera_read_noise_rms_units"] > 0
    # the sensor is read between settles
    assert (
        metrics["device_time_per_sample_us"] > 5 * 280 > plain.panels[0].metrics["device_time_per_sample_us"]
    )
    with RunReader(result.file) as file:
        (camera,) = (device for device in file.header.devices if device.name == "camera")
        assert camera.serial.startswith("SIM-CAM-1-")
        (panel,) = file.panels.values()
        assert panel.settings["readout"] == "camera"
        assert panel.metrics["camera_exposure_us"] == pytest.approx(metrics["camera_exposure_us"])


@pytest.mark.slow  # three runs by camera and ADC
def test_camera_and_adc_give_the_same_samples_within_their_noise(tmp_path) -> None:
    with open_rig("optical-twin") as rig:
        by = {kind: run(protocol(readout=kind), rig, out=tmp_path).samples for kind in ("adc", "camera")}
        again = run(protocol(readout="camera"), rig, out=tmp_path).samples
    assert (again == by["camera"]).all()
    off = abs(by["camera"] - by["adc"])
    assert 0 < sorted(off.max(axis=1))[-8] < 0.1  # a sample on a ridge may go to the other moon


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"readout": "camera", "exposure_us": 2}, "exposure_us is 2; camera allows 5 to 1e"),
        ({"readout": "adc", "exposure_us": 20}, 'exposure_us is 20; readout "adc" allows 0 only'),
    ],
)
def test_settings_without_sense_are_refused_when_planning(settings, message) -> None:
    with open_rig("optical-twin") as rig, pytest.raises(ConfigError, match=message):
        chains_of(protocol(**settings), rig, lambda *_: None)


@pytest.mark.parametrize("name", ["digital", "optical-ideal"])
def test_a_rig_without_a_camera_says_so(name) -> None:
    with open_rig(name) as rig, pytest.raises(ConfigError, match=f'"camera", and rig {name} has none'):
        chains_of(protocol(readout="camera"), rig, lambda *_: None)


def test_two_cameras_are_one_too_many() -> None:
    config = load_rig("optical-twin").model_dump()
    config["device"] = [*config["device"], {"name": "second", "driver": "twin.camera"}]
    with pytest.raises(ValueError, match="there are 2 cameras; allowed: at most 1"):
        RigConfig(**config)


def test_an_exposure_that_saturates_ends_before_the_first_step(tmp_path) -> None:
    with open_rig("optical-twin") as rig, pytest.raises(ConfigError, match="saturated: exposure_us is 60"):
        run(protocol(readout="camera", exposure_us=60), rig, out=tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_exposure_too_short_for_its_transient_ends_before_the_first_step(tmp_path) -> None:
    message = r"camera: an exposure of 5 us, .* holds a transient of .*%.*; allowed: 0.5%"
    with rig_with(wait_us=0.0) as rig, pytest.raises(ConfigError, match=message):
        run(protocol(readout="camera", exposure_us=5), rig, out=tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_planned_time_is_the_cameras(tmp_path) -> None:
    with open_rig("optical-twin") as rig:
        (plain,) = chains_of(protocol(), rig, lambda *_: None)
        (filmed,) = chains_of(protocol(readout="camera", exposure_us=9), rig, lambda *_: None)
        assert plain.step_us(rig) == pytest.approx(14.9)
        assert filmed.step_us(rig) == pytest.approx(1.2 + 9 + 54 * 5.2)
