"""Philox 4x32-10 against the published vectors, and what counter-based draws promise."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from labctl.physics import Stream

WORD = 0xFFFFFFFF


def philox4x32_10(counter, key):
    """Salmon et al., SC'11, section 3.3, in plain Python integers."""
    c, k = list(counter), list(key)
    for _ in range(10):
        high0, low0 = divmod(0xD2511F53 * c[0], 2**32)
        high1, low1 = divmod(0xCD9E8D57 * c[2], 2**32)
        c = [high1 ^ c[1] ^ k[0], low1, high0 ^ c[3] ^ k[1], low0]
        k = [(k[0] + 0x9E3779B9) & WORD, (k[1] + 0xBB67AE85) & WORD]
    return c


# kat_vectors of the Random123 distribution, philox4x32 10
KNOWN = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


def hexes(text):
    return [int(word, 16) for word in text.split()]


class FixedKey(Stream):
    """A stream whose key is given instead of digested."""

    def key(self):
        return self.seed & WORD, self.seed >> 32


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN)
def test_the_reference_in_this_file_gives_the_published_vectors(counter, key, expected):
    assert philox4x32_10(hexes(counter), hexes(key)) == hexes(expected)


def test_the_published_zero_vector_comes_out_of_a_stream():
    words = FixedKey(0, "", "").words(np.array([0]), 4)
    assert [int(w) for w in words[0]] == hexes(KNOWN[0][2])


@given(
    key=st.integers(0, 2**64 - 1),
    sample=st.integers(0, WORD),
    step=st.integers(0, WORD),
    substep=st.integers(0, WORD),
    channels=st.integers(1, 19),
)
def test_words_are_philox_on_the_counter_sample_step_substep_block(key, sample, step, substep, channels):
    words = FixedKey(key, "", "").words(np.array([sample]), channels, step=step, substep=substep)[0]
    blocks = math.ceil(channels / 4)
    expected = [philox4x32_10((sample, step, substep, b), (key & WORD, key >> 32)) for b in range(blocks)]
    assert [int(w) for w in words] == [w for block in expected for w in block]


def test_seed_device_and_name_each_choose_another_stream():
    streams = [Stream(1, "a", "x"), Stream(2, "a", "x"), Stream(1, "b", "x"), Stream(1, "a", "y")]
    draws = {tuple(s.words(np.array([0]), 4)[0].tolist()) for s in streams}
    assert len(draws) == 4
    assert Stream(1, "ab", "c").key() != Stream(1, "a", "bc").key()


def test_a_sample_draws_the_same_alone_in_any_batch_in_any_order():
    stream = Stream(3, "electronics", "loop")
    together = stream.normal(np.arange(50), 48, step=7, substep=9)
    order = np.random.default_rng(0).permutation(50)
    assert torch.equal(stream.normal(order, 48, step=7, substep=9), together[order])
    assert torch.equal(stream.normal(np.array([17]), 48, step=7, substep=9)[0], together[17])


def test_a_draw_does_not_depend_on_what_was_drawn_before():
    stream = Stream(3, "electronics", "loop")
    before = stream.normal(np.arange(4), 6, step=2)
    for step in range(5):
        stream.normal(np.arange(9), 12, step=step)
    assert torch.equal(stream.normal(np.arange(4), 6, step=2), before)


def test_normals_are_box_muller_of_the_words():
    """Words (w0, w2) and (w1, w3) of each counter: sqrt(-2 ln u) (cos, sin)(2 pi v), 23 bits each."""
    stream, samples = Stream(9, "d", "n"), np.arange(400)
    words = stream.words(samples, 8, step=3).reshape(400, 2, 4)
    unit = ((words >> 9) + 0.5) / 2.0**23
    radius, angle = np.sqrt(-2 * np.log(unit[:, :, :2])), 2 * np.pi * unit[:, :, 2:]
    expected = np.stack([radius * np.cos(angle), radius * np.sin(angle)]).transpose(1, 0, 2, 3)
    draws = stream.normal(samples, 8, step=3).numpy()
    np.testing.assert_allclose(np.sort(draws), np.sort(expected.reshape(400, 8)), atol=2e-5)


@pytest.mark.parametrize("extreme", [0, WORD])
def test_extreme_words_give_finite_normals(extreme, monkeypatch):
    """The logarithm's and the angle's ends: u = 2^-24 and 1 - 2^-24."""

    def words(self, sample_id, channels, step, substep):
        other = np.array([[0, 2**30, 2**31, WORD]], np.uint32)
        return (np.full((1, 4), extreme, np.uint32), other) if step == 0 else (other, other[:, ::-1].copy())

    monkeypatch.setattr(Stream, "_words", words)
    for step in (0, 1):
        radius, angle = words(None, None, None, step, 0)
        unit, turn = (((w >> 9) + 0.5) / 2.0**23 for w in (radius, angle))
        size = np.sqrt(-2 * np.log(unit))
        expected = np.concatenate([size * np.cos(2 * np.pi * turn), size * np.sin(2 * np.pi * turn)], axis=1)
        draws = Stream(0, "", "").normal(np.array([0]), 8, step=step).numpy()
        np.testing.assert_allclose(draws, expected, atol=2e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_normals_are_standard_and_uncorrelated(dtype):
    draws = Stream(11, "d", "n").normal(np.arange(20_000), 8, dtype=dtype).numpy().astype(np.float64)
    total = draws.size
    assert abs(draws.mean()) < 5 / math.sqrt(total)
    assert abs(draws.var() - 1) < 5 * math.sqrt(2 / total)
    assert abs((draws**3).mean()) < 5 * math.sqrt(15 / total)
    assert abs((draws**4).mean() - 3) < 5 * math.sqrt(96 / total)
    correlation = np.corrcoef(draws.T) - np.eye(8)
    assert np.abs(correlation).max() < 5 / math.sqrt(len(draws))
    assert np.isfinite(draws).all()
    # tails: P(|x| > 3) = 2.6998e-3
    assert abs((np.abs(draws) > 3).mean() - 2.6998e-3) < 5 * math.sqrt(2.7e-3 / total)


@pytest.mark.parametrize("other", [{"step": 1}, {"substep": 1}])
def test_steps_and_substeps_are_independent(other):
    stream = Stream(5, "d", "n")
    a = stream.normal(np.arange(40_000), 1).numpy()[:, 0]
    b = stream.normal(np.arange(40_000), 1, **other).numpy()[:, 0]
    assert abs(np.corrcoef(a, b)[0, 1]) < 5 / math.sqrt(len(a))
