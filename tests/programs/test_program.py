"""Programs: hashes that see every table, biases that carry the injection, rows that are watched."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from labctl.programs import LoopProgram, LoopSegment, PlacedWeights, Settled, encode, place


def build(**changes):
    rng = np.random.default_rng(0)
    weights = place([encode(rng.normal(size=s)) for s in ((3, 2), (2, 3))], 8)
    segment = LoopSegment(
        "implicit", 1.0, np.ones(8), np.full((2, 8), 0.5), np.zeros((2, 8)), 0.7, Settled(0.05)
    )
    return LoopProgram((weights,), (segment, replace(segment, **changes)))


def test_the_hash_repeats_and_does_not_depend_on_memory_layout():
    assert build().hash == build().hash
    assert build(gain=np.asfortranarray(np.full((2, 8), 0.5))).hash == build().hash


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "evaluate"},
        {"sigma": 1.0000001},
        {"inject_scale": 0.70001},
        {"leak": np.r_[np.ones(7), 0.999]},
        {"gain": np.vstack([np.full(8, 0.5), np.r_[np.full(7, 0.5), 0.5001]])},
        {"bias": np.vstack([np.zeros(8), np.r_[np.zeros(7), 1e-9]])},
    ],
    ids=lambda c: next(iter(c)),
)
def test_the_hash_changes_with_any_table(changes):
    assert build(**changes).hash != build().hash


def test_the_hash_changes_with_weights_and_with_the_order_of_segments():
    program = build(sigma=2.0)
    fractions = program.weights.fractions.copy()
    fractions[2, 0] *= 0.99
    other = replace(program.weights, fractions=fractions)
    assert replace(program, matrices=(other,)).hash != program.hash
    scaled = replace(program.weights, scale_out=program.weights.scale_out * 2)
    assert replace(program, matrices=(scaled,)).hash != program.hash
    both = replace(program, matrices=(program.weights, scaled))
    assert both.hash != program.hash
    second = replace(program.segments[1], matrix=1)
    assert replace(both, segments=(program.segments[0], second)).hash != both.hash
    assert (
        replace(both, segments=(replace(program.segments[0], last=False), program.segments[1])).hash
        != both.hash
    )
    assert replace(program, segments=program.segments[::-1]).hash != program.hash
    assert replace(program, segments=program.segments[:1]).hash != program.hash


def test_every_field_of_a_segment_but_its_end_is_hashed():
    """A new field must be thought about: what it changes must not run under an old compensation."""
    assert {f.name for f in fields(LoopSegment)} == {
        "kind", "sigma", "leak", "gain", "bias", "inject_scale", "end",
        "matrix", "last",
    }  # fmt: skip
    assert {f.name for f in fields(PlacedWeights)} == {"placement", "fractions", "scale_out", "codes", "bits"}


def test_a_sample_gets_its_classs_bias_and_its_injection_on_the_state_rows():
    bias = np.arange(16.0).reshape(2, 8)
    segment = build(bias=bias).segments[1]
    inject = np.array([[1.0, -1.0], [2.0, 0.5], [0.0, 0.0]])
    out = segment.bias_of(inject, np.array([1, 0, 1]), slice(0, 2))
    expected = bias[[1, 0, 1]]
    expected[:, :2] += 0.7 * inject
    np.testing.assert_allclose(out, expected)
    np.testing.assert_allclose(
        segment.bias_of(inject, None, slice(0, 2))[:, 2:], np.tile(bias[0, 2:], (3, 1))
    )
    np.testing.assert_array_equal(segment.bias, np.arange(16.0).reshape(2, 8))


def test_watched_rows_and_classes():
    program = build(kind="evaluate")
    assert program.watched(program.segments[0]) == slice(0, 2)
    assert program.watched(program.segments[1]) == slice(2, 5)
    assert program.n_classes == 2
