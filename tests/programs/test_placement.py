"""Block-cyclic placement against matrices written out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labctl.devices import ProgramError
from labctl.programs import CodedMatrix, Placement, encode, place

SIZES = st.lists(st.integers(1, 9), min_size=2, max_size=5)


def matrices_of(sizes, seed=0):
    rng = np.random.default_rng(seed)
    feeds = zip((*sizes[1:], sizes[0]), sizes, strict=True)
    return [rng.normal(size=shape) for shape in feeds]


def dense(sizes, matrices, n):
    """W_l from each layer's columns to the next layer's rows, entry by entry; W_out back to u."""
    out = np.zeros((n, n))
    starts = np.concatenate([[0], np.cumsum(sizes)])
    for layer, matrix in enumerate(matrices):
        target = (layer + 1) % len(sizes)
        for i in range(sizes[target]):
            for j in range(sizes[layer]):
                out[starts[target] + i, starts[layer] + j] = matrix[i, j]
    return out


@given(sizes=SIZES, spare=st.integers(0, 5), seed=st.integers(0, 99))
def test_any_network_lies_block_cyclic_with_zeros_elsewhere(sizes, spare, seed):
    matrices = matrices_of(sizes, seed)
    placed = place(matrices, sum(sizes) + spare)
    expected = dense(sizes, matrices, sum(sizes) + spare)
    np.testing.assert_allclose(placed.weights, expected, rtol=1e-14)
    np.testing.assert_array_equal(placed.placement.mask, expected != 0)
    assert placed.placement.n_weights == sum(m.size for m in matrices)
    assert np.abs(placed.fractions).max() <= 1
    used = slice(0, sum(sizes))
    np.testing.assert_allclose(np.abs(placed.fractions).max(axis=1)[used], 1.0, rtol=1e-15)
    assert (placed.scale_out > 0).all()
    assert placed.codes is None
    assert placed.bits is None


@given(sizes=SIZES, bits=st.integers(2, 9), seed=st.integers(0, 99))
def test_codes_keep_their_rows_scales(sizes, bits, seed):
    coded = [encode(m, bits) for m in matrices_of(sizes, seed)]
    placed = place(coded, sum(sizes))
    np.testing.assert_allclose(placed.weights, dense(sizes, [c.weights() for c in coded], sum(sizes)))
    np.testing.assert_array_equal(placed.codes, dense(sizes, [c.codes for c in coded], sum(sizes)))
    assert placed.bits == bits
    np.testing.assert_allclose(placed.fractions * (2 ** (bits - 1) - 1), placed.codes, atol=1e-12)


@given(sizes=SIZES)
def test_one_step_of_the_placed_matrix_is_one_layer_of_the_network(sizes):
    """phi(z) @ W.T moves each block's content on by one layer, around the cycle."""
    matrices = matrices_of(sizes)
    placed = place(matrices, sum(sizes))
    z = np.random.default_rng(1).normal(size=sum(sizes))
    moved = placed.weights @ np.tanh(z)
    for layer, matrix in enumerate(matrices):
        here = z[placed.placement.block(layer)]
        there = moved[placed.placement.block((layer + 1) % len(sizes))]
        np.testing.assert_allclose(there, matrix @ np.tanh(here), atol=1e-12)


def test_spread_lays_row_tables_where_their_matrices_write():
    placement = Placement((2, 3, 1), 8)
    tables = [np.full((4, 3), 1.0), np.full((4, 1), 2.0), np.full((4, 2), 3.0)]  # of W_1, W_2, W_out
    np.testing.assert_array_equal(placement.spread(tables, fill=9.0), [[3, 3, 1, 1, 1, 2, 9, 9]] * 4)


def test_state_and_last_hidden_rows():
    placement = Placement((2, 5, 4), 48)
    assert (placement.state, placement.last_hidden) == (slice(0, 2), slice(7, 11))


@pytest.mark.parametrize("sizes", [(2, 23, 24), (25, 24), (47, 1, 1)])
def test_a_network_larger_than_the_machine_is_refused_with_numbers(sizes):
    message = rf"network \[{', '.join(map(str, sizes))}\] needs {sum(sizes)} variables; this machine has 48"
    with pytest.raises(ProgramError, match=message):
        place(matrices_of(sizes), 48)
    place(matrices_of(sizes), 49)


@pytest.mark.parametrize("sizes", [(), (3,), (2, 0), (2, -1)])
def test_a_network_without_a_hidden_layer_or_with_an_empty_one_is_refused(sizes):
    with pytest.raises(ProgramError, match="layer sizes are"):
        Placement(sizes, 48)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_weights_that_are_no_numbers_are_refused_with_their_place(bad):
    matrices = matrices_of((2, 3))
    matrices[1][1, 2] = bad
    with pytest.raises(ProgramError, match=f"weight at row 1, column 2 is {bad}"):
        place(matrices, 48)


def test_matrices_that_do_not_chain_or_mix_kinds_are_refused():
    first, second = matrices_of((2, 3))
    with pytest.raises(ProgramError, match=r"matrix 2 is \(3, 3\); allowed: 2 rows"):
        place([first, np.ones((3, 3))], 48)
    with pytest.raises(ProgramError, match="allowed: one kind"):
        place([encode(first, 4), second], 48)
    with pytest.raises(ProgramError, match="allowed: one kind"):
        place([encode(first, 4), encode(second, 5)], 48)


def test_an_empty_row_is_dark_and_harms_nobody():
    first, second = matrices_of((2, 3))
    first[1] = 0.0
    placed = place([first, second], 8)
    assert not placed.fractions[3].any()
    np.testing.assert_allclose(placed.weights, dense((2, 3), [first, second], 8))
    zero = CodedMatrix(np.zeros((3, 2), np.int16), np.ones(3), 4)
    assert not place([zero, encode(second, 4)], 8).fractions[2:5].any()
