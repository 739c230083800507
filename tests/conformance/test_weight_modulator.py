"""What every weight modulator promises. The probe sees light through cells, not frames."""

from __future__ import annotations

import math
import zlib

import numpy as np
import pytest

from labctl.devices import DeviceValueError


def random_frame(spec, seed=0):
    """Blocks of random levels, offset against the cells so that cells mix levels."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, spec.n_levels, (spec.shape_px[0] // 7 + 1, spec.shape_px[1] // 7 + 1))
    return coarse.repeat(7, 0).repeat(7, 1)[: spec.shape_px[0], : spec.shape_px[1]].astype(np.uint16)


def expected_light(profile, frame):
    """Data sheet: T = T_off + (T_on - T_off) sin^2(pi g / (2 (levels - 1))), mean over each cell's pixels."""
    height, width = profile.cell_px
    n = profile.n_channels
    level = np.sin(0.5 * math.pi * frame.astype(float) / (profile.panel_levels - 1)) ** 2
    light = profile.transmittance_off + (profile.transmittance_on - profile.transmittance_off) * level
    out = np.empty((2, n, n))
    for path, (top, left) in enumerate(profile.path_origin_px):
        for row in range(n):
            for column in range(n):
                y, x = top + row * height, left + column * width
                out[path, row, column] = light[y : y + height, x : x + width].mean()
    return out


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
        (lambda f, top: f[:-1], "shape"),
        (lambda f, top: f[None], "shape"),
        (lambda f, top: f[:0], "shape"),
        (lambda f, top: f.astype(np.float64), "integer"),
        (lambda f, top: f > 0, "integer"),
        (lambda f, top: f.astype(object), "integer"),
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
    for level, light in ((0, profile.transmittance_off), (spec.n_levels - 1, profile.transmittance_on)):
        subject.device.show(np.full(spec.shape_px, level, np.uint16))
        np.testing.assert_allclose(subject.probe()["light"], light, atol=residue(profile) + 1e-12)


@pytest.mark.parametrize("corner", [(0, 0), (0, -1), (-1, 0), (-1, -1)])
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
    frame[top : top + height, left : left + width] = spec.n_levels - 1
    subject.device.show(frame)
    expected = np.full((2, n, n), profile.transmittance_off)
    expected[path, row, column] = profile.transmittance_on
    np.testing.assert_allclose(subject.probe()["light"], expected, atol=residue(profile) + 1e-12)


def test_without_waiting_the_panel_is_half_turned(modulator_case, opened):
    subject = opened(modulator_case)
    profile, spec = subject.bench.profile, subject.device.spec
    bright = np.full(spec.shape_px, spec.n_levels - 1, np.uint16)
    receipt = subject.device.show(bright, wait=False)
    assert not receipt.settled
    np.testing.assert_array_equal(subject.device.shown(), bright)
    span = profile.transmittance_on - profile.transmittance_off
    for time_us in (0.0, 500.0, 2000.0):
        turned = 1 - math.exp(-time_us / profile.panel_tau_us) if profile.panel_tau_us else 1.0
        light = profile.transmittance_off + span * subject.lit_share(turned)
        np.testing.assert_allclose(subject.probe()["light"], light, atol=subject.pixel_error)
        subject.bench.advance({0.0: 500.0, 500.0: 1500.0, 2000.0: 0.0}[time_us])
    # turned round halfway: the new frame starts from where the light was
    before = subject.probe()["light"]
    subject.device.show(np.zeros(spec.shape_px, np.uint16), wait=False)
    after = subject.probe()["light"]
    expected = before if profile.panel_tau_us else profile.transmittance_off
    np.testing.assert_allclose(after, expected, atol=subject.pixel_error)


def test_closing_leaves_the_panel_dark(modulator_case):
    subject = modulator_case.make()
    profile = subject.bench.profile
    with subject.device as device:
        device.show(np.full(device.spec.shape_px, device.spec.n_levels - 1, np.uint16))
    subject.bench.advance(10 * profile.panel_settle_us)
    np.testing.assert_allclose(subject.probe()["light"], profile.transmittance_off, atol=1e-12)
