"""OscillatorBoard: what every board of coupled oscillators promises."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labctl.devices import DeviceStateError, DeviceValueError, RunCodes

QUICK = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def test_the_data_sheet_makes_sense(board_case, opened):
    spec = opened(board_case).device.spec
    assert spec.usable.shape == (spec.topology.n_edges,)
    assert spec.unit_us == pytest.approx(spec.period_us / (2 * np.pi * spec.eps))
    assert spec.max_coupling_code == max(1, 2 ** (spec.coupling_bits - 1) - 1)
    assert spec.tick_us < 0.1 * spec.unit_us
    codes = np.array([0, spec.max_read_code])
    turn = spec.max_read_code + 1
    np.testing.assert_allclose(spec.read_rad(codes), [0, -2 * np.pi / turn])
    assert (spec.start_codes(spec.start_rad(np.arange(4))) == np.arange(4)).all()


def test_a_load_reads_back_as_sent(board_case, opened, board_image):
    subject = opened(board_case)
    device, before = subject.device, subject.probe()["clock_us"]
    image = board_image(device.spec)
    receipt = device.load(image)
    assert receipt.crc == image.crc == device.loaded().crc
    assert receipt.n_bytes == device.spec.image_bytes(2)
    assert receipt.duration_us > 0
    assert subject.probe()["clock_us"] - before == pytest.approx(receipt.duration_us)
    np.testing.assert_array_equal(device.loaded().coupling, image.coupling)
    device.close()
    device.open()
    with pytest.raises(DeviceStateError, match=r"run: no program is loaded; call load\(\) first"):
        device.run(RunCodes(np.arange(1)))


@pytest.mark.parametrize(
    ("table", "change", "message"),
    [
        ("coupling", lambda s, t: np.full_like(t, s.max_coupling_code + 1), "coupling is {top1}"),
        ("coupling", lambda s, t: t[:, :-1], "coupling has shape"),
        ("coupling", lambda s, t: t.astype(float), "coupling must hold integer codes"),
        ("scale", lambda s, t: t - t - 1, "scale is -1"),
        ("in_phase", lambda s, t: t * 0 + s.injection.max_code + 1, "in_phase is"),
        ("detuning", lambda s, t: t * 0 - s.detuning.max_code - 1, "detuning is"),
        ("ticks", lambda s, t: t * 0, "ticks is 0 at (0,); allowed: 1 to"),
        ("ticks", lambda s, t: t * 0 + s.max_ticks + 1, "ticks is"),
        ("start_phase", lambda s, t: t * 0 - 1, "start_phase is -1"),
        ("start_amplitude", lambda s, t: t * 0 + s.max_amplitude_code + 1, "start_amplitude is"),
        ("topology_hash", lambda s, t: "0" * 64, "wired for topology 00000000; allowed: this board's"),
    ],
)
def test_a_wrong_image_is_refused_and_the_old_one_stays(
    board_case, opened, board_image, unchanged, table, change, message
):
    subject = opened(board_case)
    device = subject.device
    good = board_image(device.spec)
    device.load(good)
    before = subject.probe()
    wrong = dataclasses.replace(good, **{table: change(device.spec, getattr(good, table))})
    expected = message.format(top1=device.spec.max_coupling_code + 1)
    with pytest.raises(DeviceValueError) as error:
        device.load(wrong)
    assert expected in str(error.value)
    assert "allowed" in str(error.value) or "must hold" in str(error.value)
    unchanged(before, subject.probe())
    assert device.loaded().crc == good.crc
    device.run(RunCodes(np.arange(1)))


def test_more_segments_than_the_memory_holds_are_refused(board_case, opened, board_image):
    device = opened(board_case).device
    depth = device.spec.depth
    device.load(board_image(device.spec, depth))
    with pytest.raises(DeviceValueError, match=f"has {depth + 1} segments; allowed: 1 to {depth}"):
        device.load(board_image(device.spec, depth + 1))


@pytest.mark.parametrize(
    ("codes", "read_at_us", "message"),
    [
        ({"sample_id": np.arange(0)}, None, "sample_id has shape (0,)"),
        ({"sample_id": np.array([-1])}, None, "sample_id is -1"),
        ({"play": np.array([2])}, None, "play is 2 at (0,); allowed: 0 to 1"),
        ({"play": np.zeros(100_000, np.int64)}, None, "play names 100000 segments"),
        ({"start_phase": "short"}, None, "start_phase has shape"),
        ({"anchor_in_phase": "zeros"}, None, "one anchor table is missing"),
        ({"anchor_in_phase": "top", "anchor_quadrature": "zeros"}, None, "add up to"),
        ({}, [-1.0], "read_at_us has -1"),
        ({}, [1e9], "read_at_us has 1e+09; allowed: 0 to"),
        ({}, [float("nan")], "read_at_us has nan"),
        ({}, [0.0, 0.0], "read_at_us does not ascend"),
        ({}, [0.0] * 1000, "read_at_us has shape (1000,)"),
    ],
)
def test_a_wrong_run_is_refused(board_case, opened, board_image, unchanged, codes, read_at_us, message):
    subject = opened(board_case)
    device, spec = subject.device, subject.device.spec
    full = np.full((2, spec.n), spec.injection.max_code)
    device.load(board_image(spec, in_phase=full))
    before = subject.probe()
    tables = {
        "zeros": np.zeros((1, spec.n), np.int64),
        "top": np.full((1, spec.n), spec.injection.max_code),
        "short": np.zeros((1, spec.n - 1), np.int64),
    }
    given_codes = {k: tables[v] if isinstance(v, str) else v for k, v in codes.items()}
    with pytest.raises(DeviceValueError) as error:
        device.run(RunCodes(**{"sample_id": np.arange(1), **given_codes}), read_at_us=read_at_us)
    assert message in str(error.value)
    assert "allowed" in str(error.value)
    unchanged(before, subject.probe())


def test_too_long_a_queue_is_refused(board_case, opened, board_image):
    device = opened(board_case).device
    device.load(board_image(device.spec))
    most = device.spec.max_queue
    with pytest.raises(DeviceValueError, match=f"holds {most + 1} samples; allowed: 1 to {most}"):
        device.run(RunCodes(np.arange(most + 1)))


def test_phases_have_the_shape_that_was_asked_for_and_take_their_time(board_case, opened, board_image):
    subject = opened(board_case)
    device, spec = subject.device, subject.device.spec
    device.load(board_image(spec))
    end_us = device.run_us()
    before = subject.probe()["clock_us"]
    phases = device.run(RunCodes(np.arange(3)), read_at_us=[0.0, 0.3 * end_us, end_us])
    assert phases.codes.shape == (3, 3, spec.n)
    assert phases.codes.min() >= 0
    assert phases.codes.max() <= spec.max_read_code
    assert phases.locked.shape == phases.overflow.shape == (3,)
    assert phases.run_us == pytest.approx(end_us)
    np.testing.assert_allclose(phases.read_at_us, [0, 0.3 * end_us, end_us], atol=spec.tick_us)
    took = subject.probe()["clock_us"] - before
    assert took == pytest.approx(3 * spec.queue_us(end_us, 3))


def test_draws_depend_on_the_sample_not_on_its_batch(board_case, opened, board_image):
    one = opened(board_case, noise_scale=1.0).device
    other = opened(board_case, noise_scale=1.0).device
    for device in (one, other):
        device.load(board_image(device.spec))
    whole = one.run(RunCodes(np.arange(20))).codes
    for part in (np.array([3]), np.arange(5, 20)):
        again = other.run(RunCodes(part)).codes
        # the temperature of a twin moves with its clock, so a code's edge may be crossed
        turn = one.spec.max_read_code + 1
        off = (again - whole[part] + turn // 2) % turn - turn // 2
        assert np.abs(off).max() <= max(1, 1e-3 * turn)
    # an amplitude of nothing would make samples alike
    assert np.unique(whole[:, 0], axis=0).shape[0] > 1


def test_start_phases_are_where_samples_begin(board_case, opened, board_image):
    device, spec = (subject := opened(board_case)).device, subject.device.spec
    device.load(board_image(spec))
    start = np.random.default_rng(0).integers(0, spec.max_start_code + 1, (4, spec.n))
    phases = device.run(RunCodes(np.arange(4), start_phase=start), read_at_us=[0.0])
    off = spec.read_rad(phases.codes[:, 0]) - spec.start_rad(start)
    off = np.angle(np.exp(1j * off))
    # what is left is the read path: skew and steps of the converter
    assert np.abs(off).mean() < 0.2
    assert np.sqrt((off**2).mean()) < 0.3


def test_segments_can_be_played_in_any_order(board_case, opened, board_image):
    device, spec = (subject := opened(board_case)).device, subject.device.spec
    device.load(board_image(spec))
    start = np.random.default_rng(1).integers(0, spec.max_start_code + 1, (1, spec.n))
    both, none, turned = (
        device.run(RunCodes(np.arange(1), start_phase=start, play=play)).codes
        for play in (None, np.array([0, 1]), np.array([1, 0]))
    )
    np.testing.assert_array_equal(both, none)
    assert (turned != both).any()
    once = device.run(RunCodes(np.arange(1), start_phase=start, play=np.array([1])))
    assert once.run_us == pytest.approx(device.run_us([1]))


def test_phases_follow_their_anchors(board_case, opened, board_image):
    device, spec = (subject := opened(board_case)).device, subject.device.spec
    zero = np.zeros((1, spec.n), np.int64)
    device.load(
        board_image(
            spec, 1, coupling=np.zeros((1, spec.topology.n_edges), np.int64), in_phase=zero, quadrature=zero,
            second=zero, detuning=zero, scale=np.zeros(1, np.int64),
            ticks=np.array([min(spec.max_ticks, int(5 * spec.unit_us / spec.tick_us))]),
        )
    )  # fmt: skip
    angle = np.linspace(-3, 3, 16)
    full = spec.injection.max_code
    anchors = [
        np.repeat(np.rint(full * part(angle)).astype(np.int64)[:, None], spec.n, axis=1)
        for part in (np.sin, np.cos)
    ]
    start = np.repeat(spec.start_codes(angle + 0.5)[:, None], spec.n, axis=1)
    codes = device.run(RunCodes(np.arange(16), 0, None, anchors[0], anchors[1], start)).codes
    off = np.angle(np.exp(1j * (spec.read_rad(codes[:, 0]) - angle[:, None])))
    assert np.sqrt((off**2).mean()) < 0.25


def test_a_detuned_trim_is_counted(board_case, opened):
    device, spec = (subject := opened(board_case)).device, subject.device.spec
    gate_us = min(max(1e6 * spec.period_us, spec.gate_range_us[0]), spec.gate_range_us[1])
    trim = np.zeros(spec.n, np.int64)
    trim[0] = spec.detuning.max_code
    low, high = device.count_frequency(gate_us), device.count_frequency(gate_us, trim)
    assert low.counts.shape == (spec.n,)
    assert low.gate_us == gate_us
    assert abs(low.reference_count - spec.f0_hz * gate_us * 1e-6) <= 1
    moved = (high.hz - low.hz) / (spec.f0_hz * spec.eps)
    resolution = 2 / (gate_us * 1e-6 * spec.f0_hz * spec.eps)
    assert moved[0] == pytest.approx(spec.detuning.range_units, abs=0.01 + resolution)
    assert np.abs(moved[1:]).max() <= 0.01 + resolution
    for wrong in (0.0, -1.0, float("nan"), 1e12):
        with pytest.raises(DeviceValueError, match="gate_us is"):
            device.count_frequency(wrong)
    with pytest.raises(DeviceValueError, match="detuning is"):
        device.count_frequency(gate_us, trim + 1)


@given(data=st.data())
@QUICK
def test_any_codes_in_range_load_and_any_beyond_are_refused(board_case, board_image, data):
    with board_case.make().device as device:
        spec = device.spec
        image = board_image(spec, seed=data.draw(st.integers(0, 2**32)))
        assert device.load(image).crc == image.crc
        field = data.draw(st.sampled_from(["coupling", "in_phase", "second", "start_amplitude"]))
        table = getattr(image, field).copy()
        top = {
            "coupling": spec.max_coupling_code,
            "in_phase": spec.injection.max_code,
            "second": spec.second.max_code,
            "start_amplitude": spec.max_amplitude_code,
        }[field]
        where = data.draw(st.integers(0, table.size - 1))
        table.flat[where] = data.draw(st.integers(top + 1, 2**60) | st.integers(-(2**60), -top - 1))
        with pytest.raises(DeviceValueError, match=f"{field} is {table.flat[where]} at "):
            device.load(dataclasses.replace(image, **{field: table}))


@given(data=st.data())
@QUICK
def test_the_crc_sees_any_single_change(board_case, board_image, data):
    with board_case.make().device as device:  # one on a wire tells its data sheet when it is opened
        spec = device.spec
    image = board_image(spec, seed=data.draw(st.integers(0, 2**32)))
    field = data.draw(st.sampled_from(["coupling", "scale", "ticks", "detuning", "start_phase"]))
    table = getattr(image, field).copy()
    where, bit = data.draw(st.integers(0, table.size - 1)), data.draw(st.integers(0, 20))
    table.flat[where] ^= 1 << bit
    assert dataclasses.replace(image, **{field: table}).crc != image.crc
