"""Electronics of the foreign bench against closed forms: linear loops, orders of error, known noise."""

from __future__ import annotations

import math
from dataclasses import replace

import foreign_bench.electronics as electronics
import numpy as np
import pytest
import torch
from foreign_bench import perfect_unit
from foreign_bench.draws import Draws
from foreign_bench.electronics import Knobs, Loop, phi_functions
from foreign_bench.light import Light

N = 48


def knobs(size, **given):
    rows = {
        "bias": np.zeros((size, N)), "start": np.zeros((size, N)), "gain": np.zeros((1, N)),
        "leak": np.ones((1, N)), "null": np.zeros(N), "hum": np.zeros(size), "flicker": np.zeros(size),
    }  # fmt: skip
    return Knobs(**{**rows, **given})


def loop_of(unit, matrix, noise_scale=0.0):
    """A loop whose light is `matrix` (positive and negative entries on their paths)."""
    still = np.stack([np.maximum(matrix, 0), np.maximum(-matrix, 0)])
    return Loop(unit, Light(unit, still, 0 * still, torch.float32), noise_scale)


def draws(size):
    return Draws.of(0, 1, 0, np.arange(size))


def test_phi_functions_are_their_closed_forms():
    x = torch.tensor([-0.9, -0.3, -1e-3, 0.5], dtype=torch.float64)
    one = torch.expm1(x) / x
    two = (one - 1) / x
    for series, closed in zip(phi_functions(x), (one, two, (two - 0.5) / x), strict=True):
        np.testing.assert_allclose(series, closed, rtol=1e-6)


def test_what_is_linear_is_exact_at_any_step():
    unit = replace(perfect_unit(), tau_us=np.linspace(0.5, 1.0, N))
    leak, bias, start = np.linspace(0, 1, N), np.linspace(-1, 1, N), np.linspace(2, -2, N)
    times = np.array([0.0, 0.16, 0.32, 0.48, 5.0])
    states = loop_of(unit, np.zeros((N, N))).run(
        knobs(1, bias=bias[None], start=start[None], leak=leak[None]), times, draws(1)
    )[:, 0]
    t = times[:, None] / unit.tau_us
    grown = np.where(leak > 0, -np.expm1(-leak * t) / np.where(leak > 0, leak, 1), t)
    np.testing.assert_allclose(states, start * np.exp(-leak * t) + bias * grown, atol=3e-6)


def test_halving_the_step_takes_four_orders_off(monkeypatch):
    rng = np.random.default_rng(1)
    matrix, start = rng.normal(size=(N, N)) / math.sqrt(N), rng.normal(size=(3, N))
    loop = loop_of(perfect_unit(), matrix)
    given = knobs(3, start=start, gain=np.ones((1, N)), null=1.2 * matrix.sum(axis=1))
    out = {}
    for step in (0.75, 0.375, 0.03125):
        monkeypatch.setattr(electronics, "LONGEST_STEP_US", step)
        out[step] = loop.run(given, np.array([3.0]), draws(3)).astype(float)
    coarse, fine = (np.abs(out[step] - out[0.03125]).max() for step in (0.75, 0.375))
    assert 8 < coarse / fine < 40
    assert fine < 2e-3


def test_a_fixed_point_satisfies_the_loop_law():
    rng = np.random.default_rng(2)
    matrix = 0.5 * rng.normal(size=(N, N)) / math.sqrt(N)
    null = 1.2 * matrix.sum(axis=1)
    bias = rng.normal(size=(4, N))
    z = loop_of(perfect_unit(), matrix).run(
        knobs(4, bias=bias, gain=np.full((1, N), 1.3), leak=np.full((1, N), 0.8), null=null),
        np.array([80.0]), draws(4),
    )[0]  # fmt: skip
    np.testing.assert_allclose(0.8 * z, 1.3 * np.tanh(z) @ matrix.T + bias, atol=2e-5)


def test_records_on_the_way_lie_on_the_way():
    """What is read between two steps is what short steps give."""
    rng = np.random.default_rng(3)
    matrix = rng.normal(size=(N, N)) / math.sqrt(N)
    loop = loop_of(perfect_unit(), matrix)
    given = knobs(2, start=rng.normal(size=(2, N)), gain=np.ones((1, N)), null=1.2 * matrix.sum(axis=1))
    often = 0.16 * np.arange(1, 21)
    paired = loop.run(given, often, draws(2))
    for index in (0, 4, 11):
        alone = loop.run(given, often[index : index + 1], draws(2))[0]
        np.testing.assert_allclose(paired[index], alone, atol=1e-3)


def test_the_curve_has_a_sharper_knee_than_tanh_and_the_same_slope():
    z = torch.linspace(-4, 4, 801, dtype=torch.float32)[:, None].expand(-1, N)
    plain, sharp = (
        loop_of(replace(perfect_unit(), erf_share=np.full(N, share)), np.zeros((N, N))).curve(z)[:, 0].numpy()
        for share in (0.0, 1.0)
    )
    np.testing.assert_allclose(plain, np.tanh(z[:, 0].numpy()), atol=1e-6)
    assert (sharp - plain)[400] == pytest.approx(0, abs=1e-9)
    assert (sharp - plain)[401] == pytest.approx(0, abs=1e-6)
    assert 0.02 < (sharp - plain)[z[:, 0].numpy() > 0].max() < 0.05
    np.testing.assert_allclose(sharp, -sharp[::-1], atol=1e-6)


def test_the_loops_own_noise_is_as_strong_as_said():
    unit = perfect_unit()
    states = loop_of(unit, np.zeros((N, N)), 1.0).run(knobs(2000), np.array([8.0]), draws(2000))[0]
    assert states.std() == pytest.approx(unit.loop_noise_units, rel=0.01)
    assert abs(states.mean()) < 5e-5


def test_shot_noise_follows_all_of_the_light():
    """Both paths lit alike: nothing is left of the light, and the noise of both. PSD 2 q I, half the band."""
    unit = replace(perfect_unit(), loop_noise_units=0.0, detector_pa_per_rthz=0.0, rin_dbc_per_hz=-300.0)
    light = np.full((2, N, N), 0.5)
    loop = Loop(unit, Light(unit, light, 0 * light, torch.float32), 1.0)
    states = loop.run(knobs(2000, gain=np.full((1, N), 2.0)), np.array([8.0]), draws(2000))[0]
    amperes = 1.2 * N * unit.photocurrent_ua * 1e-6  # the pedestal of 48 emitters, half of each to a path
    density = 2 * electronics.ELEMENTARY_CHARGE * amperes / (unit.photocurrent_ua * 1e-6) ** 2
    expected = 2.0 * math.sqrt(density / 2 / (2 * 0.75e-6))
    # steps of 0.5 us and shorter keep that within what their band loses
    assert states.std() == pytest.approx(expected, rel=0.05)
    assert abs(states.mean()) < 1e-3


def test_intensity_noise_is_common_to_all_outputs():
    unit = replace(perfect_unit(), loop_noise_units=0.0, detector_pa_per_rthz=0.0, rin_dbc_per_hz=-100.0)
    loop = loop_of(unit, np.eye(N), 1.0)
    states = loop.run(knobs(500, gain=np.full((1, N), 0.01)), np.array([8.0]), draws(500))[0]
    apart = states - states.mean(axis=0)
    assert np.corrcoef(apart[:, 3], apart[:, 40])[0, 1] > 0.95


def test_draws_are_normal_and_belong_to_their_counters():
    some = Draws.of(3, 1, 7, np.arange(4000))
    values = some.normals(5, 50)
    assert values.dtype == np.float32
    assert values.mean() == pytest.approx(0, abs=0.01)
    assert values.std() == pytest.approx(1, abs=0.01)
    assert (values.astype(float) ** 4).mean() == pytest.approx(3, abs=0.1)
    assert np.abs(np.corrcoef(values.T) - np.eye(50)).max() < 0.09
    np.testing.assert_array_equal(some.part(np.array([17, 3])).normals(5, 50), values[[17, 3]])
    np.testing.assert_array_equal(Draws.of(3, 1, 7, np.array([3999])).normals(5, 50), values[3999:])
    for key in ((4, 1, 7), (3, 2, 7), (3, 1, 8)):
        assert (Draws.of(*key, np.arange(9)).normals(5, 50) != values[:9]).mean() > 0.99
    assert (some.normals(6, 50) != values).mean() > 0.99


def test_an_offset_in_front_of_the_gain_grows_with_it():
    unit = replace(perfect_unit(), input_offset=np.linspace(-0.3, 0.3, N))
    gain = np.array([0.0, 0.5, 2.0])[:, None].repeat(N, axis=1)
    states = loop_of(unit, np.zeros((N, N))).run(knobs(3, gain=gain), np.array([30.0]), draws(3))[0]
    np.testing.assert_allclose(states, gain * unit.input_offset, atol=1e-6)
