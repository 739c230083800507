"""What every weight modulator promises. The probe sees light through cells, not frames."""

from __future__ import annotations

import math
import zlib

import numpy as np
import pytest

from labctl.devices import DeviceValueError, UnsupportedFeature


def random_frame(spec, seed=0):
    """Blocks of random levels, offset against the cells so that cells mix levels."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, spec.n_levels, (spec.shape_px[0] // 7 + 1, spec.shape_px[1] // 7 + 1))
    return coarse.repeat(7, 0).repeat(7, 1)[: spec.shape_px[0], : spec.shape_px[1]].astype(np.uint16)


def expected_light(profile, frame):
    """Data sheet: T = T_off + (T_on - T_off) sin^2(pi g / (2 (levels - 1))), mean over each cell's pixels; of
    a phase panel the first order of its pixels' fields, by FFT.
    """
    height, width = profile.cell_px
    n = profile.n_channels
    if profile.panel_kind == "lcos-phase":
        out = np.empty((2, n, n))
        for path, (top, left) in enumerate(profile.path_origin_px):
            for row in range(n):
                for column in range(n):
                    y, x = top + row * height, left + column * width
                    field = np.exp(2j * np.pi * frame[y : y + height, x : x + width] / profile.panel_levels)
                    order = np.fft.fft(field.mean(axis=0))[width // profile.first_order_period_px] / width
                    out[path, row, column] = abs(order) ** 2
        return out
    level = np.sin(0.5 * math.pi * frame.astype(float) / (profile.panel_levels - 1)) ** 2
    light = profile.transmittance_off + (profile.transmittance_on - profile.transmittance_off) * level
    out = np.empty((2, n, n))
    for path, (top, left) in enumerate(profile.path_origin_px):
        for row in range(n):
            for column in range(n):
                y, x = top + row * height, left + column * width
                out[path, row, column] = light[y : y + height, x : x + width].mean()
    return out


def open_frame(profile):
    """All the light that the panel lets through: the last level, or gratings blazed for the first order."""
    if profile.panel_kind != "lcos-phase":
        return np.full(profile.panel_shape_px, profile.panel_levels - 1, np.uint16)
    steps = np.arange(profile.panel_shape_px[1]) % profile.first_order_period_px
    row = steps * profile.panel_levels // profile.first_order_period_px
    return np.tile(row.astype(np.uint16), (profile.panel_shape_px[0], 1))


def residue(profile):
    """What is left of the old frame once `show` says it has settled."""
    return math.exp(-profile.panel_settle_us / profile.panel_tau_us) if profile.panel_tau_us else 0.0


def test_what_was_shown_is_what_the_light_shows(modulator_case, opened):
    subject = opened(modulator_case)
    profile, device = subject.bench.profile, subject.device
    for seed in (0, 1):
        frame = random_frame(device.spec, seed)
        receipt = device.show(frame)
        np.testing.assert_array_equal(device.shown(), frame)
        assert device.shown().dtype == np.uint16
        assert receipt.settled
        np.testing.assert_allclose(
            subject.probe()["light"], expected_light(profile, frame), atol=residue(profile) + 1e-12
        )


def test_the_receipt_holds_the_frames_checksum_and_its_number(modulator_case, opened):
    device = opened(modulator_case).device
    frames = [random_frame(device.spec, seed) for seed in (0, 1)]
    receipts = [device.show(frame) for frame in frames]
    for frame, receipt in zip(frames, receipts, strict=True):
        assert receipt.checksum == f"{zlib.crc32(frame.astype('>u2').tobytes()):08x}"
        assert receipt.duration_us >= device.spec.settle_time_us
    assert receipts[0].frame_id != receipts[1].frame_id


def test_the_callers_arrays_can_change_afterwards(modulator_case, opened, unchanged):
    subject = opened(modulator_case)
    frame = random_frame(subject.device.spec)
    kept = frame.copy()
    subject.device.show(frame)
    before = subject.probe()
    frame[:] = 0
    subject.device.shown()[:] = 0
    np.testing.assert_array_equal(subject.device.shown(), kept)
    unchanged(before, subject.probe())


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f, top: f.T, "shape"),
        pytest.param(lambda f, top: f[:-1], "shape", marks=pytest.mark.slow),
        pytest.param(lambda f, top: f[None], "shape", marks=pytest.mark.slow),
        pytest.param(lambda f, top: f[:0], "shape", marks=pytest.mark.slow),
        (lambda f, top: f.astype(np.float64), "integer"),
        pytest.param(lambda f, top: f > 0, "integer", marks=pytest.mark.slow),
        pytest.param(lambda f, top: f.astype(object), "integer", marks=pytest.mark.slow),
        (
            lambda f, top: np.where(np.arange(f.size).reshape(f.shape) == 17, -1, f.astype(np.int64)),
            "is -1 at",
        ),
        (
            lambda f, top: np.where(np.arange(f.size).reshape(f.shape) == 17, top + 1, f.astype(np.int64)),
            "is .* at",
        ),
    ],
    ids=["transposed", "short", "3-d", "empty", "float", "bool", "object", "below", "above"],
)
def test_a_wrong_frame_is_refused_before_it_reaches_the_panel(
    modulator_case, opened, unchanged, spoil, message
):
    subject = opened(modulator_case)
    frame = random_frame(subject.device.spec)
    subject.device.show(frame)
    before = subject.probe()
    with pytest.raises(DeviceValueError, match=f"^device-under-test: show: levels .*{message}.*"):
        subject.device.show(spoil(frame, subject.device.spec.n_levels - 1))
    np.testing.assert_array_equal(subject.device.shown(), frame)
    unchanged(before, subject.probe())


def test_first_and_last_level(modulator_case, opened):
    subject = opened(modulator_case)
    profile, spec = subject.bench.profile, subject.device.spec
    dark = np.zeros(spec.shape_px, np.uint16)
    for frame, light in ((dark, profile.transmittance_off), (open_frame(profile), profile.transmittance_on)):
        subject.device.show(frame)
        np.testing.assert_allclose(subject.probe()["light"], light, atol=residue(profile) + 1e-12)


@pytest.mark.parametrize(
    "corner", [(0, -1), (-1, 0), *(pytest.param(at, marks=pytest.mark.slow) for at in ((0, 0), (-1, -1)))]
)
@pytest.mark.parametrize("path", [0, 1])
def test_one_lit_corner_pins_axes_and_paths(modulator_case, opened, corner, path):
    """Output rows run down, input columns across; the positive path is the left half."""
    subject = opened(modulator_case)
    profile, spec = subject.bench.profile, subject.device.spec
    assert spec.shape_px[0] != spec.shape_px[1]
    n, (height, width) = profile.n_channels, profile.cell_px
    row, column = corner[0] % n, corner[1] % n
    top = (spec.shape_px[0] - n * height) // 2 + row * height
    left = path * spec.shape_px[1] // 2 + column * width
    frame = np.zeros(spec.shape_px, np.uint16)
    frame[top : top + height, left : left + width] = open_frame(profile)[:height, :width]
    subject.device.show(frame)
    expected = np.full((2, n, n), profile.transmittance_off)
    expected[path, row, column] = profile.transmittance_on
    np.testing.assert_allclose(subject.probe()["light"], expected, atol=residue(profile) + 1e-12)


def test_without_waiting_the_panel_is_half_turned(modulator_case, opened):
    subject = opened(modulator_case)
    profile, spec = subject.bench.profile, subject.device.spec
    bright = open_frame(profile)
    receipt = subject.device.show(bright, wait=False)
    assert not receipt.settled
    np.testing.assert_array_equal(subject.device.shown(), bright)
    span = profile.transmittance_on - profile.transmittance_off
    for time_us in (0.0, 500.0, 2000.0):
        turned = 1 - math.exp(-time_us / profile.panel_tau_us) if profile.panel_tau_us else 1.0
        light = profile.transmittance_off + span * subject.lit_share(turned)
        np.testing.assert_allclose(subject.probe()["light"], light, atol=subject.pixel_error + 1e-12)
        subject.bench.advance({0.0: 500.0, 500.0: 1500.0, 2000.0: 0.0}[time_us])
    # turned round halfway: the new frame starts from where the light was
    before = subject.probe()["light"]
    subject.device.show(np.zeros(spec.shape_px, np.uint16), wait=False)
    after = subject.probe()["light"]
    expected = before if profile.panel_tau_us else profile.transmittance_off
    np.testing.assert_allclose(after, expected, atol=subject.pixel_error + 1e-12)


def test_closing_leaves_the_panel_dark(modulator_case):
    subject = modulator_case.make()
    profile = subject.bench.profile
    with subject.device as device:
        device.show(open_frame(profile))
    subject.bench.advance(10 * profile.panel_settle_us)
    np.testing.assert_allclose(subject.probe()["light"], profile.transmittance_off, atol=1e-12)


def test_sequences_are_shown_or_refused_in_words(modulator_case, opened, unchanged):
    subject = opened(modulator_case)
    device, profile, spec = subject.device, subject.bench.profile, subject.device.spec
    planes = np.stack([random_frame(spec, seed) for seed in (0, 1)])
    before = subject.probe()
    if not spec.max_planes:
        with pytest.raises(UnsupportedFeature, match="show_sequence: no sequences of planes"):
            device.show_sequence(planes, [200.0, 400.0])
        unchanged(before, subject.probe())
        return
    times_us = np.array([spec.min_plane_us, 3 * spec.min_plane_us])
    receipt = device.show_sequence(planes, times_us)
    assert receipt.checksum == f"{zlib.crc32(planes.astype('>u2').tobytes()):08x}"
    assert receipt.settled
    assert device.repeat_us == pytest.approx(times_us.sum())
    np.testing.assert_array_equal(device.shown(), planes.reshape(-1, planes.shape[2]))
    # over whole sequences, whenever they begin, the mean of the planes by the time that each is lit
    lit = (times_us - spec.blank_us) / times_us.sum()
    light = sum(share * expected_light(profile, plane) for share, plane in zip(lit, planes, strict=True))
    n = profile.n_channels
    begin = subject.bench.now_us + np.array([0.0, 17.0, 333.0])
    alike = np.ones((3, n))
    for times in (1, 4):
        spots = subject.bench.spots(alike, begin, begin + times * times_us.sum())
        np.testing.assert_allclose(spots, np.tile(light.sum(axis=2).ravel(), (3, 1)), rtol=1e-9)
    parts = subject.bench.spots(alike, begin, begin + 0.6 * times_us.sum())
    assert np.ptp(parts, axis=0).max() > 0.05 * parts.mean()
    frame = random_frame(spec, 2)
    device.show(frame)
    assert device.repeat_us == spec.repeat_us
    np.testing.assert_array_equal(device.shown(), frame)


def test_wrong_sequences_are_refused_and_what_was_shown_stays(modulator_case, opened, unchanged):
    subject = opened(modulator_case)
    device, spec = subject.device, subject.device.spec
    if not spec.max_planes:
        return
    planes = np.stack([random_frame(spec, seed) for seed in (0, 1)])
    device.show(planes[0])
    before = subject.probe()
    good_us = [spec.min_plane_us, spec.min_plane_us]
    for wrong, times_us, words in (
        (planes, [good_us[0], 0.9 * good_us[1]], "durations_us has .* us or longer"),
        (planes, [good_us[0], np.nan], "durations_us has nan"),
        (planes, good_us[:1], "2 planes with durations of shape"),
        (planes + spec.n_levels, good_us, "planes is .* allowed: 0 to"),
        (planes[:, :-1], good_us, "planes has shape"),
        (
            planes[:1].repeat(spec.max_planes + 1, axis=0),
            [spec.min_plane_us] * (spec.max_planes + 1),
            "allowed: 1 to",
        ),
    ):
        with pytest.raises(DeviceValueError, match=words):
            device.show_sequence(wrong, times_us)
    unchanged(before, subject.probe())
