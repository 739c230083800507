"""Row errors taken out of the tables: the machine, with its errors, finds the state that was asked for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from labctl_sim_devices import ElectronicsTwin, OpticalBench, load_profile

from labctl.devices import Converter
from labctl.programs import LoopSegment, RowTrims, Settled, encode_tables, place

N = 48
SPEC = ElectronicsTwin("e", OpticalBench(load_profile("adm"))).spec
FINE = replace(SPEC, dac=Converter(24, SPEC.dac.range_units))
STATE = slice(0, 2)


@pytest.fixture(scope="module")
def weights():
    rng = np.random.default_rng(0)
    return place([rng.normal(size=s) for s in ((3, 2), (2, 3))], N)


def errors(seed: int, size: float = 1.0) -> RowTrims:
    """Of a drawn machine, `size` times as large as those of the worst twin."""
    rng = np.random.default_rng(seed)
    return RowTrims(
        leak_scale=1 + size * rng.uniform(-0.1, 0.1, N),
        leak_offset=size * rng.uniform(-0.02, 0.02, N),
        gain_scale=1 + size * rng.uniform(-0.3, 0.3, N),
        offset_units=size * rng.uniform(-0.2, 0.2, N),
        light_offset_units=size * rng.uniform(-0.4, 0.4, N),
    )


def segment(seed: int, weights) -> LoopSegment:
    rng = np.random.default_rng(1000 + seed)
    gain = np.where(np.arange(N) < 2, rng.uniform(0.05, 0.5, (1, N)), rng.uniform(0.5, 8, (1, N)))
    return LoopSegment(
        "implicit", 1.0, rng.uniform(0.2, 0.9, N), gain / weights.scale_out,
        rng.uniform(-1, 1, (1, N)), 1.0, Settled(0.05),
    )  # fmt: skip


def settled(spec, tables, trims: RowTrims, y, bias_set, full_scale):
    """z [n] of the machine's own equation: what was coded, and its errors; y per weight fraction."""
    gain = spec.gain_value(tables.gain_codes, tables.gain_range)[0]
    leak = tables.leak_codes / spec.max_leak_code
    force = trims.gain_scale * gain * (full_scale * y) + bias_set + trims.offset_units
    return force / (trims.leak_scale * leak + trims.leak_offset)


@given(seed=st.integers(0, 2**16), full_scale=st.floats(0.3, 1.5), size=st.floats(0, 1))
def test_the_machine_settles_where_the_tables_say(weights, seed, full_scale, size):
    """At the wanted leak and bias exactly, and at the gain that the tables report."""
    asked, trims = segment(seed, weights), errors(seed, size)
    tables = encode_tables(asked, weights, FINE, trims, full_scale_units=full_scale)
    y = np.random.default_rng(seed).uniform(-2, 2, N)  # in fractions; scale_out makes network units
    bias_set = tables.bias_codes[0] * FINE.dac.units_per_code
    z = settled(FINE, tables, trims, y, bias_set, full_scale)
    wanted = (tables.gain[0] * weights.scale_out * y + asked.bias[0]) / asked.leak
    half_step = 0.5 * FINE.dac.units_per_code / (0.85 * 0.2)
    np.testing.assert_allclose(z, wanted, atol=2 * half_step + 1e-9)
    np.testing.assert_array_equal(tables.leak, asked.leak)


@given(seed=st.integers(0, 2**16), full_scale=st.floats(0.5, 1.2))
def test_gains_are_those_asked_within_half_a_code(weights, seed, full_scale):
    asked = segment(seed, weights)
    tables = encode_tables(asked, weights, SPEC, errors(seed), full_scale_units=full_scale)
    for rows, scale in ((STATE, SPEC.state_gain), (slice(2, N), SPEC.hidden_gain)):
        step = np.log(scale.high / scale.low) / 254
        codes = tables.gain_codes[0, rows]
        inside = (codes > 1) & (codes < scale.max_code)
        apart = np.abs(np.log(tables.gain[0, rows] / asked.gain[0, rows]))
        assert (apart[inside] <= step / 2 + 1e-9).all()
    assert inside.any()  # of the hidden rows; the two rows u may both be beyond their scale


@given(seed=st.integers(0, 2**16))
def test_bias_to_set_and_bias_acting_are_inverse(weights, seed):
    tables = encode_tables(segment(seed, weights), weights, SPEC, errors(seed))
    rng = np.random.default_rng(seed)
    for rows in (STATE, slice(2, 20), slice(0, N)):
        bias = rng.normal(size=(7, rows.stop - rows.start))
        np.testing.assert_allclose(tables.bias_acting(tables.bias_to_set(bias, rows), rows), bias, atol=1e-12)


def test_an_injection_acts_as_it_was_asked(weights):
    """What rows u get at run time goes through bias_to_set: the same equation holds."""
    asked, trims = segment(3, weights), errors(3)
    tables = encode_tables(asked, weights, SPEC, trims)
    inject = np.array([[0.7, -1.1]])
    bias_set = tables.bias_codes[0] * SPEC.dac.units_per_code
    bias_set[STATE] = tables.bias_to_set(asked.bias[:, STATE] + inject, STATE)[0]
    y = np.random.default_rng(0).uniform(-1, 1, N)
    z = settled(SPEC, tables, trims, y, bias_set, 1.0)
    wanted = (tables.gain[0] * weights.scale_out * y + asked.bias[0])[STATE] + inject[0]
    np.testing.assert_allclose(z[STATE], wanted / asked.leak[STATE], atol=1e-12)


def test_without_trims_tables_are_as_before(weights):
    asked = segment(1, weights)
    plain = encode_tables(asked, weights, SPEC)
    none = encode_tables(asked, weights, SPEC, errors(1, 0.0))
    scales = (SPEC.state_gain, SPEC.hidden_gain)
    wanted = asked.gain[0] * weights.scale_out
    codes = [scale.code(wanted) for scale in scales]
    np.testing.assert_array_equal(plain.gain_codes[0], np.where(np.arange(N) < 2, *codes))
    np.testing.assert_array_equal(plain.leak_codes, np.rint(asked.leak * SPEC.max_leak_code))
    np.testing.assert_array_equal(plain.leak, plain.leak_codes / SPEC.max_leak_code)
    np.testing.assert_array_equal(plain.bias_codes, np.rint(asked.bias / SPEC.dac.units_per_code))
    np.testing.assert_array_equal((plain.bias_ratio, plain.bias_offset), (np.ones(N), np.zeros(N)))
    bias = np.random.default_rng(0).normal(size=(4, 2))
    np.testing.assert_array_equal(plain.bias_to_set(bias, STATE), bias)
    np.testing.assert_array_equal(none.leak_codes, plain.leak_codes)


def test_perfect_rows_still_have_the_leaks_rounding_taken_out(weights):
    asked = segment(2, weights)
    tables = encode_tables(asked, weights, SPEC, errors(2, 0.0))
    np.testing.assert_array_equal(tables.leak, asked.leak)
    ratio = tables.leak_codes / SPEC.max_leak_code / asked.leak
    np.testing.assert_allclose(tables.bias_ratio, ratio, rtol=1e-12)
    assert np.abs(ratio - 1).max() > 1e-4


def test_integrators_are_given_no_more_leak_than_their_offset_asks_for(weights):
    """Leak 0 stays as near to 0 as codes go; its bias is trimmed by the offset alone."""
    asked = replace(segment(4, weights), leak=np.zeros(N))
    trims = errors(4)
    tables = encode_tables(asked, weights, SPEC, trims)
    acting = trims.leak_scale * tables.leak_codes / SPEC.max_leak_code + trims.leak_offset
    below = trims.leak_offset < 0
    assert np.abs(acting[below]).max() <= 0.55 * 1.1 / SPEC.max_leak_code
    assert (tables.leak_codes[~below] == 0).all()
    np.testing.assert_array_equal(tables.bias_ratio, np.ones(N))
    np.testing.assert_allclose(tables.leak, acting, atol=1e-15)


def test_errors_follow_their_channels():
    trims, order = errors(0), np.random.default_rng(1).permutation(N)
    for name in ("leak_scale", "leak_offset", "gain_scale", "offset_units", "light_offset_units"):
        np.testing.assert_array_equal(getattr(trims.on(order), name), getattr(trims, name)[order])
