"""Rows on other channels: whatever the order, programs, records and read-outs speak in rows."""

from __future__ import annotations

import numpy as np
import pytest

from labctl.devices import ChainCodes, SettleCodes
from labctl.engines import Batch, DigitalEngine, SecondStarts
from labctl.engines.channel_order import OrderedElectronics
from labctl.programs import place

N = 48
SIZES = (3, 8, 6)
READ_ROUNDING = 2e-5  # units; the ideal twin's converters have 24 bits


def orders():
    rng = np.random.default_rng(5)
    return [np.arange(N)[::-1].copy(), rng.permutation(N), np.roll(np.arange(N), 7)]


def program_of(one_segment):
    rng = np.random.default_rng(0)
    shapes = zip((*SIZES[1:], SIZES[0]), SIZES, strict=True)
    weights = place([0.5 * rng.normal(size=shape) for shape in shapes], N)
    leak = np.where(np.arange(N) < SIZES[0], 0.7, 1.0)
    gain, bias = rng.uniform(0.3, 0.9, (1, N)), 0.3 * rng.normal(size=(1, N))
    return one_segment(weights, gain=gain, leak=leak, bias=bias)


def batch(size=12):
    rng = np.random.default_rng(2)
    inject, start = rng.normal(size=(size, SIZES[0])), rng.normal(size=(size, N))
    return Batch(inject, start, None, np.arange(size), 3)


def solved(twin, one_segment, order):
    bench = twin("ideal", noise_scale=0.0)
    program, segment = program_of(one_segment)
    if order is not None:
        bench.engine.use_order(order)
    bench.engine.load(program)
    return bench, bench.engine.solve(segment, batch(), audit=2)


@pytest.mark.parametrize("order", orders(), ids=["reversed", "random", "rolled"])
def test_any_order_settles_where_the_identity_does(twin, one_segment, order):
    """And the light did move: it is the frame in another order."""
    plain_bench, plain = solved(twin, one_segment, None)
    bench, ordered = solved(twin, one_segment, order)
    np.testing.assert_allclose(ordered.z, plain.z, atol=READ_ROUNDING)
    np.testing.assert_array_equal(ordered.outcome, plain.outcome)
    np.testing.assert_allclose(ordered.residual_norm, plain.residual_norm, atol=READ_ROUNDING)
    np.testing.assert_array_equal(ordered.applied.gain, plain.applied.gain)
    np.testing.assert_allclose(
        bench.engine.measured_weights(), plain_bench.engine.measured_weights(), atol=READ_ROUNDING
    )
    seen, light = bench.true_fractions(), plain_bench.true_fractions()
    np.testing.assert_allclose(seen[np.ix_(order, order)], light, atol=1e-9)
    assert np.abs(seen - light).max() > 0.1
    np.testing.assert_array_equal(bench.engine.frame.realised, plain_bench.engine.frame.realised)


def test_a_frame_shown_for_measurement_has_the_order_too(twin, one_segment):
    order = orders()[1]
    bench = twin("ideal", noise_scale=0.0)
    program, _ = program_of(one_segment)
    bench.engine.use_order(order)
    record = bench.engine.show(program.weights)
    fractions = program.weights.fractions
    np.testing.assert_allclose(bench.true_fractions()[np.ix_(order, order)], fractions, atol=0.01)
    np.testing.assert_allclose(record.array("effective_fractions"), fractions, atol=0.01)


def pair(twin, order):
    """(electronics in channels, the same kind of machine in rows): twins alike, frames of their own."""
    fractions = np.random.default_rng(3).uniform(-0.1, 0.1, (N, N))
    plain, other = twin("adm", noise_scale=0.0), twin("adm", noise_scale=0.0)
    row_of = np.argsort(order)
    plain.show_fractions(fractions)
    other.show_fractions(fractions[np.ix_(row_of, row_of)])
    ordered = OrderedElectronics(other.electronics, order)
    ordered.open()
    return plain.electronics, ordered


def settle_codes(size=5):
    rng = np.random.default_rng(4)
    return SettleCodes(
        bias=rng.integers(-2000, 2000, (size, N)),
        gain=rng.integers(0, 200, (1, N)),
        leak=rng.integers(150, 256, (1, N)),
        gain_range=rng.integers(0, 2, N),
        start=rng.integers(-3000, 3000, (size, N)),
        step_id=0,
        sample_id=np.arange(size),
    )


def assert_same_readout(ours, theirs):
    for name in ("counts", "half_counts", "spread_counts", "trace_counts"):
        if getattr(theirs, name) is not None:
            np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), atol=1.01, err_msg=name)
    np.testing.assert_array_equal(ours.adc_clipped, theirs.adc_clipped)


def test_null_probe_and_settle_are_in_rows(twin):
    plain, ordered = pair(twin, orders()[1])
    rng = np.random.default_rng(6)
    null = rng.integers(-300, 300, N)
    drive = rng.integers(-plain.spec.probe_dac.max_code, plain.spec.probe_dac.max_code, (6, N))
    bare = plain.probe(drive).counts
    for electronics in (plain, ordered):
        electronics.set_offset_null(null)
    ours, theirs = ordered.probe(drive), plain.probe(drive)
    assert np.abs(theirs.counts - bare).max() > 100
    np.testing.assert_allclose(ours.counts, theirs.counts, atol=1.01)
    np.testing.assert_array_equal(ours.clipped, theirs.clipped)
    codes = settle_codes()
    settled = [electronics.settle(codes, wait_us=60.0, trace=True) for electronics in (ordered, plain)]
    assert settled[1].counts.std(axis=1).min() > 100
    assert_same_readout(*settled)


def test_an_early_reading_starts_from_its_rows_preset(twin):
    plain, ordered = pair(twin, orders()[2])
    codes = settle_codes()
    assert_same_readout(ordered.settle(codes, wait_us=0.5), plain.settle(codes, wait_us=0.5))


def test_a_chain_is_in_rows(twin):
    plain, ordered = pair(twin, orders()[1])
    settle, size, rows = settle_codes(), 5, np.array([0, 1, 5])
    rng = np.random.default_rng(7)
    scale = 1 << plain.spec.chain.fraction_bits
    register = plain.spec.dac.max_code // 8 * scale
    unit = 1 << plain.spec.chain.coefficient_fraction_bits
    words = np.array([unit // 2])
    codes = ChainCodes(
        bias=rng.integers(-1500, 1500, (2, 1, N)),
        gain=np.stack([settle.gain, settle.gain]),
        leak=np.repeat(settle.leak, 2, axis=0),
        gain_range=np.stack([settle.gain_range] * 2),
        rows=rows,
        base=rng.integers(-register, register, (2, 1, 3)),
        register=rng.integers(-register, register, (size, 3)),
        start=settle.start,
        inject_state=words,
        inject_register=words,
        start_state=words,
        start_register=words,
        table=np.zeros(size, np.int64),
        step_ids=np.array([3, 4]),
        sample_id=np.arange(size),
    )
    ours, theirs = ordered.run_chain(codes), plain.run_chain(codes)
    np.testing.assert_allclose(ours.start, theirs.start, atol=2)
    np.testing.assert_allclose(ours.register, theirs.register, atol=4 * scale)
    np.testing.assert_array_equal(ours.bias_clipped, theirs.bias_clipped)
    for mine, other in zip(ours.settles, theirs.settles, strict=True):
        assert_same_readout(mine, other)


def test_snapshot_temperature_and_spec_are_the_machines(twin):
    plain, ordered = pair(twin, orders()[0])
    assert ordered.spec is not None
    assert ordered.spec == plain.spec
    assert ordered.snapshot() == plain.snapshot()
    assert ordered.temperature_c() == pytest.approx(plain.temperature_c())


def test_closing_the_order_leaves_the_machine_open(twin):
    plain, ordered = pair(twin, orders()[0])
    ordered.close()
    assert plain.is_open
    assert plain.probe(np.zeros((1, N), np.int64)).counts.shape == (1, N)


class TestLight:
    """What the last layer is formed with: y of any rows from states, by every engine."""

    def test_digital_is_the_programs_weights(self, one_segment):
        program, _ = program_of(one_segment)
        engine = DigitalEngine(N)
        engine.load(program)
        z = np.random.default_rng(0).normal(size=(9, N))
        (rows, columns) = program.placement.blocks[-1]
        wanted = np.tanh(z[:, columns]) @ program.weights.weights[rows, columns].T
        np.testing.assert_allclose(engine.light(z, rows, columns), wanted, rtol=1e-12)

    def test_optical_is_the_light_that_is_there_also_with_second_starts(self, twin, one_segment):
        bench = twin("adm", noise_scale=0.0)
        program, _ = program_of(one_segment)
        bench.engine.load(program)
        z = np.random.default_rng(0).normal(size=(9, N))
        (rows, columns) = program.placement.blocks[-1]
        light = bench.true_fractions() * program.weights.scale_out[:, None]
        wanted = np.tanh(z[:, columns]) @ light[rows, columns].T
        np.testing.assert_allclose(bench.engine.light(z, rows, columns), wanted, atol=2e-3)
        audited = SecondStarts(bench.engine, 2)
        np.testing.assert_array_equal(audited.light(z, rows, columns), bench.engine.light(z, rows, columns))
