"""The camera twin against its own formulas: exposure of a moving loop, noise, faults."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from labctl_sim_devices import CameraTwin

from labctl.devices import DeviceValueError, Hold, SettleCodes, UnsupportedFeature

N = 48
Q = 1.602176634e-19


@pytest.fixture
def filming(twin):
    """Factory: a twin bench with a camera on its two rows of spots, waiting for hardware triggers."""
    opened = []

    def make(profile="ideal", *, exposure_us=10.0, seed=0, noise_scale=1.0, **overrides):
        bench = twin(profile, seed=seed, noise_scale=noise_scale, **overrides)
        camera = CameraTwin("camera", bench.bench)
        camera.open()
        opened.append(camera)
        camera.configure({"Width": 576, "Height": 24, "OffsetX": 680, "OffsetY": 596, "TriggerMode": "On",
                          "ExposureTime": exposure_us})  # fmt: skip
        return bench, camera

    yield make
    for camera in opened:
        camera.close()


def electrons(frames, camera):
    """Sums over the squares of the spots [m, 2, n], in electrons."""
    above = frames.counts.astype(np.float64) - frames.black_level_codes
    sums = above.reshape(len(above), 2, 12, N, 12).sum(axis=(2, 4))
    return sums * camera.spec.e_per_code(frames.gain_db, frames.black_level_codes)


def rate(profile):
    """Electrons a microsecond of one unit of light."""
    share = profile.camera_light_percent / 100 * profile.camera_quantum_efficiency_percent / 100
    return profile.photocurrent_ua * 1e-12 / Q / (profile.detector_quantum_efficiency_percent / 100) * share


def relaxing(spec, batch=1, *, level=1.0, step_id=0):
    """Settles with the gain off: z decays from `level` to 0 with tau."""
    return SettleCodes(
        bias=np.zeros((batch, N), np.int64),
        gain=np.zeros((1, N), np.int64),
        leak=np.full((1, N), spec.max_leak_code),
        gain_range=np.zeros(N, np.int64),
        start=np.full((batch, N), round(level / spec.dac.units_per_code)),
        step_id=step_id,
        sample_id=np.arange(batch),
    )


@pytest.mark.parametrize("wait_us", [0.0, 0.4, 2.0, 30.0])
@pytest.mark.parametrize("exposure_us", [5.0, 17.3])
def test_an_early_exposure_holds_the_transient(filming, wait_us, exposure_us):
    """Integral of pedestal + tanh(exp(-t / tau)) over the exposure, by fine quadrature here."""
    bench, camera = filming(exposure_us=exposure_us)
    bench.show_fractions(np.eye(N))
    spec, profile = bench.electronics.spec, bench.bench.profile
    camera.arm(3)
    bench.electronics.settle(
        relaxing(spec, 3), wait_us=wait_us, hold=Hold(exposure_us + 2, camera.spec.period_us(exposure_us, 24))
    )
    frames = camera.acquire(3)
    begin = wait_us + profile.camera_delay_us
    t = np.linspace(begin, begin + exposure_us, 20001)
    moving = np.trapezoid(np.tanh(np.exp(-t / spec.tau_us)), t)
    expected = (profile.pedestal_units * exposure_us + moving) * rate(profile)
    seen = electrons(frames, camera)
    assert seen[:, 1].max() < 1e-3 * expected
    # time steps of a fifth of tau, light linear between them
    np.testing.assert_allclose(seen[:, 0], expected, rtol=4e-4, atol=4e-3 * rate(profile) * spec.tau_us)
    if wait_us == 0.0 and exposure_us == 5.0:
        assert moving * rate(profile) > 10 * 4e-4 * expected


def test_a_loop_released_too_soon_gives_the_pedestal_for_the_rest(filming):
    bench, camera = filming(exposure_us=30.0)
    bench.show_fractions(np.eye(N))
    spec, profile = bench.electronics.spec, bench.bench.profile
    codes = relaxing(spec, 1)
    level = codes.start * spec.dac.units_per_code
    steady = replace(codes, bias=codes.start)
    camera.arm(1)
    bench.electronics.settle(steady, hold=Hold(11.0, 0.0))  # open from 11 - 1 us of exposure on
    seen = electrons(camera.acquire(1), camera)
    expected = (profile.pedestal_units * 30.0 + math.tanh(level[0, 0]) * 10.0) * rate(profile)
    np.testing.assert_allclose(seen[0, 0], expected, rtol=4e-4)


def test_noise_is_that_of_its_electrons(filming):
    """Variance of a spot: electrons, read noise of 144 pixels, rounding; independent between spots."""
    bench, camera = filming("adm", rin_dbc_hz="off")
    bench.show_fractions(np.eye(N) + np.eye(N, k=2))
    camera.arm(500)
    bench.electronics.probe(np.zeros((500, N), np.int64), hold=Hold(12.0, 400.0))
    seen = electrons(camera.acquire(500), camera)
    profile = bench.bench.profile
    rounding = camera.spec.e_per_code(0.0, 64) ** 2 / 12
    own = 144 * (profile.camera_read_noise_e**2 + rounding)
    expected = seen.mean(axis=0) + own
    ratio = seen.var(axis=0) / expected
    assert ratio.mean() == pytest.approx(1.0, rel=5 * math.sqrt(2 / (500 * 96)) + 0.01)
    assert np.abs(ratio - 1).max() < 6 * math.sqrt(2 / 500)
    assert np.abs(np.corrcoef(seen[:, 0].T) - np.eye(N)).max() < 6 / math.sqrt(500)


def test_pixels_differ_by_the_profiles_share_and_stay_so(filming):
    bench, camera = filming("adm", noise_scale=0.0)
    bench.show_fractions(np.eye(N))
    same = []
    for _ in range(2):
        camera.arm(1)
        bench.electronics.probe(np.zeros((1, N), np.int64), hold=Hold(12.0, 400.0))
        same.append(electrons(camera.acquire(1), camera)[0, 0])
    np.testing.assert_allclose(same[0], same[1], atol=20)  # a count or two by rounding
    spread = same[0].std() / same[0].mean()
    assert 0.5 * 0.01 / 8 < spread < 2 * 0.01 / 8  # 1% over 64 pixels


def test_hot_pixels_show_in_long_exposures(filming):
    bench, camera = filming("adm", noise_scale=0.0)
    camera.configure({"Width": 1936, "Height": 200, "OffsetX": 0, "OffsetY": 0, "TriggerMode": "Off",
                      "ExposureTime": 5e5})  # fmt: skip
    counts = camera.acquire(1).counts[0].astype(float) - 64
    hot = counts * camera.spec.e_per_code(0.0, 64) > 5000
    assert hot.mean() == pytest.approx(2e-4, rel=0.5)
    assert bench.bench.now_us > 5e5


@pytest.mark.parametrize(("fault", "dropped"), [("dropped", 1), ("stale", 0)])
def test_the_world_can_lose_or_repeat_a_frame(filming, fault, dropped):
    bench, camera = filming()
    bench.show_fractions(np.eye(N))
    bench.bench.camera_faults[1] = fault
    camera.arm(3)
    codes = np.arange(3)[:, None] * np.full(N, 1000)
    bench.electronics.probe(codes, hold=Hold(12.0, 400.0))
    frames = camera.acquire(3)
    assert frames.dropped == dropped
    if fault == "dropped":
        assert frames.frame_id.tolist() == [0, 2]
    else:
        np.testing.assert_array_equal(frames.counts[1], frames.counts[0])
        assert frames.timestamp_us[1] < frames.trigger_us[1]
    assert not bench.bench.camera_faults


def test_frames_do_not_depend_on_the_batch(filming):
    def taken(parts):
        bench, camera = filming("adm")
        bench.show_fractions(np.eye(N))
        out = []
        for part in parts:
            codes = relaxing(bench.electronics.spec, 4, step_id=5)
            queue = replace(
                codes, bias=codes.bias[part], start=codes.start[part], sample_id=codes.sample_id[part]
            )
            camera.arm(len(queue.bias))
            bench.electronics.settle(queue, hold=Hold(12.0, 400.0))
            out.append(camera.acquire(len(queue.bias)).counts)
        return np.concatenate(out)

    whole, split = (taken(p).astype(int) for p in ([slice(0, 4)], [slice(0, 1), slice(1, 4)]))
    assert np.abs(whole - split).max() <= 1  # the same draws; a state's last bit can turn a rounding
    assert (whole != split).mean() < 1e-3


def test_a_camera_that_watches_changes_no_state(twin, filming):
    """Holding on for a camera costs time, not draws: the ADC reads the same."""
    with_camera, camera = filming("adm")
    plain = twin("adm")
    for bench in (with_camera, plain):
        bench.show_fractions(0.5 * np.eye(N))
    codes = relaxing(plain.electronics.spec, 5)
    camera.arm(5)
    held = with_camera.electronics.settle(codes, hold=Hold(12.0, 400.0))
    np.testing.assert_array_equal(held.counts, plain.electronics.settle(codes).counts)
    assert with_camera.bench.now_us - plain.bench.now_us == pytest.approx(5 * (400.0 - 14.9))


def test_a_hold_beyond_the_sequencers_timer_is_refused(filming):
    bench, _ = filming(max_hold_us=50.0)
    codes = relaxing(bench.electronics.spec)
    with pytest.raises(DeviceValueError, match=r"electronics: settle: hold_us is 51\.0; allowed: 0 to 50"):
        bench.electronics.settle(codes, hold=Hold(51.0, 0.0))
    bench, _ = filming(max_hold_us=0.0)
    with pytest.raises(UnsupportedFeature, match=r"electronics: settle: .*no trigger output"):
        bench.electronics.settle(codes, hold=Hold(1.0, 0.0))
