"""Each scheme against the exact Gaussian solution and against steps worked out by hand."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from labctl.devices import ConfigError
from labctl.sampling import SCHEMES, Memory, Sampler, asks_of, scheme, sigmas

START = np.array([[1.0, -2.0], [0.3, 0.7]]) * 5
ORDERS = {
    "implicit-midpoint": 2, "implicit-euler": 1, "implicit-trapezoid": 2, "ddim": 1, "heun": 2,
    "explicit-midpoint": 2, "dpm-solver++2m": 2, "unipc": 3,
}  # fmt: skip


def step(name, machine, x, sigma, sigma_next, memory=None):
    return SCHEMES[name].step(machine, np.asarray(x, float), sigma, sigma_next, memory or Memory())


def test_every_scheme_is_tested_here():
    assert set(SCHEMES) == set(ORDERS)


@pytest.mark.parametrize("name", ORDERS)
@pytest.mark.parametrize("sd", [1.0, 0.5])
def test_order_of_convergence_on_the_log_schedule(gaussian, final_state, name, sd):
    """Global error against x sqrt((sd^2 + s'^2) / (sd^2 + s^2)), N doubled."""
    errors = []
    for steps in (64, 128, 256):
        machine = gaussian(sd)
        sampler = Sampler(scheme(name), sigmas("log", steps, 8.0, 0.1))
        x = final_state(sampler, machine, START)
        errors.append(np.abs(x - machine.exact(START, 8.0, 0.1)).max())
    assert SCHEMES[name].order == ORDERS[name]
    for coarse, fine in itertools.pairwise(errors):
        assert math.log2(coarse / fine) == pytest.approx(ORDERS[name], abs=0.15)


@pytest.mark.parametrize("schedule", ["flow", "edm"])
@pytest.mark.parametrize("name", ORDERS)
def test_every_schedule_converges_to_the_same_solution(gaussian, final_state, name, schedule):
    machine = gaussian()
    x = final_state(Sampler(scheme(name), sigmas(schedule, 400, 8.0, 0.1)), machine, START)
    # flow-uniform ends with long steps in ln sigma
    np.testing.assert_allclose(x, machine.exact(START, 8.0, 0.1), rtol=1e-3 if ORDERS[name] > 1 else 2e-2)


def test_the_two_first_order_schemes_err_on_opposite_sides(gaussian, final_state):
    levels = sigmas("log", 40, 8.0, 0.1)
    exact = gaussian().exact(START, 8.0, 0.1)
    implicit = final_state(Sampler(scheme("implicit-euler"), levels), gaussian(), START) / exact - 1
    explicit = final_state(Sampler(scheme("ddim"), levels), gaussian(), START) / exact - 1
    assert (implicit * explicit < 0).all()
    np.testing.assert_allclose(implicit, -explicit, rtol=0.2)


class TestOneStepByHand:
    """sd = 1, sigma = 4 to sigma' = 1: rho = 1/4, D(x; 4) = x/17, D(x; 2) = x/5, D(x; 1) = x/2."""

    def test_implicit_midpoint(self, gaussian):
        # m = 1/2, sigma_m = 2: z = x/2 + z/10 = 5x/9; x' = 3/2 z - x/2 = x/3
        machine = gaussian()
        np.testing.assert_allclose(step("implicit-midpoint", machine, START, 4.0, 1.0), START / 3, rtol=1e-14)
        ((c, g, sigma, start, z),) = machine.settles
        np.testing.assert_allclose(c, START / 2)
        assert (g, sigma) == pytest.approx((0.5, 2.0))
        np.testing.assert_array_equal(start, START)
        np.testing.assert_allclose(z, 5 * START / 9)

    def test_implicit_euler(self, gaussian):
        # x' = x/4 + 3/4 x'/2 = 2x/5
        np.testing.assert_allclose(step("implicit-euler", gaussian(), START, 4.0, 1.0), 0.4 * START)

    def test_implicit_trapezoid(self, gaussian):
        # g = 3/5: x' = x/4 + 3/20 x/17 + 3/5 x'/2, so x' = (1/4 + 3/340) / (7/10) x
        expected = (1 / 4 + 3 / 340) / 0.7 * START
        np.testing.assert_allclose(step("implicit-trapezoid", gaussian(), START, 4.0, 1.0), expected)

    def test_ddim(self, gaussian):
        np.testing.assert_allclose(step("ddim", gaussian(), START, 4.0, 1.0), (1 / 4 + 3 / 68) * START)

    def test_heun(self, gaussian):
        # slope (x - x/17)/4 = 4x/17; Euler x - 12x/17 = 5x/17; slope' 5x/34; x' = x - 3/2 (4/17 + 5/34) x
        expected = (1 - 1.5 * (4 / 17 + 5 / 34)) * START
        np.testing.assert_allclose(step("heun", gaussian(), START, 4.0, 1.0), expected)

    def test_explicit_midpoint(self, gaussian):
        # middle x/2 + x/34 = 9x/17 at 2: D = 9x/85; x' = x/4 + 3/4 9x/85
        np.testing.assert_allclose(
            step("explicit-midpoint", gaussian(), START, 4.0, 1.0), (1 / 4 + 27 / 340) * START
        )

    @pytest.mark.parametrize(
        ("first", "now", "before"), [(16.0, 1.5, 0.5), (64.0, 1.25, 0.25), (8.0, 2.0, 1.0)]
    )
    def test_dpm_solver_2m(self, gaussian, first, now, before):
        # r = h_0 / h_1 = 1, 2, 1/2 in ln sigma; mixed D = (1 + 1 / 2r) D_1 - 1 / 2r D_0
        machine, memory = gaussian(), Memory()
        middle = step("dpm-solver++2m", machine, START, first, 4.0, memory)
        d_0 = START / (1 + first**2)
        np.testing.assert_allclose(middle, 4 / first * START + (1 - 4 / first) * d_0)
        end = step("dpm-solver++2m", machine, middle, 4.0, 1.0, memory)
        np.testing.assert_allclose(end, middle / 4 + 0.75 * (now * middle / 17 - before * d_0))

    def test_unipc(self, gaussian):
        """UniP-1 from 16 to 4, UniC-1 back over it with D at its end, then UniP-2 from 4 to 1; h = ln 4."""
        machine, memory = gaussian(), Memory()
        first = step("unipc", machine, START, 16.0, 4.0, memory)
        d_0 = START / 257
        np.testing.assert_allclose(first, START / 4 + 0.75 * d_0)
        d_1 = first / 17
        corrected = first + 0.75 * 0.5 * (d_1 - d_0)
        end = step("unipc", machine, first, 4.0, 1.0, memory)
        np.testing.assert_allclose(end, corrected / 4 + 0.75 * (d_1 + 0.5 * (d_1 - d_0)))


def chain_of(name, gaussian, steps=6):
    machine = gaussian(0.8)
    sampler = Sampler(scheme(name), sigmas("flow", steps, 8.0, 0.2))
    sampler.run(machine, START, sample_id=np.arange(2), seed=0)
    ratios = sampler.sigmas[1:] / sampler.sigmas[:-1]
    return machine, ratios


def test_the_euler_chain_is_p_z(gaussian):
    """Conventions, section 5: c_{k+1} = p z + q c_k with p = rho', q = 0."""
    machine, rho = chain_of("implicit-euler", gaussian)
    for k in range(5):
        np.testing.assert_allclose(machine.settles[k + 1][0], rho[k + 1] * machine.settles[k][4], rtol=1e-13)


def test_the_midpoint_chain_is_p_z_plus_q_c(gaussian):
    """p = m' (1 + m), q = -m'."""
    machine, rho = chain_of("implicit-midpoint", gaussian)
    m = np.sqrt(rho)
    for k in range(5):
        c, _, _, _, z = machine.settles[k]
        np.testing.assert_allclose(machine.settles[k + 1][0], m[k + 1] * (1 + m[k]) * z - m[k + 1] * c)


def test_the_trapezoid_chain_is_p_z_plus_q_c_from_c_0(gaussian):
    """c_0 = rho x + rho g D(x; sigma_0); p = rho' (1 + g'/g), q = -rho' g'/g, g = (1 - rho) / (1 + rho)."""
    machine, rho = chain_of("implicit-trapezoid", gaussian)
    g = (1 - rho) / (1 + rho)
    np.testing.assert_allclose(
        machine.settles[0][0], rho[0] * START + rho[0] * g[0] * machine.factor(8.0) * START
    )
    np.testing.assert_allclose([s[1] for s in machine.settles], g)
    for k in range(5):
        c, _, _, _, z = machine.settles[k]
        ratio = g[k + 1] / g[k]
        np.testing.assert_allclose(
            machine.settles[k + 1][0], rho[k + 1] * (1 + ratio) * z - rho[k + 1] * ratio * c
        )


@pytest.mark.parametrize("name", ORDERS)
def test_a_schemes_card_says_what_it_asks(gaussian, name):
    """settles and nfe a step; the trapezoid's first slope and the final denoise come on top."""
    sampler = Sampler(scheme(name), sigmas("flow", 7, 8.0, 0.2))
    asks = asks_of(sampler)
    kinds = [ask.kind for ask in asks]
    first_slope = 1 if name == "implicit-trapezoid" else 0
    assert kinds.count("implicit") == 7 * SCHEMES[name].settles
    assert kinds.count("evaluate") == 7 * SCHEMES[name].nfe + first_slope + 1
    assert (asks[-1].kind, asks[-1].sigma) == ("evaluate", 0.2)
    machine = gaussian()
    sampler.run(machine, START, sample_id=np.arange(2), seed=0)
    assert [s[2] for s in machine.settles] == [a.sigma for a in asks if a.kind == "implicit"]
    assert [s for _, s in machine.evaluations] == [a.sigma for a in asks if a.kind == "evaluate"]


def test_an_unknown_scheme_names_the_known():
    with pytest.raises(ConfigError, match="scheme is 'euler'; allowed: implicit-midpoint, implicit-euler"):
        scheme("euler")
