"""Codes by output error: never worse than the nearest, exact where a search can be exhaustive."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labctl.devices import ProgramError
from labctl.programs import encode, search_codes


def problem(seed, rows, columns, variables):
    """Weights, and moments of inputs that follow a few variables."""
    rng = np.random.default_rng(seed)
    weights = rng.uniform(-1, 1, (rows, columns))
    inputs = rng.standard_normal((200, variables)) @ rng.standard_normal((variables, columns))
    inputs += 0.05 * rng.standard_normal(inputs.shape)
    return weights, np.tile(inputs.T @ inputs / len(inputs), (rows, 1, 1))


def cost(coded, weights, moments):
    left = coded.weights() - weights
    return np.einsum("ri,rij,rj->r", left, moments, left)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 6), st.integers(1, 4), st.integers(2, 12), st.integers(1, 12))
def test_it_costs_no_more_than_the_nearest_codes(seed, bits, rows, columns, variables):
    weights, moments = problem(seed, rows, columns, variables)
    searched, nearest = search_codes(weights, bits, moments), encode(weights, bits)
    least = cost(nearest, weights, moments)
    ridge = 1e-3 * np.trace(moments, axis1=1, axis2=2) / columns  # the search's own, for idle directions
    idle = ridge * ((nearest.weights() - weights) ** 2).sum(axis=1)
    assert (cost(searched, weights, moments) <= least + idle).all()


def test_errors_of_inputs_that_move_together_cancel():
    weights, moments = problem(3, 8, 16, 2)
    searched, nearest = search_codes(weights, 4, moments), encode(weights, 4)
    assert cost(searched, weights, moments).sum() < 0.1 * cost(nearest, weights, moments).sum()


def test_small_problems_are_solved_as_an_exhaustive_search_does():
    weights, moments = problem(5, 6, 3, 2)
    searched = search_codes(weights, 3, moments)
    ridge = 1e-3 * np.trace(moments, axis1=1, axis2=2) / 3
    full = moments + ridge[:, None, None] * np.eye(3)
    tried = np.array(list(itertools.product(range(-3, 4), repeat=3)))
    for row in range(6):
        left = searched.scale[row] * tried / 3 - weights[row]  # at the scale it chose
        best = np.einsum("ki,ij,kj->k", left, full[row], left).min()
        mine = searched.weights()[row] - weights[row]
        assert mine @ full[row] @ mine == pytest.approx(best, rel=1e-6)


def test_what_it_does_not_do_is_refused():
    weights, moments = problem(1, 2, 3, 3)
    with pytest.raises(ProgramError, match="bits = 1"):
        search_codes(weights, 1, moments)
    with pytest.raises(ProgramError, match="moments of shape"):
        search_codes(weights, 4, moments[:1])
