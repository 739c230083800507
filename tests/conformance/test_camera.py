"""What every camera promises. The probe gives the light on the 2n spots; electrons are counted from it."""

from __future__ import annotations

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


@pytest.fixture
def imaging(opened):
    """An open camera that reads the spots, with some cells lit and the emitters on."""

    def build(case, *, light=0.5, noise_scale=0.0, **features):
        subject = opened(case, noise_scale=noise_scale)
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
def test_counts_are_the_light_of_the_spots_times_the_exposure(camera_case, imaging, exposure_us, gain_db):
    subject = imaging(camera_case, ExposureTime=exposure_us, Gain=gain_db)
    profile, device = subject.bench.profile, subject.device
    frames = device.acquire(2)
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


def test_frames_are_what_they_say(camera_case, imaging):
    device = imaging(camera_case).device
    frames = device.acquire(3)
    assert frames.counts.shape == (3, 24, 576)
    assert frames.counts.dtype == np.uint16
    assert frames.frame_id.tolist() == [0, 1, 2]
    assert frames.dropped == 0
    assert (frames.exposure_us, frames.gain_db) == (20.0, 0.0)
    period = device.spec.period_us(20.0, 24)
    np.testing.assert_allclose(np.diff(frames.trigger_us), period)
    late = frames.timestamp_us - frames.trigger_us
    assert (late >= device.spec.delay_us - 1e-9).all()
    assert (late <= device.spec.delay_us + device.spec.jitter_us + 1e-9).all()


def test_settings_are_read_back_by_their_standard_names(camera_case, opened):
    device = opened(camera_case).device
    wanted = {"Width": 32, "Height": 16, "OffsetX": 8, "OffsetY": 4, "ExposureTime": 12.5, "Gain": 3.0,
              "BlackLevel": 10, "TriggerMode": "On", "TriggerDelay": 2.0}  # fmt: skip
    device.configure(wanted)
    features = device.settings.features()
    assert {key: features[key] for key in wanted} == wanted
    assert features["PixelFormat"] == f"Mono{device.spec.bit_depth}"


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ({"Exposure": 10.0}, "feature is 'Exposure'; allowed: Width, Height, "),
        ({"ExposureTime": 1.0}, "ExposureTime is 1.0; allowed: 5 to 1e\\+06 us"),
        ({"ExposureTime": float("nan")}, "ExposureTime is nan; allowed: 5 to 1e\\+06 us"),
        ({"ExposureTime": "long"}, "ExposureTime is 'long'; allowed: 5 to"),
        ({"Gain": -1.0}, "Gain is -1.0; allowed: 0 to 24 dB"),
        ({"Width": 0}, "Width is 0; allowed: whole numbers from 1 to 1936"),
        ({"Height": 3.5}, "Height is 3.5; allowed: whole numbers from 1 to 1216"),
        ({"Width": 100, "OffsetX": 1900}, r"Width \+ OffsetX is 2000; allowed: at most 1936"),
        ({"PixelFormat": "RGB8"}, "PixelFormat is 'RGB8'; allowed: Mono"),
        ({"TriggerMode": "on"}, "TriggerMode is 'on'; allowed: Off, On"),
        ({"TriggerSource": "Line9"}, "TriggerSource is 'Line9'; allowed: Line0"),
        ({"BlackLevel": -1}, "BlackLevel is -1; allowed: whole numbers from 0 to "),
    ],
)
def test_a_wrong_setting_is_named_and_nothing_changes(camera_case, opened, features, message):
    device = opened(camera_case).device
    before = device.settings
    with pytest.raises(DeviceValueError, match=NAMED + "configure: " + message):
        device.configure({"Height": 10, **features})
    assert device.settings == before


@pytest.mark.parametrize("n", [0, -1, 10**6])
def test_a_wrong_number_of_frames_is_refused(camera_case, imaging, n):
    device = imaging(camera_case).device
    with pytest.raises(DeviceValueError, match=NAMED + rf"acquire: {n} frames; allowed: 1 to "):
        device.acquire(n)


def test_a_triggered_camera_wants_to_be_armed(camera_case, imaging, loop_beside):
    subject = imaging(camera_case)
    device = subject.device
    with pytest.raises(DeviceStateError, match=NAMED + "arm: TriggerMode is 'Off'; allowed: 'On'"):
        device.arm(1)
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


def test_a_triggered_frame_belongs_to_its_pattern(camera_case, imaging, loop_beside):
    subject = imaging(camera_case, TriggerMode="On")
    electronics, profile = loop_beside(subject), subject.bench.profile
    codes = np.zeros((4, profile.n_channels), np.int64)
    codes[1, 5] = codes[2, 6] = codes[3, 8] = electronics.spec.probe_dac.max_code // 2
    frames = held(subject, electronics, codes)
    assert frames.dropped == 0
    spots = spots_of(frames, profile)
    lit = spots - spots[0] > 0.2 * (spots - spots[0]).max()
    found = [{(int(p), int(r)) for p, r in np.argwhere(image)} for image in lit]
    assert found == [set(), {(0, 3), (0, 40)}, {(1, 3)}, {(1, 41)}]
    period = subject.device.spec.period_us(20.0, 24)
    np.testing.assert_allclose(np.diff(frames.trigger_us), period)


def test_triggers_that_come_too_early_are_lost_and_counted(camera_case, imaging, loop_beside):
    subject = imaging(camera_case, TriggerMode="On")
    electronics = loop_beside(subject)
    period = subject.device.spec.period_us(20.0, 24)
    codes = np.full((9, electronics.spec.n_channels), 100)
    frames = held(subject, electronics, codes, hold=Hold(25.0, period / 2.5))
    assert (frames.frame_id.tolist(), frames.dropped) == ([0, 3, 6], 6)


def test_light_beyond_the_full_well_saturates_and_is_told(camera_case, imaging):
    subject = imaging(camera_case, light=0.5, ExposureTime=2000.0)
    frames = subject.device.acquire(1)
    top = 2**subject.bench.profile.camera_bits - 1
    assert frames.counts.max() == top
    assert frames.saturated_px[0] == np.count_nonzero(frames.counts == top) > 100


def test_a_black_level_is_seen_without_light(camera_case, imaging):
    subject = imaging(camera_case, light=0.0, BlackLevel=33)
    frames = subject.device.acquire(1)
    assert np.median(frames.counts) == pytest.approx(33, abs=1)


def test_the_same_seed_takes_the_same_frames(camera_case):
    def frames(seed):
        subject = camera_case.make(seed=seed, noise_scale=1.0)
        with subject.device as device:
            device.configure(window_of(subject.bench.profile))
            return device.acquire(2).counts

    np.testing.assert_array_equal(frames(3), frames(3))
    if camera_case.notes["profile"] != "ideal":
        assert (frames(3) != frames(4)).mean() > 0.3


def test_a_changed_setting_ends_the_acquisition(camera_case, imaging):
    device = imaging(camera_case, TriggerMode="On").device
    device.arm(1)
    device.configure({"Gain": 1.0})
    with pytest.raises(DeviceStateError, match=r"arm\(\)"):
        device.acquire(1)


def test_an_unplugged_camera_refuses_to_be_armed(camera_case, imaging):
    subject = imaging(camera_case, TriggerMode="On")
    subject.unplug()
    with pytest.raises(DeviceUnavailable, match=NAMED + "arm: "):
        subject.device.arm(1)
