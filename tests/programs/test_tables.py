"""Digital knobs: what code errors are allowed to be, and what is said when a value has no code."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from labctl_sim_devices import ElectronicsTwin, OpticalBench, load_profile

from labctl.devices import Converter, GainScale, ProgramError
from labctl.programs import LoopSegment, Settled, encode_tables, place, to_codes

STATE, HIDDEN = GainScale(8, 5e-4, 1.0), GainScale(8, 0.02, 20.0)
SPEC = ElectronicsTwin("e", OpticalBench(load_profile("adm"))).spec


@pytest.fixture(scope="module")
def weights():
    rng = np.random.default_rng(0)
    return place([rng.normal(size=s) for s in ((3, 2), (2, 3))], 48)


def segment(gain=0.5, leak=1.0, bias=0.0):
    gains = np.broadcast_to(np.asarray(gain, float), (1, 48)).copy()
    leaks = np.broadcast_to(np.asarray(leak, float), (48,)).copy()
    return LoopSegment("implicit", 1.0, leaks, gains, np.full((1, 48), bias), 1.0, Settled(0.05))


@pytest.mark.parametrize("scale", [STATE, HIDDEN], ids=["state", "hidden"])
class TestGainScale:
    """Code 0 is off; codes 1 .. 255 run logarithmically."""

    def test_ends_and_ratio(self, scale):
        values = scale.value(np.arange(256))
        assert values[0] == 0.0
        assert values[1] == pytest.approx(scale.low, rel=1e-12)
        assert values[255] == pytest.approx(scale.high, rel=1e-12)
        ratio = (scale.high / scale.low) ** (1 / 254)
        np.testing.assert_allclose(values[2:] / values[1:-1], ratio, rtol=1e-12)

    def test_codes_come_back(self, scale):
        codes = np.arange(256)
        np.testing.assert_array_equal(scale.code(scale.value(codes)), codes)

    @given(share=st.floats(0, 1))
    def test_error_is_at_most_half_a_step(self, scale, share):
        gain = scale.low * (scale.high / scale.low) ** share
        applied = scale.value(scale.code(np.array([gain])))[0]
        step = math.log(scale.high / scale.low) / 254
        assert abs(math.log(applied / gain)) <= step / 2 + 1e-9

    @given(a=st.floats(0, 30), b=st.floats(0, 30))
    def test_monotone(self, scale, a, b):
        low, high = scale.code(np.array([min(a, b), max(a, b)]))
        assert low <= high

    def test_only_zero_is_off(self, scale):
        assert scale.code(np.array([0.0, 1e-300, 1e-9, 1e9])).tolist() == [0, 1, 1, 255]


@given(
    gains=st.lists(st.floats(1e-3, 0.4), min_size=5, max_size=5),
    leaks=st.lists(st.floats(0, 1), min_size=5, max_size=5),
)
def test_tables_are_within_half_a_code(weights, gains, leaks):
    wanted_gain, wanted_leak = np.ones(48), np.ones(48)
    wanted_gain[:5] = np.array(gains) * [1, 1, 20, 20, 20] / weights.scale_out[:5]
    wanted_leak[:5] = leaks
    tables = encode_tables(segment(wanted_gain, wanted_leak), weights, SPEC)
    assert tables.gain_range.tolist() == [0, 0] + [1] * 46
    for row in range(5):
        scale = STATE if row < 2 else HIDDEN
        step = math.log(scale.high / scale.low) / 254
        assert abs(math.log(tables.gain[0, row] / wanted_gain[row])) <= step / 2 + 1e-9
        code = tables.gain_codes[0, row]
        exact = scale.low * (scale.high / scale.low) ** ((code - 1) / 254) / weights.scale_out[row]
        assert tables.gain[0, row] == pytest.approx(exact, rel=1e-12)
    np.testing.assert_allclose(tables.leak, wanted_leak, atol=0.5 / 255 + 1e-12)
    np.testing.assert_allclose(tables.leak, tables.leak_codes / 255)
    assert tables.coercions == ()


def test_gain_zero_is_code_zero_and_exactly_off(weights):
    gain = np.full(48, 0.3)
    gain[:2] = 0.0
    tables = encode_tables(segment(gain), weights, SPEC)
    assert tables.gain_codes[0, :2].tolist() == [0, 0]
    assert tables.gain[0, :2].tolist() == [0.0, 0.0]
    assert tables.coercions == ()


@pytest.mark.parametrize("bad", [-1e-6, -1.0, np.nan, np.inf])
def test_negative_or_unreal_gains_are_refused(weights, bad):
    gain = np.full(48, 0.3)
    gain[3] = bad
    with pytest.raises(ProgramError, match=r"a row gain is .*; allowed: 0 or more, finite"):
        encode_tables(segment(gain), weights, SPEC)


@pytest.mark.parametrize("bad", [-0.01, 1.01, np.nan])
def test_leaks_outside_zero_to_one_are_refused(weights, bad):
    leak = np.ones(48)
    leak[7] = bad
    with pytest.raises(ProgramError, match=f"a leak is {bad}; allowed: 0 to 1"):
        encode_tables(segment(leak=leak), weights, SPEC)


def test_gains_beyond_the_scale_go_to_its_end_and_are_reported(weights):
    gain = np.full(48, 0.3)
    gain[1], gain[2], gain[3] = (
        5.0 / weights.scale_out[1],
        1e-4 / weights.scale_out[2],
        25.0 / weights.scale_out[3],
    )
    tables = encode_tables(segment(gain), weights, SPEC)
    assert tables.gain_codes[0, 1:4].tolist() == [255, 1, 255]
    by_field = {note.field: note for note in tables.coercions}
    assert set(by_field) == {"row gain u", "row gain h"}
    assert (by_field["row gain u"].requested, by_field["row gain u"].applied) == pytest.approx((5.0, 1.0))
    # the worst of two: 1e-4 to 0.02 is a factor of 200
    assert (by_field["row gain h"].requested, by_field["row gain h"].applied) == pytest.approx((1e-4, 0.02))
    assert by_field["row gain h"].count == 2
    assert "asked 0.0001, applied 0.02" in str(by_field["row gain h"])


@given(value=st.floats(-3.8, 3.8), bits=st.integers(2, 16))
def test_dac_codes_are_within_half_a_step(value, bits):
    converter = Converter(bits, 3.8)
    codes, clipped, note = to_codes(np.array([[value]]), converter, "bias")
    assert abs(codes[0, 0] * 3.8 / (2 ** (bits - 1) - 1) - value) <= 0.5 * 3.8 / (2 ** (bits - 1) - 1) + 1e-12
    assert not clipped.any()
    assert note is None


def test_dac_codes_beyond_the_range_are_clipped_and_told():
    values = np.array([[0.5, -3.9, 3.8], [4.5, 0.0, -3.8]])
    codes, clipped, note = to_codes(values, Converter(14, 3.8), "bias")
    assert codes.tolist()[1] == [8191, 0, -8191]
    assert codes[0, 1] == -8191
    np.testing.assert_array_equal(clipped, [[False, True, False], [True, False, False]])
    assert (note.field, note.requested, note.applied, note.count) == ("bias", 4.5, pytest.approx(3.8), 2)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_value_that_is_no_number_has_no_code(bad):
    with pytest.raises(ProgramError, match=f"bias is {bad}; allowed: finite numbers"):
        to_codes(np.array([[0.1, bad]]), Converter(14, 3.8), "bias")


def test_what_the_light_gives_less_the_gain_gives_more(weights):
    """A weight fraction of 1 that gives a quarter of the current needs four times the gain; the law stays."""
    plain = encode_tables(segment(0.16), weights, SPEC)
    dim = encode_tables(segment(0.16), weights, SPEC, full_scale_units=0.25)
    values = [SPEC.gain_value(tables.gain_codes, tables.gain_range) for tables in (plain, dim)]
    ratio = values[1] / values[0]
    np.testing.assert_allclose(ratio, 4.0, rtol=0.06)
    np.testing.assert_allclose(dim.gain, plain.gain, rtol=0.06)
    np.testing.assert_array_equal(dim.leak_codes, plain.leak_codes)
