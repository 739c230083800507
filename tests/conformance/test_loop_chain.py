"""What every sequencer promises: a chain is its settles one by one, with the stated sums in whole words.

The sums are worked out here in Python's exact integers and fractions.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from labctl.devices import ChainCodes, DeviceValueError, SettleCodes

ROWS = (0, 5)


def chain_codes(spec, steps=3, batch=4, classes=2, seed=0, adds=True):
    """A chain whose codes are anything that the sequencer takes."""
    rng = np.random.default_rng(seed)
    n, top, r = spec.n_channels, spec.dac.max_code, len(ROWS)
    word, factor = 2**spec.chain.fraction_bits, 2**spec.chain.coefficient_fraction_bits

    def words(size):
        return (rng.uniform(-0.4, 0.4, size) * top * word).astype(np.int64)

    def factors(size):
        return (rng.uniform(-1.5, 1.5, size) * factor).astype(np.int64)

    return ChainCodes(
        bias=rng.integers(-top // 4, top // 4, (steps, classes, n)),
        gain=rng.integers(0, 20, (steps, classes, n)),
        leak=rng.integers(spec.max_leak_code // 2, spec.max_leak_code + 1, (steps, n)),
        gain_range=rng.integers(0, 2, (steps, n)),
        rows=np.array(ROWS),
        base=words((steps, classes, r)),
        register=words((batch, r)),
        start=rng.integers(-top // 4, top // 4, (batch, n)),
        inject_state=factors(steps - 1),
        inject_register=factors(steps - 1),
        start_state=factors(steps - 1),
        start_register=factors(steps - 1),
        table=rng.integers(0, classes, batch),
        step_ids=np.arange(7, 7 + steps),
        sample_id=np.arange(batch) + 30,
        inject_add=words((steps - 1, batch, r)) // 8 if adds else None,
        start_add=words((steps - 1, batch, r)) // 8 if adds else None,
    )


def nearest(value):
    """Round half to even, exactly."""
    return round(Fraction(value))


def by_hand(device, codes):
    """(read-outs, registers, presets) with every settle given by the host and every sum formed exactly."""
    spec = device.spec
    word, factor = 2**spec.chain.fraction_bits, 2**spec.chain.coefficient_fraction_bits
    top = spec.dac.max_code
    register, start = codes.register.copy(), codes.start.copy()
    out, registers, starts = [], [], []
    for k in range(len(codes.step_ids)):
        bias = codes.bias[k][codes.table]
        for b in range(len(register)):
            for i, row in enumerate(ROWS):
                wanted = nearest(Fraction(int(codes.base[k, codes.table[b], i]) + int(register[b, i]), word))
                bias[b, row] = max(-top, min(top, wanted))
        registers.append(register.copy())
        starts.append(start.copy())
        readout = device.settle(
            SettleCodes(bias, codes.gain[k][codes.table], codes.leak[k][None], codes.gain_range[k], start,
                        int(codes.step_ids[k]), codes.sample_id)
        )  # fmt: skip
        out.append(readout)
        if k == len(codes.step_ids) - 1:
            break
        # a window's mean in DAC steps, as exactly as the counts are given
        state = readout.counts * spec.adc.units_per_code * (1.0 / spec.dac.units_per_code)
        new_register, start = register.copy(), np.clip(np.rint(state), -top, top).astype(np.int64)
        for b in range(len(register)):
            for i, row in enumerate(ROWS):
                z, v = Fraction(state[b, row]) * word, int(register[b, i])

                def total(of_state, of_register, add, z=z, v=v, b=b, i=i, k=k):
                    exact = (z * int(of_state[k]) + v * int(of_register[k])) / factor
                    return exact + (0 if add is None else int(add[k, b, i]))

                new_register[b, i] = nearest(
                    total(codes.inject_state, codes.inject_register, codes.inject_add)
                )
                preset = nearest(total(codes.start_state, codes.start_register, codes.start_add))
                start[b, row] = max(-top, min(top, nearest(Fraction(preset, word))))
        register = new_register
    return out, registers, starts


@pytest.mark.parametrize("adds", [True, False])
def test_a_chain_is_its_settles_one_by_one(chain_case, opened, adds):
    probe = opened(chain_case, seed=4, noise_scale=1.0).device
    codes = chain_codes(probe.spec, adds=adds)
    expected, registers, starts = by_hand(probe, codes)
    readout = opened(chain_case, seed=4, noise_scale=1.0).device.run_chain(codes)
    # double precision holds 53 bits of a sum, so that the last bit of an ideal machine's words may differ
    slack = 2 if chain_case.notes["profile"] == "ideal" else 0
    assert np.abs(readout.register - np.stack(registers)).max() <= slack
    assert np.abs(readout.start - np.stack(starts)).max() <= slack
    for ours, theirs in zip(readout.settles, expected, strict=True):
        np.testing.assert_allclose(ours.counts, theirs.counts, atol=slack * 10)
        np.testing.assert_array_equal(ours.adc_clipped, theirs.adc_clipped)
        assert (ours.wait_us, ours.window_us) == (theirs.wait_us, theirs.window_us)


def test_a_bias_beyond_the_dac_stays_at_its_end_and_is_reported(chain_case, opened):
    device = opened(chain_case).device
    codes = chain_codes(device.spec, adds=False)
    top = device.spec.dac.max_code * 2**device.spec.chain.fraction_bits
    register = codes.register.copy()
    register[2, 1] = 3 * top
    readout = device.run_chain(replace(codes, register=register))
    assert readout.bias_clipped.shape == (3, 4, len(ROWS))
    assert np.argwhere(readout.bias_clipped[0]).tolist() == [[2, 1]]


def test_a_chain_takes_its_settles_time_and_no_more(chain_case, opened):
    subject = opened(chain_case)
    spec = subject.device.spec
    before = subject.probe()["clock_us"]
    subject.device.run_chain(chain_codes(spec, steps=5, batch=3))
    assert subject.probe()["clock_us"] - before == pytest.approx(5 * 3 * (spec.wait_us + spec.window_us))


def test_a_chain_of_one_settle(chain_case, opened):
    device = opened(chain_case).device
    readout = device.run_chain(chain_codes(device.spec, steps=1, adds=False))
    assert len(readout.settles) == 1


@pytest.mark.parametrize(
    ("field", "spoil"),
    [
        ("bias", lambda c, s: replace(c, bias=c.bias + s.dac.max_code)),
        ("gain", lambda c, s: replace(c, gain=c.gain[:1])),
        ("leak", lambda c, s: replace(c, leak=c.leak - s.max_leak_code - 1)),
        ("gain_range", lambda c, s: replace(c, gain_range=c.gain_range + 2)),
        ("rows", lambda c, s: replace(c, rows=c.rows + s.n_channels)),
        ("base", lambda c, s: replace(c, base=c.base[..., :1])),
        ("register", lambda c, s: replace(c, register=c.register + s.chain.max_word(s.dac))),
        ("register", lambda c, s: replace(c, register=c.register.astype(float))),
        ("start", lambda c, s: replace(c, start=c.start[:1])),
        ("inject_state", lambda c, s: replace(c, inject_state=c.inject_state[:1])),
        ("start_register", lambda c, s: replace(c, start_register=0 * c.table[:2] + 2**60)),
        ("table", lambda c, s: replace(c, table=c.table + 2)),
        ("step_ids", lambda c, s: replace(c, step_ids=c.step_ids - 100)),
        ("sample_id", lambda c, s: replace(c, sample_id=c.sample_id[:2])),
        ("inject_add", lambda c, s: replace(c, inject_add=c.inject_add[:, :1])),
        ("chain", lambda c, s: replace(c, step_ids=np.arange(s.chain.depth + 1))),
        ("queue", lambda c, s: replace(c, register=np.zeros((s.max_queue + 1, 2), np.int64))),
    ],
)  # fmt: skip
def test_wrong_chains_are_refused_before_anything_moves(chain_case, opened, unchanged, field, spoil):
    subject = opened(chain_case)
    spec = subject.device.spec
    before = subject.probe()
    with pytest.raises(DeviceValueError, match=f"run_chain: .*{field} .*allowed|run_chain: {field} must"):
        subject.device.run_chain(spoil(chain_codes(spec), spec))
    unchanged(before, subject.probe())
