"""What the frame on display does to light, against the truth of drawn benches; stated errors are honest."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from labctl_calibration import calibrate_open_loop
from labctl_calibration.effective_map import LEAST_PROBES, POWERS, measure_map

from labctl.devices import ConfigError, DeviceFault, LoopElectronics

N = 48


def shown(twin, profile, fractions=None, **how):
    """A bench with a dense frame on display, offsets nulled."""
    bench = twin(profile, **how)
    drawn = np.random.default_rng(0).choice([-1.0, -0.5, 0.5, 1.0], size=(N, N))
    bench.show_fractions(drawn if fractions is None else fractions)
    calibrate_open_loop(bench.electronics)
    return bench


def patterns(count, seed=9):
    """Driven values as `measure_map` promises them: half at the ends, half between."""
    rng = np.random.default_rng(seed)
    ends = rng.choice([-1.0, 1.0], size=(count, N))
    return np.where(rng.random((count, N)) < 0.5, ends, rng.uniform(-1, 1, (count, N)))


def truth_on(bench, phi):
    """y [B, n] of driven values, the bench's resting light taken away."""
    law = bench.bench.truth().law
    return (law.difference(law.pedestal + torch.from_numpy(phi)) - law.rest()).numpy()


def best_powers(bench):
    """The powers that fit the true light best over very many patterns, without noise."""
    phi = patterns(30_000)
    design = np.concatenate([*(phi**k for k in range(1, POWERS + 1)), np.ones((len(phi), 1))], axis=1)
    found = np.linalg.solve(design.T @ design, design.T @ truth_on(bench, phi))
    return found[:-1].reshape(POWERS, N, N).transpose(0, 2, 1)


@pytest.mark.parametrize("unit_seed", [1, 2])
def test_errors_against_the_truth_are_as_large_as_stated(twin, unit_seed):
    bench = shown(twin, "unit", seed=unit_seed, unit_seed=unit_seed)
    found = measure_map(bench.electronics, probes=3200)
    scores = (found.powers - best_powers(bench)) / found.error
    for power in range(POWERS):
        assert 0.85 < scores[power].std() < 1.15, power
        assert abs(scores[power].mean()) < 0.1, power
    assert found.probes == 3200


def test_new_patterns_are_predicted_within_the_residual(twin):
    bench = shown(twin, "unit", seed=1, unit_seed=1)
    found = measure_map(bench.electronics, probes=3200)
    phi = patterns(500, seed=11)
    left = truth_on(bench, phi) - sum(phi**k @ power.T for k, power in enumerate(found.powers, start=1))
    left -= left.mean(axis=0)  # the null's rounding
    assert np.sqrt((left**2).mean()) < found.residual.mean()


def test_the_plain_twin_has_its_fractions_and_nothing_else(twin):
    bench = shown(twin, "adm", seed=1)
    found = measure_map(bench.electronics, probes=1600)
    off = found.powers[0] + found.powers[2] - bench.true_fractions()
    assert np.sqrt((off**2).mean()) < 2e-3
    assert np.sqrt((found.powers[1] ** 2).mean()) < 1e-3


def test_the_same_seed_asks_the_same(twin):
    maps = [
        measure_map(shown(twin, "adm", seed=1, noise_scale=0.0).electronics, probes=320, seed=4) for _ in "ab"
    ]
    np.testing.assert_array_equal(maps[0].powers, maps[1].powers)


@pytest.mark.parametrize("probes", [0, 289])
def test_too_few_probes_are_refused(twin, probes):
    bench = shown(twin, "adm")
    wanted = max(LEAST_PROBES, 2 * POWERS * N + 2)
    with pytest.raises(
        ConfigError, match=f"probes is {probes}; .* 145 unknowns an output: allowed: {wanted}"
    ):
        measure_map(bench.electronics, probes=probes)


def test_detectors_that_clip_are_a_fault(twin, monkeypatch):
    bench = shown(twin, "adm")
    probe = LoopElectronics.probe

    def clipping(electronics, *arguments, **options):
        read = probe(electronics, *arguments, **options)
        clipped = read.clipped.copy()
        clipped[:3, [5, 17]] = True
        return replace(read, clipped=clipped)

    monkeypatch.setattr(LoopElectronics, "probe", clipping)
    with pytest.raises(DeviceFault, match=r"the detectors of rows 5, 17 clip; allowed"):
        measure_map(bench.electronics, probes=320)
