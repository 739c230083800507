"""Fitted curves and maps against numpy written out here, and against finite differences."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from labctl.physics import CurveTable, FittedCurve, FittedMap

N = 5


def drawn(mix: float, seed: int = 0) -> FittedCurve:
    """Curves of N channels as benches have them, some percent apart."""
    rng = np.random.default_rng(seed)
    parts = [
        rng.uniform(0.9, 1.1, N), rng.uniform(0.8, 1.2, N), rng.uniform(-0.05, 0.05, N),
        rng.uniform(0, 0.05, N), np.array(rng.uniform(2, 4)), np.array(mix),
    ]  # fmt: skip
    return FittedCurve(*(torch.from_numpy(part) for part in parts))


def by_hand(curve: FittedCurve, z: np.ndarray) -> np.ndarray:
    reach, scale, shift, slope, knee, mix = (
        getattr(curve, name).numpy() for name in ("reach", "scale", "shift", "slope", "knee", "mix")
    )
    y = scale * z + shift
    with np.errstate(over="ignore"):
        bent = y / (1 + np.abs(y) ** knee) ** (1 / knee)
    return np.asarray(reach * ((1 - mix) * np.tanh(y) + mix * bent) + slope * z)


def states(count: int = 400, width: float = 8.0) -> np.ndarray:
    return np.random.default_rng(1).uniform(-width, width, (count, N))


def test_the_nominal_curve_is_tanh() -> None:
    z = states()
    np.testing.assert_allclose(FittedCurve.nominal(N)(torch.from_numpy(z)).numpy(), np.tanh(z), atol=1e-15)


def test_mix_zero_is_tanh_of_the_scaled_state() -> None:
    curve, z = drawn(0.0), states()
    wanted = curve.reach.numpy() * np.tanh(curve.scale.numpy() * z + curve.shift.numpy())
    wanted += curve.slope.numpy() * z
    np.testing.assert_allclose(curve(torch.from_numpy(z)).numpy(), wanted, atol=1e-14)


@pytest.mark.parametrize("mix", [0.0, 0.3, 1.0])
def test_a_curve_is_its_formula(mix: float) -> None:
    curve, z = drawn(mix), states()
    np.testing.assert_allclose(curve(torch.from_numpy(z)).numpy(), by_hand(curve, z), atol=1e-12)


@pytest.mark.parametrize("mix", [0.0, 1.0])
def test_a_curve_without_slope_saturates_at_its_reach_however_far_the_state(mix: float) -> None:
    drawn_curve = drawn(mix)
    curve = FittedCurve(
        drawn_curve.reach, drawn_curve.scale, drawn_curve.shift, 0 * drawn_curve.slope,
        drawn_curve.knee, drawn_curve.mix,
    )  # fmt: skip
    for far in (1e3, 1e12, 1e200):
        ends = curve(torch.tensor([[far], [-far]], dtype=torch.float64).expand(2, N))
        np.testing.assert_allclose(ends.numpy(), np.outer([1, -1], curve.reach.numpy()), rtol=1e-5)


def test_a_curve_rises_everywhere() -> None:
    grid = torch.linspace(-20, 20, 4001, dtype=torch.float64)[:, None].expand(-1, N)
    for mix in (0.0, 0.5, 1.0):
        assert (drawn(mix)(grid).diff(dim=0) > 0).all()


def test_a_curve_has_a_gradient_at_zero() -> None:
    z = torch.zeros(1, N, dtype=torch.float64, requires_grad=True)
    curve = FittedCurve(*(getattr(drawn(1.0), name) for name in ("reach", "scale")), torch.zeros(N),
                        torch.zeros(N), torch.tensor(3.0), torch.tensor(1.0))  # fmt: skip
    (slope,) = torch.autograd.grad(curve(z).sum(), z)
    np.testing.assert_allclose(slope[0].numpy(), (curve.reach * curve.scale).numpy(), rtol=1e-9)


def test_on_permutes_the_channels() -> None:
    curve, z = drawn(0.6), states()
    order = np.array([3, 0, 4, 2, 1])
    there = curve.on(torch.from_numpy(order))(torch.from_numpy(z[:, order]))
    np.testing.assert_array_equal(there.numpy(), curve(torch.from_numpy(z)).numpy()[:, order])


@pytest.mark.parametrize("mix", [0.0, 0.4, 1.0])
def test_a_table_is_within_1e_4_of_its_curve(mix: float) -> None:
    curve = drawn(mix)
    z = states(4000, 0.999 * CurveTable.RANGE_UNITS)
    seen = CurveTable(curve)(torch.from_numpy(z.astype(np.float32)))
    assert seen.dtype == torch.float32
    np.testing.assert_allclose(seen.numpy(), by_hand(curve, z), atol=1e-4)


def test_a_tables_gradient_is_the_curves_slope() -> None:
    """Against central differences of the formula; between two values of the table it is constant."""
    curve = drawn(0.4)
    z = torch.from_numpy(states(200, 6.0).astype(np.float32)).reshape(2, 10, 10, N).requires_grad_()
    weights = torch.linspace(0.5, 2, N)
    (slope,) = torch.autograd.grad((CurveTable(curve)(z) * weights).sum(), z)
    at, step = z.detach().double().numpy(), 1e-5
    wanted = (by_hand(curve, at + step) - by_hand(curve, at - step)) / (2 * step) * weights.numpy()
    pitch = 2 * CurveTable.RANGE_UNITS / (CurveTable.VALUES - 1)
    np.testing.assert_allclose(slope.numpy(), wanted, atol=2 * pitch)


def test_a_map_is_a_sum_of_powers_and_an_offset() -> None:
    rng = np.random.default_rng(2)
    powers, offset = rng.normal(size=(3, N, N)), rng.normal(size=N)
    curve, z = drawn(0.5), states(50)
    seen = FittedMap(torch.from_numpy(powers), curve, torch.from_numpy(offset))
    phi = by_hand(curve, z)
    light = sum(phi ** (k + 1) @ powers[k].T for k in range(3))
    np.testing.assert_allclose(seen.light(torch.from_numpy(phi)).numpy(), light, atol=1e-12)
    np.testing.assert_allclose(seen(torch.from_numpy(z)).numpy(), light + offset, atol=1e-12)
