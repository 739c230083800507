"""What every set of loop electronics promises: codes arrive as the data sheet says, time is real.

Expected states are worked out by hand from the loop law tau dz/dt = -leak z + gain y + bias with one lit
cell or none; the light is set without any modulator's driver.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from labctl.devices import DeviceValueError, Hold

NAMED = "^device-under-test: "


def units(spec, readout):
    return readout.counts * spec.adc.units_per_code


def lsb(spec):
    """Half a count of the ADC, with room for float32 states."""
    return 0.5 * spec.adc.units_per_code + 3e-6


def settled(device, codes, **options):
    """State after 80 tau, units."""
    return units(device.spec, device.settle(codes, wait_us=80 * device.spec.tau_us, **options))


def null_pedestal(subject, rows):
    """Trim away the pedestal's light behind one full-scale cell in each of `rows` {row: +-1}."""
    spec = subject.device.spec
    codes = np.zeros(spec.n_channels, np.int64)
    for row, sign in rows.items():
        codes[row] = sign * round(subject.bench.profile.pedestal_units / spec.offset_dac.units_per_code)
    subject.device.set_offset_null(codes)


def test_in_the_dark_the_state_settles_at_bias_over_leak(loop_case, opened, settle_codes):
    device = opened(loop_case).device
    spec, n = device.spec, device.spec.n_channels
    top = spec.max_leak_code
    leak = np.resize([top, top // 2, top // 4], n)
    bias = np.resize([spec.dac.max_code // 5, -spec.dac.max_code // 7, 0, 1], n)
    z = settled(
        device, settle_codes(device.spec, bias=bias, leak=leak, gain=255, start=spec.dac.max_code // 2)
    )
    expected = bias * spec.dac.range_units / spec.dac.max_code / (leak / top)
    # the slowest row has leak 1/4: 20 of its time constants
    np.testing.assert_allclose(z[0], expected, atol=lsb(spec) + 4 * math.exp(-20) * 3.8)


def test_first_and_last_bias_code(loop_case, opened, settle_codes):
    device = opened(loop_case).device
    spec, n = device.spec, device.spec.n_channels
    bias = np.resize([-spec.dac.max_code, spec.dac.max_code], n)
    z = settled(device, settle_codes(device.spec, bias=bias))
    np.testing.assert_allclose(z[0], np.resize([-3.8, 3.8], n), atol=lsb(spec))


@pytest.mark.parametrize("wait_taus", [0.0, 0.05, 1.0, 3.0])
def test_read_early_gives_the_state_as_far_as_it_got(loop_case, opened, settle_codes, wait_taus):
    """Window mean, halves and trace of rest + (start - rest) exp(-leak t / tau), t from release."""
    device = opened(loop_case).device
    spec, n = device.spec, device.spec.n_channels
    leak = np.resize([spec.max_leak_code, spec.max_leak_code // 3, 0], n)
    bias = np.resize([spec.dac.max_code // 4, -spec.dac.max_code // 5, spec.dac.max_code // 300], n)
    start = np.resize([-spec.dac.max_code // 3, spec.dac.max_code // 2, 0], n)
    wait_us = wait_taus * spec.tau_us
    readout = device.settle(
        settle_codes(device.spec, bias=bias, leak=leak, start=start), wait_us=wait_us, trace=True
    )

    def state(time_us):
        t = np.asarray(time_us)[:, None] / spec.tau_us
        rate, drive = leak / spec.max_leak_code, bias * spec.dac.units_per_code
        grown = np.where(rate > 0, -np.expm1(-rate * t) / np.where(rate > 0, rate, 1), t)
        return start * spec.dac.units_per_code * np.exp(-rate * t) + drive * grown

    window_us = wait_us + (np.arange(spec.window_samples) + 1) / spec.sample_rate_mhz
    exact = state(window_us)
    assert np.abs(exact).max() < spec.adc.range_units
    np.testing.assert_allclose(units(spec, readout)[0], exact.mean(axis=0), atol=lsb(spec))
    half = spec.window_samples // 2
    np.testing.assert_allclose(
        readout.half_counts[:, 0] * spec.adc.units_per_code,
        [exact[:half].mean(axis=0), exact[half:].mean(axis=0)],
        atol=lsb(spec),
    )
    spread = readout.spread_counts[0] * spec.adc.units_per_code
    np.testing.assert_allclose(spread, exact.std(axis=0), atol=2 * lsb(spec))
    trace = readout.trace_counts[:, 0] * spec.adc.units_per_code
    np.testing.assert_allclose(trace, state(readout.trace_time_us), atol=lsb(spec))
    np.testing.assert_allclose(readout.trace_time_us[-spec.window_samples :], window_us, atol=1e-9)
    assert readout.trace_time_us[0] == 0.0
    assert (readout.wait_us, readout.window_us) == (wait_us, spec.window_samples / spec.sample_rate_mhz)
    if wait_taus < 0.1:  # so it is not the settled state
        rest = bias * spec.dac.units_per_code * spec.max_leak_code / np.maximum(leak, 1)
        assert np.abs(units(spec, readout)[0] - rest)[leak > 0].max() > 10 * lsb(spec)


@pytest.mark.parametrize("gain_range", [0, 1])
@pytest.mark.parametrize(
    "share", [0.0, 0.75, *(pytest.param(share, marks=pytest.mark.slow) for share in (1 / 255, 0.25, 1.0))]
)
@pytest.mark.parametrize("path", [0, 1])
def test_a_gain_code_arrives_as_its_value(loop_case, opened, settle_codes, gain_range, share, path):
    """Row 7 sees +-tanh of row 30 through one lit cell; gain low (high / low)^((code - 1) / (max - 1))."""
    subject = opened(loop_case)
    device, profile = subject.device, subject.bench.profile
    spec, n = device.spec, device.spec.n_channels
    low, high = profile.hidden_gain_range if gain_range else profile.state_gain_range
    top = 2**profile.gain_bits - 1
    code = max(round(share * top), 1) if share else 0
    gain = low * (high / low) ** ((code - 1) / (top - 1)) if code else 0.0
    sign = 1 if path == 0 else -1
    subject.light_cells({(path, 7, 30)})
    null_pedestal(subject, {7: sign})
    bias = np.zeros(n, np.int64)
    bias[30] = round(min(1.0, 2.0 / max(gain, 2.0)) / spec.dac.units_per_code)
    z = settled(device, settle_codes(device.spec, bias=bias, start=bias, gain=code, gain_range=gain_range))[0]
    driving = bias[30] * spec.dac.units_per_code
    expected = np.zeros(n)
    expected[30], expected[7] = driving, sign * gain * math.tanh(driving)
    trim = 0.5 * spec.offset_dac.units_per_code + 11e-6 * profile.pedestal_units  # panel residue, float32
    np.testing.assert_allclose(z, expected, atol=lsb(spec) + gain * (trim + 2e-5))
    assert spec.state_gain.max_code == spec.hidden_gain.max_code == top


def test_gain_ranges_and_leaks_belong_to_their_rows_and_samples(loop_case, opened, settle_codes):
    subject = opened(loop_case)
    device = subject.device
    spec, n = device.spec, device.spec.n_channels
    subject.light_cells({(0, 3, 40), (0, 4, 40)})
    null_pedestal(subject, {3: 1, 4: 1})
    codes = settle_codes(device.spec, 2, bias=0)
    bias = codes.bias.copy()
    bias[:, 40] = round(0.1 / spec.dac.units_per_code)
    top = spec.hidden_gain.max_code
    gain = np.zeros((2, n), np.int64)
    gain[0, 3] = gain[1, 4] = top
    gain_range = np.zeros(n, np.int64)
    gain_range[4] = 1
    z = settled(device, replace(codes, bias=bias, gain=gain, gain_range=gain_range, start=bias))
    seen = math.tanh(bias[0, 40] * spec.dac.units_per_code)
    expected = np.zeros((2, n))
    expected[:, 40] = bias[0, 40] * spec.dac.units_per_code
    expected[0, 3], expected[1, 4] = 1.0 * seen, 20.0 * seen
    np.testing.assert_allclose(z, expected, atol=lsb(spec) + 20 * 2e-4)
    leak = np.full((2, n), spec.max_leak_code)
    leak[1] //= 2
    z = settled(device, replace(codes, bias=bias, leak=leak))
    np.testing.assert_allclose(z[:, 40], expected[:, 40] * spec.max_leak_code / leak[:, 40], atol=lsb(spec))


def test_an_untrimmed_pedestal_is_an_offset_times_gain(loop_case, opened, settle_codes):
    """States ride on a pedestal b: the detectors see W s + b W 1 until the offset is trimmed away."""
    subject = opened(loop_case)
    device = subject.device
    subject.light_cells({(1, 9, 2)})
    codes = settle_codes(device.spec, gain=device.spec.state_gain.max_code, gain_range=0)
    before = settled(device, codes)[0, 9]
    assert before == pytest.approx(-subject.bench.profile.pedestal_units, abs=1e-3)
    null_pedestal(subject, {9: -1})
    assert settled(device, codes)[0, 9] == pytest.approx(0.0, abs=1e-3)
    device.close()  # the safe state has its trims at zero
    device.open()
    assert settled(device, codes)[0, 9] == pytest.approx(before, abs=1e-3)


@pytest.mark.parametrize("call", ["settle", "probe"])
def test_holding_for_a_camera_takes_its_time_and_changes_no_count(loop_case, opened, settle_codes, call):
    subject = opened(loop_case)
    device, spec = subject.device, subject.device.spec
    run = {
        "settle": lambda **more: device.settle(settle_codes(spec, 3, bias=100), **more).counts,
        "probe": lambda **more: device.probe(np.full((3, spec.n_channels), 100), **more).counts,
    }[call]
    plain = run()
    for hold, least_us in ((Hold(50.0, 0.0), 3 * 50.0), (Hold(1.0, 300.0), 3 * 300.0)):
        before = subject.probe()["clock_us"]
        held = run(hold=hold)
        np.testing.assert_array_equal(held, plain)
        assert least_us <= subject.probe()["clock_us"] - before <= least_us + 3 * (spec.wait_us + 10)


@pytest.mark.parametrize(
    ("hold", "message"),
    [
        (Hold(-1.0, 0.0), r"hold_us is -1\.0; allowed: 0 to 100000"),
        (Hold(2e5, 0.0), r"hold_us is 200000\.0; allowed: 0 to 100000"),
        (Hold(1.0, -5.0), r"period_us is -5\.0; allowed: 0 to 1e\+09"),
        (Hold(float("nan"), 0.0), "hold_us is nan; allowed: 0 to 100000"),
    ],
)
def test_a_hold_without_sense_is_refused(loop_case, opened, settle_codes, hold, message, unchanged):
    subject = opened(loop_case)
    device, before = subject.device, subject.probe()
    with pytest.raises(DeviceValueError, match=NAMED + "settle: " + message):
        device.settle(settle_codes(device.spec), hold=hold)
    with pytest.raises(DeviceValueError, match=NAMED + "probe: " + message):
        device.probe(np.zeros((1, device.spec.n_channels), np.int64), hold=hold)
    unchanged(before, subject.probe())


def test_a_state_beyond_the_adc_is_reported(loop_case, opened, settle_codes):
    device = opened(loop_case).device
    spec, n = device.spec, device.spec.n_channels
    bias = np.zeros(n, np.int64)
    bias[[1, 2]] = [spec.dac.max_code, -spec.dac.max_code]
    readout = device.settle(
        settle_codes(device.spec, bias=bias, leak=spec.max_leak_code // 2), wait_us=80 * spec.tau_us
    )
    assert np.flatnonzero(readout.adc_clipped[0]).tolist() == [1, 2]
    assert readout.counts[0, [1, 2]].tolist() == [spec.adc.max_code, -spec.adc.max_code]


@pytest.mark.parametrize("at", ["phi", "emitter"])
def test_a_probe_lights_what_was_asked_and_reads_the_matrix(loop_case, opened, at):
    """One lit cell on each path: rows are outputs, columns are inputs, the second path counts negative."""
    subject = opened(loop_case)
    device, profile = subject.device, subject.bench.profile
    spec, n = device.spec, device.spec.n_channels
    subject.light_cells({(0, 5, 11), (1, 6, 12)})
    top = spec.probe_dac.max_code
    codes = np.zeros((3, n), np.int64)
    codes[0, 11] = codes[1, 12] = top
    codes[2] = top // 3
    readout = device.probe(codes, at=at)
    pedestal = profile.pedestal_units if at == "phi" else 0.0
    light = codes / top + pedestal
    np.testing.assert_allclose(subject.probe()["emitted"], light, rtol=1e-12)
    expected = np.zeros((3, n))
    expected[:, 5], expected[:, 6] = light[:, 11], -light[:, 12]
    seen = readout.counts * spec.offset_dac.units_per_code
    # residue of the panel's dark cells: exp(-20000 / 1800) of the light, over 48 columns
    np.testing.assert_allclose(seen, expected, atol=1e-3)
    assert not readout.clipped.any()


def test_a_trim_is_subtracted_before_the_probe_is_read(loop_case, opened):
    device = opened(loop_case).device
    n = device.spec.n_channels
    trims = np.arange(n) - 20
    device.set_offset_null(trims)
    trims[:] = 0
    counts = device.probe(np.zeros((1, n), np.int64)).counts[0]
    np.testing.assert_allclose(counts, 20 - np.arange(n), atol=0.05)


def test_a_probe_beyond_the_range_is_reported(loop_case, opened):
    device = opened(loop_case).device
    n = device.spec.n_channels
    trims = np.zeros(n, np.int64)
    trims[2] = -device.spec.offset_dac.max_code
    device.set_offset_null(trims)
    readout = device.probe(np.zeros((1, n), np.int64))
    assert not readout.clipped[0, 3]
    assert abs(readout.counts[0, 2]) <= device.spec.offset_dac.max_code


@pytest.mark.parametrize(
    ("field", "spoil"),
    [
        ("bias", lambda c, s: replace(c, bias=c.bias[:, :-1])),
        ("bias", lambda c, s: replace(c, bias=c.bias.astype(float))),
        ("bias", lambda c, s: replace(c, bias=c.bias + s.dac.max_code + 1)),
        ("bias", lambda c, s: replace(c, bias=c.bias - s.dac.max_code - 1)),
        ("bias", lambda c, s: replace(c, bias=np.full_like(c.bias, 2**64 - 5, dtype=np.uint64))),
        ("gain", lambda c, s: replace(c, gain=c.gain - 1)),
        ("gain", lambda c, s: replace(c, gain=c.gain + s.hidden_gain.max_code + 1)),
        ("gain", lambda c, s: replace(c, gain=np.repeat(c.gain, 2, axis=0))),
        ("leak", lambda c, s: replace(c, leak=c.leak + 1)),
        ("leak", lambda c, s: replace(c, leak=c.leak - s.max_leak_code - 1)),
        ("leak", lambda c, s: replace(c, leak=np.repeat(c.leak, 4, axis=0))),
        ("gain_range", lambda c, s: replace(c, gain_range=c.gain_range + 2)),
        ("gain_range", lambda c, s: replace(c, gain_range=c.gain_range[:3])),
        ("start", lambda c, s: replace(c, start=c.start[:1])),
        ("start", lambda c, s: replace(c, start=c.start + s.dac.max_code + 1)),
        ("sample_id", lambda c, s: replace(c, sample_id=c.sample_id - 5)),
        ("sample_id", lambda c, s: replace(c, sample_id=c.sample_id[:2])),
        ("queue", lambda c, s: replace(c, bias=c.bias[:0])),
        ("queue", lambda c, s: replace(c, bias=np.zeros((s.max_queue + 1, s.n_channels), np.int64))),
    ],
)
def test_wrong_settle_codes_are_refused_before_anything_moves(
    loop_case, opened, settle_codes, unchanged, field, spoil
):
    subject = opened(loop_case)
    spec = subject.device.spec
    codes = settle_codes(spec, 3, leak=spec.max_leak_code)
    before = subject.probe()
    with pytest.raises(
        DeviceValueError, match=f"{NAMED}settle: .*{field} .*allowed|{NAMED}settle: {field} must"
    ):
        subject.device.settle(spoil(codes, spec))
    unchanged(before, subject.probe())


@pytest.mark.parametrize("wait_us", [-0.1, math.nan, math.inf, 1e7])
def test_an_impossible_wait_is_refused(loop_case, opened, settle_codes, unchanged, wait_us):
    subject = opened(loop_case)
    before = subject.probe()
    with pytest.raises(DeviceValueError, match=f"{NAMED}settle: wait_us is"):
        subject.device.settle(settle_codes(subject.device.spec), wait_us=wait_us)
    unchanged(before, subject.probe())


def test_wrong_probes_and_trims_are_refused(loop_case, opened, unchanged):
    subject = opened(loop_case)
    device, n = subject.device, subject.device.spec.n_channels
    ones, top = np.ones((1, n), np.int64), device.spec.probe_dac.max_code
    before = subject.probe()
    for message, call in (
        ("probe: codes is", lambda: device.probe(ones * (top + 1))),
        ("probe: codes is", lambda: device.probe(-ones, at="emitter")),
        ("probe: codes has shape", lambda: device.probe(ones[0])),
        ("probe: codes must hold integer", lambda: device.probe(ones * 0.5)),
        ("probe: repeats is 0", lambda: device.probe(ones, repeats=0)),
        ("probe: at is 'detector'; allowed: phi, emitter", lambda: device.probe(ones, at="detector")),
        ("set_offset_null: codes is", lambda: device.set_offset_null(ones[0] * 2**62)),
        ("set_offset_null: codes has shape", lambda: device.set_offset_null(ones)),
    ):
        with pytest.raises(DeviceValueError, match=NAMED + message):
            call()
    unchanged(before, subject.probe())
    np.testing.assert_array_equal(device.probe(0 * ones).counts, 0)  # no trim got through


def test_the_clock_moves_by_what_a_queue_takes(loop_case, opened, settle_codes):
    subject = opened(loop_case)
    spec = subject.device.spec
    before = subject.probe()["clock_us"]
    subject.device.settle(settle_codes(spec, 5))
    middle = subject.probe()["clock_us"]
    assert middle - before == pytest.approx(5 * (spec.wait_us + spec.window_us))
    readout = subject.device.probe(np.zeros((2, spec.n_channels), np.int64), repeats=3)
    assert subject.probe()["clock_us"] - middle == pytest.approx(2 * 3 * spec.window_us)
    assert readout.duration_us == pytest.approx(3 * spec.window_us)


def test_the_callers_codes_can_change_afterwards(loop_case, opened, settle_codes):
    device = opened(loop_case).device
    codes = settle_codes(device.spec, 3, bias=100, start=-50)
    readout = device.settle(codes)
    kept = readout.counts.copy()
    for table in (codes.bias, codes.gain, codes.leak, codes.gain_range, codes.start, codes.sample_id):
        table[:] = 0
    np.testing.assert_array_equal(readout.counts, kept)


def test_noise_depends_on_sample_step_and_seed_and_not_on_the_batch(loop_case, opened, settle_codes):
    def run(seed=0, samples=range(20), step=3):
        device = opened(loop_case, seed=seed, noise_scale=1.0).device
        samples = np.array(samples)
        codes = settle_codes(device.spec, len(samples), step_id=step, sample_id=samples)
        return device.settle(codes).counts

    first = run()
    if loop_case.notes["profile"] == "ideal":
        np.testing.assert_array_equal(first, 0)  # no noise in this profile: nothing to draw
        return
    assert first.std() > 0
    np.testing.assert_array_equal(run(), first)
    order = np.random.default_rng(0).permutation(20)
    np.testing.assert_array_equal(run(samples=order), first[order])
    np.testing.assert_array_equal(run(samples=[7]), first[[7]])
    for other in (run(seed=1), run(step=4), run(samples=range(20, 40))):
        assert (other != first).mean() > 0.9


def test_a_long_queue_is_the_same_settles_as_short_ones(loop_case, opened, settle_codes):
    """More samples than any tile a device may cut its queue into."""
    device = opened(loop_case, noise_scale=1.0).device
    codes = settle_codes(device.spec, 600, bias=np.arange(600)[:, None])
    together = device.settle(codes, wait_us=0.0).counts
    part = slice(500, 530)
    alone = device.settle(
        replace(codes, bias=codes.bias[part], start=codes.start[part], sample_id=codes.sample_id[part]),
        wait_us=0.0,
    ).counts
    np.testing.assert_array_equal(alone, together[part])
