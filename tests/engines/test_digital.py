"""The reference against MINPACK, its two solvers against each other, and what it says of hard maps."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import root

from labctl.devices import Outcome
from labctl.engines import Batch, DigitalEngine, contraction, law_of
from labctl.programs import place

N = 14


def loop(sizes=(2, 5, 4), seed=0, strength=0.6):
    rng = np.random.default_rng(seed)
    feeds = zip((*sizes[1:], sizes[0]), sizes, strict=True)
    return place([strength * rng.normal(size=shape) for shape in feeds], N)


def batch_of(inject, start=None, labels=None):
    inject = np.asarray(inject, float)
    size = len(inject)
    return Batch(inject, np.zeros((size, N)) if start is None else start, labels, np.arange(size), 0)


def slope(program, segment, inject, z):
    bias = segment.bias[0].copy()
    bias[: len(inject)] += segment.inject_scale * inject
    return segment.gain[0] * (program.weights.weights @ np.tanh(z)) + bias - segment.leak * z


@pytest.mark.parametrize("method", ["picard", "anderson"])
@pytest.mark.parametrize("seed", range(5))
def test_roots_are_scipys_roots(one_segment, method, seed):
    rng = np.random.default_rng(seed)
    program, segment = one_segment(
        loop(seed=seed), gain=rng.uniform(0.3, 1.0, N), leak=rng.uniform(0.4, 1, N), bias=rng.normal(size=N)
    )
    inject = rng.normal(size=(7, 2))
    engine = DigitalEngine(N, method=method, tolerance=1e-12)
    engine.load(program)
    result = engine.solve(segment, batch_of(inject))
    for b in range(7):
        found = root(lambda z, b=b: slope(program, segment, inject[b], z), np.zeros(N), tol=1e-13)
        assert found.success
        np.testing.assert_allclose(result.z[b], found.x, atol=1e-10)
    assert (result.outcome == Outcome.CONVERGED).all()
    assert result.residual_norm.max() < 1e-11
    assert result.iterations.min() > 0
    assert result.ledger.host_macs == np.count_nonzero(program.weights.weights) * result.iterations.sum()


def test_anderson_needs_fewer_evaluations_where_both_contract(one_segment):
    program, segment = one_segment(loop(strength=0.75), bias=0.1)
    inject = np.random.default_rng(0).normal(size=(7, 2))
    counts = {}
    for method in ("picard", "anderson"):
        engine = DigitalEngine(N, method=method)
        engine.load(program)
        counts[method] = engine.solve(segment, batch_of(inject)).iterations.max()
    assert counts["anderson"] < counts["picard"]


def test_a_sample_is_solved_the_same_in_any_company(one_segment):
    program, segment = one_segment(loop())
    inject = np.random.default_rng(0).normal(size=(9, 2)) * np.geomspace(0.01, 10, 9)[:, None]
    engine = DigitalEngine(N)
    engine.load(program)
    together = engine.solve(segment, batch_of(inject))
    for b in (0, 4, 8):
        alone = engine.solve(segment, batch_of(inject[[b]]))
        np.testing.assert_allclose(alone.z[0], together.z[b], atol=1e-12)
        assert alone.iterations[0] == together.iterations[b]


def bistable(one_segment, gain=3.0):
    """u = gain tanh(h), h = u: three roots, the middle one unstable."""
    return one_segment(place([np.eye(1), np.eye(1)], N), gain=[gain, 1.0] + [0.0] * (N - 2))


def test_picard_follows_the_basin_of_its_start(one_segment):
    program, segment = bistable(one_segment)
    engine = DigitalEngine(N)
    engine.load(program)
    start = np.zeros((3, N))
    start[:, :2] = [[0.1, 0.1], [-0.1, -0.1], [0.0, 0.0]]
    z = engine.solve(segment, batch_of(np.zeros((3, 1)), start)).z[:, 0]
    upper = root(lambda u: 3 * np.tanh(np.tanh(u)) - u, 2.0).x[0]
    np.testing.assert_allclose(z, [upper, -upper, 0.0], atol=1e-9)


def test_undamped_iteration_would_cycle_where_the_loop_settles(one_segment):
    """A negative eigenvalue of -1.5: delta = 0.4 finds the root, delta = 1 does not and says so."""
    program, segment = one_segment(place([np.eye(1), -np.eye(1)], N), gain=[1.5, 1.5] + [0.0] * (N - 2))
    start = np.zeros((1, N))
    start[0, 0] = 0.5
    for delta, outcome in ((0.4, Outcome.CONVERGED), (1.0, Outcome.MAX_TIME)):
        engine = DigitalEngine(N, delta=delta, max_iterations=2000)
        engine.load(program)
        result = engine.solve(segment, batch_of(np.zeros((1, 1)), start))
        assert result.outcome[0] == outcome
        assert (np.abs(result.z[0]).max() < 1e-8) == (outcome == Outcome.CONVERGED)
        assert (result.step_norm[0] < 1e-8) == (outcome == Outcome.CONVERGED)


def test_too_few_iterations_are_told_and_infinity_is_divergence(one_segment):
    program, segment = one_segment(loop())
    engine = DigitalEngine(N, max_iterations=10)
    engine.load(program)
    start = np.zeros((2, N))
    start[1, 0] = np.inf
    result = engine.solve(segment, batch_of(np.ones((2, 2)), start))
    assert result.outcome.tolist() == [Outcome.MAX_TIME, Outcome.DIVERGED]


def test_classes_in_one_batch_equal_classes_apart(one_segment):
    program, segment = one_segment(loop())
    rng = np.random.default_rng(0)
    gain, bias = rng.uniform(0.3, 0.9, (3, N)), rng.normal(size=(3, N))
    labels = np.array([2, 0, 1, 2])
    inject = rng.normal(size=(4, 2))
    mixed = type(segment)("implicit", 1.0, segment.leak, gain, bias, 1.0, segment.end)
    engine = DigitalEngine(N)
    engine.load(program)
    together = engine.solve(mixed, batch_of(inject, labels=labels)).z
    for b, label in enumerate(labels):
        single = type(segment)("implicit", 1.0, segment.leak, gain[[label]], bias[[label]], 1.0, segment.end)
        np.testing.assert_allclose(engine.solve(single, batch_of(inject[[b]])).z[0], together[b], atol=1e-9)


def test_other_weights_can_stand_in_for_the_programs(one_segment):
    program, segment = one_segment(loop(), bias=0.2)
    engine, reference = DigitalEngine(N), DigitalEngine(N)
    engine.load(program, weights=1.1 * program.weights.weights)
    np.testing.assert_array_equal(engine.measured_weights(), 1.1 * program.weights.weights)
    stronger, _ = one_segment(loop(strength=0.66), bias=0.2)
    reference.load(stronger)
    np.testing.assert_allclose(
        engine.solve(segment, batch_of(np.ones((1, 2)))).z,
        reference.solve(segment, batch_of(np.ones((1, 2)))).z,
        atol=1e-9,
    )


@pytest.mark.parametrize("sizes", [(2, 5, 4), (3, 6), (2, 3, 3, 3)])
@pytest.mark.parametrize("per_class", [False, True])
def test_contraction_is_the_largest_eigenvalue_of_the_steps_jacobian(one_segment, sizes, per_class):
    """u -> (1 - leak) u + gain W_out tanh(h_L(u)), layer after layer, differentiated numerically."""
    rng = np.random.default_rng(4)
    program, segment = one_segment(loop(sizes, strength=0.9), leak=1.0, bias=rng.normal(size=N))
    segment.leak[: sizes[0]] = rng.uniform(0.3, 1.0, sizes[0])
    weights, placement = program.weights.weights, program.weights.placement
    gains = rng.uniform(0.5, 1.0, (3 if per_class else 1, N)).repeat(1 if per_class else 3, axis=0)

    def layers(u, gain):
        z = np.zeros(N)
        z[placement.state] = u
        for rows, columns in placement.blocks[:-1]:
            z[rows] = gain[rows] * (weights[rows, columns] @ np.tanh(z[columns])) + segment.bias[0, rows]
        return z

    def mapped(u, gain):
        z, (rows, columns) = layers(u, gain), placement.blocks[-1]
        return (1 - segment.leak[rows]) * u + gain[rows] * (weights[rows, columns] @ np.tanh(z[columns]))

    us = rng.normal(size=(3, sizes[0]))
    expected = []
    for u, gain in zip(us, gains, strict=True):
        columns = [(mapped(u + 1e-6 * e, gain) - mapped(u - 1e-6 * e, gain)) / 2e-6 for e in np.eye(sizes[0])]
        expected.append(np.abs(np.linalg.eigvals(np.stack(columns, axis=1))).max())
    z = np.stack([layers(u, gain) for u, gain in zip(us, gains, strict=True)])
    law = law_of(weights, gains if per_class else gains[:1], segment.leak, segment.bias.repeat(3, axis=0))
    np.testing.assert_allclose(contraction(law, z, placement.blocks), expected, rtol=1e-6)
