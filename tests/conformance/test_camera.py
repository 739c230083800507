"""What every camera promises; with a bench behind it, that its counts are the light there.

The probe gives the light on the 2n spots; electrons are counted from it.
"""

from __future__ import annotations

import re

import numpy as np
import pytest

from labctl.devices import DeviceStateError, DeviceTimeout, DeviceUnavailable, DeviceValueError, Hold

NAMED = "^device-under-test: "
Q = 1.602176634e-19


def window_of(profile):
    """Features that read the two rows of spots alone: in the middle of the sensor."""
    height, width = profile.camera_shape_px
    wide, high = profile.n_channels * profile.camera_spot_pitch_px, 2 * profile.camera_spot_pitch_px
    return {
        "Width": wide,
        "Height": high,
        "OffsetX": (width - wide) // 2,
        "OffsetY": (height - high) // 2,
    }


def electrons_per_unit(profile, exposure_us):
    """Photocurrent of the detectors to photons, the camera's share of them, its quantum efficiency."""
    photons = profile.photocurrent_ua * 1e-6 / Q / (profile.detector_quantum_efficiency_percent / 100)
    share = profile.camera_light_percent / 100 * profile.camera_quantum_efficiency_percent / 100
    return photons * share * exposure_us * 1e-6


def spots_of(frames, profile):
    """Sums over each spot's square [m, 2, n], black level taken off, in counts."""
    pitch, n = profile.camera_spot_pitch_px, profile.n_channels
    above = frames.counts.astype(np.float64) - frames.black_level_codes
    return above.reshape(len(above), 2, pitch, n, pitch).sum(axis=(2, 4))


def has(device, feature):
    """Whether a camera can be given another value of a feature."""
    spec = device.spec
    reach = {"Gain": spec.gain_range_db[1], "TriggerDelay": spec.max_trigger_delay_us}
    if feature in ("TriggerMode", "BlackLevel"):  # a camera without lines is one of a library without gain
        return spec.trigger_sources != ("none",)
    return reach.get(feature, 1.0) > 0


@pytest.fixture
def viewing(opened):
    """An open camera that reads a small part of its sensor, whatever it looks at."""

    def build(case):
        subject = opened(case)
        subject.device.configure({**subject.view, "ExposureTime": exposure_of(subject.device)})
        return subject

    return build


def exposure_of(device, us=5000.0):
    """A short exposure that the camera has."""
    low_us, high_us = device.spec.exposure_range_us
    return min(max(us, low_us), high_us)


@pytest.fixture
def imaging(opened):
    """An open camera that reads the spots, with some cells lit and the emitters on."""

    def build(case, *, light=0.5, noise_scale=0.0, **features):
        subject = opened(case, noise_scale=noise_scale)
        absent = [name for name in features if not has(subject.device, name)]
        if absent:
            pytest.skip(f"this camera has no {', '.join(absent)}")
        profile = subject.bench.profile
        subject.light_cells({(0, 3, 5), (1, 3, 6), (1, 3, 7), (0, 40, 5), (1, 41, 8)})
        subject.bench.emitted_units = light * (1 + 0.01 * np.arange(profile.n_channels))[None]
        subject.device.configure({**window_of(profile), "ExposureTime": 20.0, **features})
        return subject

    return build


@pytest.fixture
def loop_beside(opened):
    """Loop electronics on the camera's own bench, open: the source of its triggers."""
    devices = []

    def build(subject):
        from labctl_sim_devices import ElectronicsTwin

        device = ElectronicsTwin("electronics", subject.bench)
        device.open()
        devices.append(device)
        return device

    yield build
    for device in devices:
        device.close()


@pytest.mark.parametrize("exposure_us", [5.0, 20.0, 55.5])
@pytest.mark.parametrize("gain_db", [0.0, 6.0])
def test_counts_are_the_light_of_the_spots_times_the_exposure(lit_case, imaging, exposure_us, gain_db):
    gain = {"Gain": gain_db} if gain_db else {}
    subject = imaging(lit_case, ExposureTime=exposure_us, **gain)
    profile, device = subject.bench.profile, subject.device
    frames = device.acquire(2)
    exposure_us, gain_db = frames.exposure_us, frames.gain_db  # what the camera has made of them
    world = subject.probe()
    light = np.stack([world["emitted"][-1] @ path.T for path in world["light"]])
    e_per_code = profile.camera_full_well_e / (2**profile.camera_bits - 1 - frames.black_level_codes)
    expected = light * electrons_per_unit(profile, exposure_us) / (e_per_code * 10 ** (-gain_db / 20))
    seen = spots_of(frames, profile)
    assert frames.saturated_px.max() == 0
    # response and offset from pixel to pixel, averaged over a spot's; half a count of rounding each
    pixels = profile.camera_spot_width_px**2
    rel = 6 * profile.camera_prnu_percent / 100 / np.sqrt(pixels) + 4e-4
    offset = 6 * 12 * (profile.camera_dsnu_e / e_per_code * 10 ** (gain_db / 20) + 0.3) + 1
    dark = profile.camera_dark_e_per_s * exposure_us * 1e-6 * 144
    spill = 4e-4 * expected.max()
    np.testing.assert_allclose(seen[0], expected, rtol=rel, atol=offset + dark + spill)
    assert expected.max() > 50 * offset
    np.testing.assert_array_equal(frames.counts[0], frames.counts[1])  # noise is off


def test_frames_are_what_they_say(lit_case, imaging):
    device = imaging(lit_case).device
    frames = device.acquire(3)
    assert frames.counts.shape == (3, 24, 576)
    assert frames.exposure_us == 20.0
    if not lit_case.notes.get("timed", True):
        return
    period = device.spec.period_us(20.0, 24)
    np.testing.assert_allclose(np.diff(frames.trigger_us), period)
    late = frames.timestamp_us - frames.trigger_us
    assert (late >= device.spec.delay_us - 1e-9).all()
    assert (late <= device.spec.delay_us + device.spec.jitter_us + 1e-9).all()


def test_frames_are_complete_and_in_order(camera_case, viewing):
    subject = viewing(camera_case)
    device = subject.device
    for n in (3, 2):  # numbers begin anew with each acquisition
        frames = device.acquire(n)
        assert frames.counts.shape == (n, subject.view["Height"], subject.view["Width"])
        assert frames.counts.dtype == np.uint16
        assert frames.counts.max() <= device.spec.max_code
        assert frames.frame_id.tolist() == list(range(n))
        assert frames.dropped == 0
        assert (frames.exposure_us, frames.gain_db) == (device.settings.exposure_us, device.settings.gain_db)
        assert frames.black_level_codes == device.settings.black_level_codes
        assert (np.diff(frames.timestamp_us) >= 0).all()
        top = np.count_nonzero(frames.counts == device.spec.max_code, axis=(1, 2))
        np.testing.assert_array_equal(frames.saturated_px, top)


def test_a_wire_changes_no_count(lit_case, imaging):
    """The twin itself, asked the same on a bench of its own."""
    from labctl_sim_devices import CameraTwin, OpticalBench

    subject = imaging(lit_case, noise_scale=1.0)
    asked = subject.device.settings.features()
    came = subject.device.acquire(2)
    bench = OpticalBench(subject.bench.profile, seed=0, noise_scale=1.0)
    subject.bench = bench
    subject.light_cells({(0, 3, 5), (1, 3, 6), (1, 3, 7), (0, 40, 5), (1, 41, 8)})
    bench.emitted_units = 0.5 * (1 + 0.01 * np.arange(bench.profile.n_channels))[None]
    with CameraTwin("device-under-test", bench) as twin:
        twin.configure({**asked, "TriggerSource": twin.spec.trigger_sources[0]})
        np.testing.assert_array_equal(came.counts, twin.acquire(2).counts)


def test_settings_are_read_back_by_their_standard_names(camera_case, opened):
    device = opened(camera_case).device
    exposure_us = camera_case.notes.get("exposure_us", 12.5)
    wanted = {"Width": 128, "Height": 100, "OffsetX": 8, "OffsetY": 4, "ExposureTime": exposure_us,
              "Gain": 3.0, "BlackLevel": 10, "TriggerMode": "On", "TriggerDelay": 2.0}  # fmt: skip
    lacking = camera_case.notes.get("lacks", ())
    wanted = {name: value for name, value in wanted.items() if has(device, name) and name not in lacking}
    device.configure(wanted)
    features = device.settings.features()
    numbers = {name: value for name, value in wanted.items() if not isinstance(value, str)}
    assert {name: features[name] for name in numbers} == pytest.approx(numbers, rel=1e-5)  # steps of a gain
    assert all(features[name] == wanted[name] for name in wanted if name not in numbers)
    assert features["PixelFormat"] == device.spec.pixel_format


def test_a_wrong_setting_is_named_and_nothing_changes(camera_case, opened):
    subject = opened(camera_case)
    device, spec = subject.device, subject.device.spec
    height, width = spec.shape_px
    exposure = "ExposureTime is {}; allowed: " + re.escape(
        f"{spec.exposure_range_us[0]:g} to {spec.exposure_range_us[1]:g} us"
    )
    before = device.settings
    for features, message in (
        ({"Exposure": 10.0}, "feature is 'Exposure'; allowed: Width, Height, "),
        ({"ExposureTime": -1.0}, exposure.format("-1.0")),
        ({"ExposureTime": 1e12}, exposure.format(r"1000000000000\.0")),
        ({"ExposureTime": float("nan")}, exposure.format("nan")),
        ({"ExposureTime": "long"}, exposure.format("'long'")),
        ({"Gain": -1.0}, f"Gain is -1.0; allowed: 0 to {spec.gain_range_db[1]:g} dB"),
        ({"Width": 0}, f"Width is 0; allowed: whole numbers from 1 to {width}"),
        ({"Height": 3.5}, f"Height is 3.5; allowed: whole numbers from 1 to {height}"),
        ({"Width": 100, "OffsetX": width - 36},
         rf"Width \+ OffsetX is {width + 64}; allowed: at most {width}"),
        ({"PixelFormat": "RGB8"}, "PixelFormat is 'RGB8'; allowed: Mono"),
        ({"TriggerMode": "on"}, "TriggerMode is 'on'; allowed: Off, On"),
        ({"TriggerSource": "Line9"}, f"TriggerSource is 'Line9'; allowed: {spec.trigger_sources[0]}"),
        ({"BlackLevel": -1}, "BlackLevel is -1; allowed: whole numbers from 0 to "),
    ):  # fmt: skip
        with pytest.raises(DeviceValueError, match=NAMED + "configure: " + message):
            device.configure({"Height": 10, **features})
        assert device.settings == before


@pytest.mark.parametrize("n", [0, -1, 10**6])
def test_a_wrong_number_of_frames_is_refused(camera_case, viewing, n):
    device = viewing(camera_case).device
    with pytest.raises(DeviceValueError, match=NAMED + rf"acquire: {n} frames; allowed: 1 to "):
        device.acquire(n)


def test_a_camera_that_runs_freely_cannot_be_armed(camera_case, viewing):
    device = viewing(camera_case).device
    with pytest.raises(DeviceStateError, match=NAMED + "arm: TriggerMode is 'Off'; allowed: 'On'"):
        device.arm(1)
    assert device.triggers_seen() == 0


def test_a_triggered_camera_wants_to_be_armed(triggered_case, imaging):
    device = imaging(triggered_case).device
    device.configure({"TriggerMode": "On"})
    with pytest.raises(DeviceStateError, match=NAMED + r"acquire: .*arm\(\)"):
        device.acquire(1)
    device.arm(2)
    with pytest.raises(DeviceTimeout, match=NAMED + "acquire: 2 frames were asked for, 0 triggers came"):
        device.acquire(2)


def held(subject, electronics, codes, **options):
    """Probe patterns with the camera watching; frames."""
    spec = subject.device.spec
    exposure_us = subject.device.settings.exposure_us
    hold = Hold(exposure_us + spec.delay_us + spec.jitter_us, spec.period_us(exposure_us, 24))
    subject.device.arm(len(codes))
    electronics.probe(codes, at="emitter", hold=options.get("hold", hold))
    return subject.device.acquire(len(codes))


def test_a_triggered_frame_belongs_to_its_pattern(triggered_case, imaging, loop_beside):
    subject = imaging(triggered_case, TriggerMode="On")
    electronics, profile = loop_beside(subject), subject.bench.profile
    codes = np.zeros((4, profile.n_channels), np.int64)
    codes[1, 5] = codes[2, 6] = codes[3, 8] = electronics.spec.probe_dac.max_code // 2
    frames = held(subject, electronics, codes)
    assert frames.dropped == 0
    spots = spots_of(frames, profile)
    lit = spots - spots[0] > 0.2 * (spots - spots[0]).max()
    found = [{(int(p), int(r)) for p, r in np.argwhere(image)} for image in lit]
    assert found == [set(), {(0, 3), (0, 40)}, {(1, 3)}, {(1, 41)}]
    if triggered_case.notes.get("timed", True):
        period = subject.device.spec.period_us(20.0, 24)
        np.testing.assert_allclose(np.diff(frames.trigger_us), period)


def test_triggers_that_come_too_early_are_lost_and_counted(counting_case, imaging, loop_beside):
    subject = imaging(counting_case, TriggerMode="On")
    electronics = loop_beside(subject)
    period = subject.device.spec.period_us(20.0, 24)
    codes = np.full((9, electronics.spec.n_channels), 100)
    frames = held(subject, electronics, codes, hold=Hold(25.0, period / 2.5))
    assert (frames.frame_id.tolist(), frames.dropped) == ([0, 3, 6], 6)


def test_light_beyond_the_full_well_saturates_and_is_told(lit_case, imaging):
    subject = imaging(lit_case, light=0.5, ExposureTime=2000.0)
    frames = subject.device.acquire(1)
    top = 2**subject.bench.profile.camera_bits - 1
    assert frames.counts.max() == top
    assert frames.saturated_px[0] == np.count_nonzero(frames.counts == top) > 100


def test_a_black_level_is_seen_without_light(lit_case, imaging):
    subject = imaging(lit_case, light=0.0, BlackLevel=33)
    frames = subject.device.acquire(1)
    assert np.median(frames.counts) == pytest.approx(33, abs=1)


def test_the_same_seed_takes_the_same_frames(lit_case):
    def frames(seed):
        subject = lit_case.make(seed=seed, noise_scale=1.0)
        with subject.device as device:
            device.configure(window_of(subject.bench.profile))
            return device.acquire(2).counts

    np.testing.assert_array_equal(frames(3), frames(3))
    if lit_case.notes["profile"] != "ideal":
        assert (frames(3) != frames(4)).mean() > 0.3


def test_a_changed_setting_ends_the_acquisition(triggered_case, imaging):
    device = imaging(triggered_case, TriggerMode="On").device
    device.arm(1)
    device.configure({"ExposureTime": 30.0})
    with pytest.raises(DeviceStateError, match=r"arm\(\)"):
        device.acquire(1)


def test_an_unplugged_camera_refuses_to_be_armed(counting_case, imaging):
    subject = imaging(counting_case, TriggerMode="On")
    subject.unplug()
    with pytest.raises(DeviceUnavailable, match=NAMED + "arm: "):
        subject.device.arm(1)
