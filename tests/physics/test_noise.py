"""Noise of the loop against formulas worked out by hand, and by statistics of many draws."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from labctl.physics import LoopNoise, Stream

TAU_S = 0.75e-6
Q = 1.602176634e-19


def tensor(*values):
    return torch.tensor([values], dtype=torch.float64)


def increment(noise, gain, leak, light, dt):
    """Standard deviation of what a step of dt adds, rows [1, n]."""
    floor, slope = noise.additive_variance(gain, leak, dt, TAU_S)
    return torch.sqrt(floor + slope * light)


def stationary_variance(noise, *, gain, leak, light, dt, samples=20_000, time=8.0):
    """Variance after `time` (many lifetimes) of z' = exp(-leak dt) z + sd n, per row [n]."""
    gain, leak = tensor(*gain), tensor(*leak)
    sd = increment(noise, gain, leak, light, dt)
    stream, z = Stream(4, "test", "walk"), torch.zeros(samples, gain.shape[1], dtype=torch.float64)
    for k in range(math.ceil(time / dt)):
        draw = stream.normal(np.arange(samples), gain.shape[1], step=k, dtype=torch.float64)
        z = torch.exp(-leak * dt) * z + sd * draw
    return z.numpy().var(axis=0), 5 * math.sqrt(2 / samples)


@pytest.mark.parametrize("dt", [0.05, 0.22, 1.5])
def test_loop_noise_is_its_stationary_deviation_at_leak_one_gain_zero_for_any_step(dt):
    variance, bound = stationary_variance(
        LoopNoise(loop_units=0.0038), gain=(0.0, 3.0), leak=(1.0, 1.0), light=0.0, dt=dt
    )
    np.testing.assert_allclose(variance, 0.0038**2, rtol=bound)


def test_at_another_leak_the_variance_is_inverse_to_it():
    leak = (1.0, 0.5, 0.25)
    variance, bound = stationary_variance(
        LoopNoise(loop_units=0.01), gain=(0.0,) * 3, leak=leak, light=0.0, dt=0.4, time=40.0, samples=15_000
    )
    np.testing.assert_allclose(variance, 0.01**2 / np.array(leak), rtol=bound * 2)


def test_with_leak_zero_noise_walks_as_an_integrator():
    sd = increment(LoopNoise(loop_units=0.01), tensor(0.0), tensor(0.0), 0.0, 0.3)
    assert sd.item() ** 2 == pytest.approx(2 * 0.01**2 * 0.3, rel=1e-12)
    near = increment(LoopNoise(loop_units=0.01), tensor(0.0), tensor(1e-9), 0.0, 0.3)
    assert near.item() == pytest.approx(sd.item(), rel=1e-8)


@pytest.mark.parametrize(
    ("noise", "density"),
    [
        # shot: one-sided 2 q / I per unit of light; 2.5 units of light on a 0.5 uA unit
        (LoopNoise(photocurrent_ua=0.5, shot=True), 2 * Q / 0.5e-6 * 2.5),
        # detector: (4 pA/rtHz / 0.5 uA)^2
        (LoopNoise(photocurrent_ua=0.5, detector_pa_rthz=4.0), (4e-12 / 0.5e-6) ** 2),
        (
            LoopNoise(photocurrent_ua=0.5, detector_pa_rthz=4.0, shot=True),
            2 * Q / 0.5e-6 * 2.5 + (4e-12 / 0.5e-6) ** 2,
        ),
    ],
)
@pytest.mark.parametrize("dt", [0.1, 0.6])
def test_photocurrent_noise_is_gain_squared_density_over_four_leak_tau(noise, density, dt):
    """White noise of one-sided density S through gain / (leak + s tau): gain^2 S / (4 leak tau)."""
    gain, leak = (1.0, 20.0, 5.0), (1.0, 1.0, 0.5)
    variance, bound = stationary_variance(noise, gain=gain, leak=leak, light=2.5, dt=dt, time=16.0)
    expected = np.square(gain) * density / (4 * np.array(leak) * TAU_S)
    np.testing.assert_allclose(variance, expected, rtol=bound * 1.5)


def test_a_microampere_costs_thousandths_of_a_unit_and_ten_nanoamperes_about_a_tenth():
    """Conventions, section 2, measured there on a prototype; a row of gain 2 under 10 units of light."""

    def deviation(photocurrent_ua):
        noise = LoopNoise(photocurrent_ua=photocurrent_ua, shot=True, detector_pa_rthz=2.0)
        sd = increment(noise, tensor(2.0), tensor(1.0), 10.0, 1e-4)
        return (sd.item() ** 2 / 2e-4) ** 0.5

    assert 0.001 < deviation(1.0) < 0.004
    assert 0.02 < deviation(0.01) < 0.3


def test_rin_averaged_over_a_time_falls_as_its_root():
    noise = LoopNoise(rin_dbc_hz=-120.0)
    assert noise.rin_sd(1e-6) == pytest.approx(math.sqrt(1e-12 / 2e-6), rel=1e-12)
    assert noise.rin_sd(4e-6) == pytest.approx(noise.rin_sd(1e-6) / 2, rel=1e-12)
    assert LoopNoise().rin_sd(1e-6) == 0.0


@pytest.mark.parametrize(
    "noise",
    [
        LoopNoise(0.7, rin_dbc_hz=-130.0, detector_pa_rthz=3.0, shot=True, loop_units=0.01),
        LoopNoise(0.7, rin_dbc_hz=-130.0, detector_pa_rthz=3.0, shot=False, loop_units=0.01),
    ],
)
@pytest.mark.parametrize("factor", [0.25, 3.0])
def test_scaling_multiplies_every_deviation(noise, factor):
    scaled = noise.scaled(factor)
    arguments = (tensor(2.0), tensor(0.7), 4.0, 0.2)
    assert scaled.rin_sd(1e-6) == pytest.approx(factor * noise.rin_sd(1e-6), rel=1e-12)
    assert increment(scaled, *arguments).item() == pytest.approx(
        factor * increment(noise, *arguments).item(), rel=1e-12
    )
    assert scaled.detector_density() == pytest.approx(factor**2 * noise.detector_density(), rel=1e-12)
    assert scaled.shot_density() == pytest.approx(factor**2 * noise.shot_density(), rel=1e-12)


def test_scaling_by_zero_is_quiet_and_only_that():
    noise = LoopNoise(rin_dbc_hz=-130.0, detector_pa_rthz=3.0, shot=True, loop_units=0.01)
    assert noise.scaled(0).quiet
    assert LoopNoise().quiet
    for one in (
        LoopNoise(rin_dbc_hz=-130.0),
        LoopNoise(detector_pa_rthz=1.0),
        LoopNoise(shot=True),
        LoopNoise(loop_units=1e-6),
    ):
        assert not one.quiet
