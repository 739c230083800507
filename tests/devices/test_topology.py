"""Wirings: counted by hand, sorted, hashed by what is wired, refused where they make no sense."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labctl.devices import ProgramError, Topology, all_to_all, grid, king, of_edges


def pairs_of(topology: Topology) -> set[tuple[int, int]]:
    return set(zip(topology.target.tolist(), topology.source.tolist(), strict=True))


def test_grid_of_radius_two_has_the_prototypes_edges() -> None:
    # 64 oscillators, 1092 directed couplings: counted in the prototype study
    topology = grid(8, 8, 2)
    assert (topology.n, topology.n_edges, topology.n_hidden) == (64, 1092, 0)
    assert topology.sites is not None
    assert topology.sites[9].tolist() == [1.0, 1.0]


def test_king_is_the_grid_of_radius_one() -> None:
    assert king(5, 7).hash == grid(5, 7, 1.0).hash
    assert king(5, 7).kind == "king"
    inner = 3 * 7 + 3
    assert (king(7, 7).target == inner).sum() == 8


def test_hidden_sites_stand_at_cell_centres_after_the_visible_ones() -> None:
    full = grid(8, 8, 1.5, hidden_share=1.0)
    assert (full.n_visible, full.n_hidden) == (64, 49)
    assert full.sites is not None
    assert (full.sites[64:] % 1 == 0.5).all()
    heard = full.source[
        full.target == 64
    ]  # a corner's centre: 12 visible sites within 1.5, 3 hidden within 1
    distance = np.abs(full.sites[heard] - full.sites[64]).max(axis=1)
    assert distance.max() <= 1.5
    half = grid(8, 8, 1.5, hidden_share=0.5)
    assert half.n_hidden == round(0.5 * 49)
    assert half.sites is not None
    # evenly spread: every quadrant of the grid has its share, within two
    quadrants = [(half.sites[64:] > 3.5) @ [1, 2] == q for q in range(4)]
    assert all(abs(int(q.sum()) - half.n_hidden / 4) <= 3 for q in quadrants)


@given(st.integers(1, 6), st.integers(1, 6), st.sampled_from([0.5, 1, 1.5, 2, 3]), st.floats(0, 1))
def test_a_grid_is_symmetric_sorted_and_within_its_radius(
    rows: int, columns: int, radius: float, share: float
) -> None:
    topology = grid(rows, columns, radius, share)
    pairs = pairs_of(topology)
    assert {(s, t) for t, s in pairs} == pairs
    keys = topology.target.astype(np.int64) * topology.n + topology.source
    assert (np.diff(keys) > 0).all()
    assert topology.sites is not None
    distance = np.abs(topology.sites[:, None] - topology.sites[None]).max(axis=2)
    assert topology.n_edges == (distance <= radius).sum() - topology.n


def test_all_to_all_and_explicit_edges() -> None:
    assert all_to_all(5).n_edges == 20
    given_pairs = [(2, 0), (0, 1), (2, 1)]
    topology = of_edges(3, given_pairs)
    assert pairs_of(topology) == set(given_pairs)
    assert topology.hash == of_edges(3, list(reversed(given_pairs))).hash
    assert topology.hash != of_edges(4, given_pairs).hash
    assert all_to_all(3).hash == of_edges(3, [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)]).hash
    assert of_edges(2, []).n_edges == 0


def test_an_edge_is_found_by_its_ends_and_named() -> None:
    topology = grid(3, 3, 1)
    found = topology.index(topology.target, topology.source)
    assert found.tolist() == list(range(topology.n_edges))
    assert topology.name(0) == "edge 0 (1 to 0)"
    with pytest.raises(ProgramError, match="no edge lets oscillator 0 hear 8"):
        topology.index([0], [8])
    with pytest.raises(ProgramError, match="allowed: 0 to 8"):
        topology.index([0], [9])


def test_arrays_are_its_own() -> None:
    target = np.array([0, 1])
    topology = Topology("edges", 2, target, np.array([1, 0]))
    target[0] = 1
    assert topology.target.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: grid(0, 3, 1), "rows is 0; allowed: 1 to 256"),
        (lambda: grid(3, 3, -1), "radius is -1"),
        (lambda: grid(3, 3, float("nan")), "radius is nan"),
        (lambda: grid(3, 3, 1, 1.5), "hidden_share is 1.5; allowed: 0 to 1"),
        (lambda: all_to_all(0), "n is 0"),
        (lambda: of_edges(3, [(0, 3)]), "oscillator 3; allowed: 0 to 2"),
        (lambda: of_edges(3, [(0, 2**32)]), "allowed: 0 to 2"),
        (lambda: of_edges(3, [(1, 1)]), "oscillator 1 hears itself"),
        (lambda: of_edges(3, [(0, 1), (0, 1)]), "a double or out of order"),
        (lambda: Topology("edges", 2, np.array([0.5]), np.array([1])), "target is float64"),
        (lambda: Topology("edges", 3, np.array([1, 0]), np.array([0, 1])), "out of order"),
        (lambda: Topology("edges", 3, np.array([0, 1]), np.array([1])), "2 targets and 1 sources"),
        (lambda: Topology("edges", 2, np.array([0]), np.array([1]), np.zeros((3, 2))), "sites have shape"),
        (lambda: Topology("edges", 2, np.array([0]), np.array([1]), n_hidden=2), "n_hidden is 2"),
    ],
)
def test_what_makes_no_sense_is_refused(make: Any, message: str) -> None:
    with pytest.raises(ProgramError) as error:
        make()
    assert message in str(error.value)
