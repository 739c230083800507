"""Cameras by EMVA 1288: against the twin's truth, against the standard's formulas, and every named fault."""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np
import pytest
from labctl_calibration import nominal_spot_record
from labctl_calibration.optical.camera_dark import CAMERA_DARK
from labctl_calibration.optical.camera_flat import CAMERA_FLAT, measure_series
from labctl_calibration.optical.camera_in_place import CAMERA_IN_PLACE
from labctl_calibration.optical.focus import FOCUS
from labctl_calibration.photon_transfer import pair, photon_transfer, stack
from labctl_calibration.procedure import Devices
from labctl_calibration.spots import KIND as SPOTS_KIND
from labctl_sim_devices import (
    CameraTwin,
    ElectronicsTwin,
    FlatFieldTwin,
    OpticalBench,
    PanelTwin,
    load_profile,
)
from scipy.special import ndtr

from labctl.devices import Camera, DeviceFault, FlatField, LoopElectronics, WeightModulator

UNITS = range(2)  # twenty: benchmarks/optical_calibration.py


def silent(*_):
    pass


def opened(unit, profile="adm", **overrides):
    """(bench, devices) of one unit, open."""
    bench = OpticalBench(load_profile(profile, overrides), seed=unit, unit_seed=unit)
    made = {
        Camera: CameraTwin("camera", bench), FlatField: FlatFieldTwin("flat", bench),
        WeightModulator: PanelTwin("panel", bench), LoopElectronics: ElectronicsTwin("electronics", bench),
    }  # fmt: skip
    for device in made.values():
        device.open()
    return bench, Devices(made)


def measured(procedure, devices):
    camera, loop = devices.get(Camera), devices.get(LoopElectronics)
    spots = replace(nominal_spot_record(camera.spec, loop.spec.n_channels, "design"), kind=SPOTS_KIND)
    return procedure.measure(devices, {SPOTS_KIND: spots} if procedure.needs else {}, silent)


def values(found):
    return {q.name: q for q in found.quantities}


@functools.cache
def by_flat_field(unit):
    bench, devices = opened(unit)
    found = measured(CAMERA_FLAT, devices)
    camera = devices.get(Camera)
    return bench, found, camera._sensor.part(camera.settings)


def true_saturation(profile, response):
    """Mean electrons at which pixels' average temporal variance is largest: each clips at its full well."""
    full, at = profile.camera_full_well_e, np.linspace(0.9, 1.1, 801) * profile.camera_full_well_e
    light = at[:, None] * np.quantile(response, np.linspace(0.005, 0.995, 199))
    sd = np.sqrt(light + profile.camera_read_noise_e**2)
    u = (full - light) / sd
    density = np.exp(-(u**2) / 2) / np.sqrt(2 * np.pi)
    first = ndtr(u) * 0 - density  # of the clipped standard normal: mean and mean square below u
    mean = first + u * (1 - ndtr(u))
    square = ndtr(u) - u * density + u**2 * (1 - ndtr(u))
    variance = (sd**2 * (square - mean**2)).mean(axis=1)
    best = int(variance.argmax())
    return float((light[best] + sd[best] * mean[best]).mean())


@pytest.mark.parametrize("unit", UNITS)
def test_the_standards_values_are_the_twins_within_2_percent(unit):
    bench, found, pixels = by_flat_field(unit)
    p, seen = bench.profile, values(found)
    truth = {
        "system gain K": (2**p.camera_bits - 1 - p.camera_black_level_codes) / p.camera_full_well_e,
        "quantum efficiency": p.camera_quantum_efficiency_percent,
        "temporal dark noise": p.camera_read_noise_e,
        "full well": p.camera_full_well_e,
        "saturation capacity": true_saturation(p, pixels.response),
        "DSNU1288": float(pixels.offset_e.std()),
        "PRNU1288": 100 * float(pixels.response.std()),
    }
    truth["SNR_max"] = truth["saturation capacity"] ** 0.5
    truth["responsivity R"] = truth["system gain K"] * truth["quantum efficiency"] / 100
    for name, true in truth.items():
        assert seen[name].value == pytest.approx(true, rel=0.02), name
    assert found.accepted


def test_stated_intervals_hold_the_truth():
    """Of K, dark noise, quantum efficiency and PRNU, at three standard uncertainties, over the units."""
    for unit in UNITS:
        bench, found, pixels = by_flat_field(unit)
        p, seen = bench.profile, values(found)
        gain = (2**p.camera_bits - 1 - p.camera_black_level_codes) / p.camera_full_well_e
        for name, true in (
            ("system gain K", gain), ("temporal dark noise", p.camera_read_noise_e),
            ("quantum efficiency", p.camera_quantum_efficiency_percent),
            ("PRNU1288", 100 * float(pixels.response.std())),
        ):  # fmt: skip
            assert abs(seen[name].value - true) < 3.5 * seen[name].sd, (unit, name)


@pytest.mark.parametrize("unit", UNITS)
def test_in_place_the_spots_give_the_same_camera(unit):
    """On a bench with every fault: flicker, intensity noise, uneven spots."""
    bench, devices = opened(unit, "unit")
    seen, p = values(measured(CAMERA_IN_PLACE, devices)), bench.profile
    gain = (2**p.camera_bits - 1 - p.camera_black_level_codes) / p.camera_full_well_e
    for name, true in (
        ("system gain K", gain), ("temporal dark noise", p.camera_read_noise_e),
        ("full well", p.camera_full_well_e),
    ):  # fmt: skip
        assert seen[name].value == pytest.approx(true, rel=0.02), name
        assert abs(seen[name].value - true) < 3.5 * seen[name].sd, name


def by_the_standard(frames):
    """K, dark noise, DSNU, PRNU: EMVA 1288's sums written out pixel by pixel, apart from the code above."""
    up = []
    for light, dark in frames["pairs"]:
        (a, b), (c, d) = (f.astype(float) for f in light), (f.astype(float) for f in dark)
        up.append(
            (
                (a.mean() + b.mean() - c.mean() - d.mean()) / 2,
                np.mean((a - b) ** 2) / 2 - (a.mean() - b.mean()) ** 2 / 2
                - np.mean((c - d) ** 2) / 2 + (c.mean() - d.mean()) ** 2 / 2,
            )
        )  # fmt: skip
    x, y = np.array(up).T
    top = x[np.argmax(y)]
    use = x <= 0.7 * top
    gain = np.sum(x[use] * y[use]) / np.sum(x[use] ** 2)
    spatial = []
    for shots in (frames["dark"], frames["half"]):
        shots = shots.astype(float)
        mean = shots.mean(0)
        temporal = ((shots - mean) ** 2).sum(0).mean() / (len(shots) - 1)
        spatial.append((mean.mean(), mean.var(ddof=1) - temporal / len(shots)))
    (dark, dark_var), (half, half_var) = spatial
    return gain, np.sqrt(dark_var) / gain, 100 * np.sqrt(half_var - dark_var) / (half - dark)


def test_the_same_frames_by_the_standards_own_sums_within_1_percent(monkeypatch):
    """(The public `emva1288` 1.0.2 gives the same on such frames: benchmarks/optical_calibration.py.)"""
    taken = []
    import labctl_calibration.optical.camera_flat as module

    plain = module.frames_of

    def keep(camera, count, operation, **how):
        frames = plain(camera, count, operation, **how)
        taken.append(frames)
        return frames

    monkeypatch.setattr(module, "frames_of", keep)
    _, devices = opened(7)
    series, stacks, found = measure_series(devices.get(Camera), devices.get(FlatField), silent)
    twos = [frames for frames in taken if len(frames) == 2][2:]
    frames = {"pairs": list(zip(twos[::2], twos[1::2], strict=True)), **stacks}
    gain, dsnu, prnu = by_the_standard(frames)
    assert len(series.mean) == len(frames["pairs"])
    assert found.system_gain.value == pytest.approx(gain, rel=0.01)
    assert found.dsnu.value == pytest.approx(dsnu, rel=0.01)
    assert found.prnu.value == pytest.approx(prnu, rel=0.01)


def test_frames_alike_have_no_temporal_variance():
    a = np.arange(12, dtype=np.uint16).reshape(3, 4)
    assert pair(a, a + 2) == (6.5, 0.0)  # a step of all pixels is no noise
    assert stack(np.stack([a, a])).temporal_variance == 0


def test_the_dark_camera_is_the_twins():
    bench, devices = opened(2)
    seen, p = values(measured(CAMERA_DARK, devices)), bench.profile
    gain = (2**p.camera_bits - 1 - p.camera_black_level_codes) / p.camera_full_well_e
    assert seen["temporal dark noise"].value == pytest.approx(gain * p.camera_read_noise_e, rel=0.02)
    assert seen["fixed offsets"].value == pytest.approx(gain * p.camera_dsnu_e, rel=0.03)
    dark = gain * p.camera_dark_e_per_s
    assert abs(seen["dark current"].value - dark) < 4 * seen["dark current"].sd
    assert seen["hot pixels"].value == pytest.approx(p.camera_hot_percent, abs=0.03)


@pytest.mark.parametrize("blur", [0.6, 1.2])
def test_spots_are_as_wide_as_the_relay_makes_them(blur):
    bench, devices = opened(1, camera_blur_px=blur)
    seen, camera = values(measured(FOCUS, devices)), devices.get(Camera)
    pitch, n = bench.profile.camera_spot_pitch_px, bench.profile.n_channels
    rows = camera._sensor.part(camera.settings).rows[:pitch, :n].astype(float)  # the upper spots' profiles
    place = np.arange(pitch)[:, None]
    middle = (rows * place).sum(0) / rows.sum(0)
    true = np.median(np.sqrt((rows * (place - middle) ** 2).sum(0) / rows.sum(0)))
    assert seen["spot width, down"].value == pytest.approx(true, rel=0.01)
    assert seen["spot width, across"].value == pytest.approx(true, rel=0.01)


def test_an_image_out_of_focus_is_out_of_range():
    _, devices = opened(1, camera_blur_px=2.5)
    found = measured(FOCUS, devices)
    assert not found.accepted
    assert not values(found)["light at the rim"].accepted


class Wrong(CameraTwin):
    """A camera with one fault."""

    fault = ""

    def _render(self, taken, part):
        counts = super()._render(taken, part)
        if self.fault == "cap":
            black = self._settings.black_level_codes
            return np.random.default_rng(len(counts)).poisson(black, counts.shape).astype(np.uint16)
        if self.fault == "full":
            return np.full_like(counts, self.spec.max_code)
        if self.fault == "light":
            return np.minimum(counts + 40, self.spec.max_code).astype(np.uint16)
        if self.fault == "bent":
            return (counts * (1 - 0.2 * counts / self.spec.max_code)).astype(np.uint16)
        if self.fault == "twice":
            return np.repeat(counts[:1], len(counts), axis=0)
        return counts


@pytest.mark.parametrize(
    ("procedure", "fault", "words"),
    [
        (CAMERA_DARK, "light", "is there light from elsewhere"),
        (CAMERA_DARK, "full", "is the sensor saturated"),
        (CAMERA_DARK, "twice", "hand frames out twice"),
        (CAMERA_FLAT, "cap", "is the lens cap on"),
        (CAMERA_FLAT, "full", "saturated in the dark"),
        (CAMERA_FLAT, "twice", "hand frames out twice"),
        (CAMERA_IN_PLACE, "cap", "is the lens cap on"),
        (CAMERA_IN_PLACE, "full", "saturated: "),
        (CAMERA_IN_PLACE, "twice", "hand frames out twice"),
        (FOCUS, "cap", "is the lens cap on"),
        (FOCUS, "full", "saturated: "),
    ],
)
def test_a_faulty_camera_is_one_clear_fault(procedure, fault, words):
    bench, devices = opened(1)
    camera = Wrong("camera", bench)
    camera.fault = fault
    camera.open()
    roles = {role: devices.get(role) for role in (FlatField, WeightModulator, LoopElectronics)}
    with pytest.raises(DeviceFault, match=words) as raised:
        measured(procedure, Devices({**roles, Camera: camera}))
    assert "\n" not in str(raised.value)
    assert str(raised.value).startswith("camera: ")


def test_a_series_that_never_saturates_is_a_fault():
    _, devices = opened(1)
    series, stacks, _ = measure_series(devices.get(Camera), devices.get(FlatField), silent)
    part = replace(series, **{n: getattr(series, n)[:15] for n in (
        "exposure_us", "photons", "mean", "variance", "dark_mean", "dark_variance")})  # fmt: skip
    with pytest.raises(DeviceFault, match="the variance still rises at the longest exposure"):
        photon_transfer(part, stack(stacks["dark"]), stack(stacks["half"]), device="camera")


@pytest.mark.parametrize("procedure", [CAMERA_FLAT, CAMERA_IN_PLACE])
def test_frames_averaged_in_the_camera_are_out_of_range(procedure):
    """Two of them: half of the variance, so that the gain is half of the data sheet's."""
    bench, devices = opened(1)

    class Averaging(CameraTwin):
        def _render(self, taken, part):
            bench.scale_noise(0.5**0.5)
            counts = super()._render(taken, part)
            bench.scale_noise(1.0)
            return counts

    camera = Averaging("camera", bench)
    camera.open()
    roles = {role: devices.get(role) for role in (FlatField, WeightModulator, LoopElectronics)}
    found = measured(procedure, Devices({**roles, Camera: camera}))
    assert not values(found)["system gain K"].accepted


@pytest.mark.parametrize("procedure", [CAMERA_FLAT, CAMERA_IN_PLACE])
def test_a_response_that_is_not_linear_is_out_of_range(procedure):
    bench, devices = opened(1)
    camera = Wrong("camera", bench)
    camera.fault = "bent"
    camera.open()
    roles = {role: devices.get(role) for role in (FlatField, WeightModulator, LoopElectronics)}
    found = values(measured(procedure, Devices({**roles, Camera: camera})))
    low, high = found["linearity error, lowest"], found["linearity error, highest"]
    assert not (low.accepted and high.accepted), (low.value, high.value)


def test_too_many_hot_pixels_are_out_of_range():
    _, devices = opened(1, camera_hot_percent=3.0)
    assert not values(measured(CAMERA_DARK, devices))["hot pixels"].accepted
