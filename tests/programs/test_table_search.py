"""Codes from tables of values: what the search finds, against every combination."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from labctl.devices import ProgramError
from labctl.programs.table_search import search_tables


def test_the_search_comes_close_to_every_combination_tried() -> None:
    rng = np.random.default_rng(0)
    rows, m, levels = 12, 4, 5
    x = rng.normal(size=(rows, 30, m)) + rng.normal(
        size=(rows, 30, 1)
    )  # correlated: nearest codes are not best
    gram = x.transpose(0, 2, 1) @ x / 30
    values = np.sort(rng.normal(size=(rows, m, levels)), axis=2)
    right = (gram @ rng.normal(size=(rows, m, 1)))[:, :, 0]
    entries, costs = search_tables(gram, right, values, np.full((rows, m), levels))
    exact = 0
    for r in range(rows):
        best = min(
            float(v @ gram[r] @ v - 2 * right[r] @ v)
            for v in (values[r, range(m), k] for k in itertools.product(range(levels), repeat=m))
        )
        own = values[r, range(m), entries[r]]
        assert costs[r] == pytest.approx(own @ gram[r] @ own - 2 * right[r] @ own)
        assert costs[r] < best + 0.1 * abs(best)
        exact += costs[r] < best + 1e-9
    assert exact >= rows // 2


def test_a_table_of_one_entry_is_left_alone() -> None:
    values = np.array([[[0.3, 9.0], [-1.0, 1.0]]])
    entries, _ = search_tables(np.eye(2)[None], np.array([[5.0, 0.9]]), values, np.array([[1, 2]]))
    assert entries.tolist() == [[0, 1]]


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ProgramError, match="gram of shape"):
        search_tables(np.eye(3)[None], np.zeros((1, 2)), np.zeros((1, 2, 4)), np.ones((1, 2), np.int64))
