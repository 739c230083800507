"""The bench's forward map, step by step against numpy written out here; and what it is without faults."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from labctl.physics import BenchLaw, ElectronicsCurve, LightPath, LoopErrors, LoopLaw

N = 7


def draws(seed=0):
    return np.random.default_rng(seed)


def t(values):
    return torch.tensor(np.asarray(values), dtype=torch.float64)


def planes(seed=1):
    return t(draws(seed).uniform(0, 1, (2, N, N)))


def faulty(seed=2, order="splitter first"):
    """Every parameter away from its ideal."""
    r = draws(seed)
    return LightPath(
        emission=t(r.normal(size=(2, N, 4)) * [0.05, 0.1, 0.2, 0.1] + [0, 0, 1, 1.1]),
        droop=t(np.full((2, N), 2.5)),
        input_efficiency=t(r.uniform(0.5, 1.3, (2, N))),
        weight_response=t(r.normal(size=(2, N, 3)) * 0.1 + [-0.1, 0.9, 0.1]),
        output_correction=t(r.uniform(0.9, 1.2, (2, N))),
        splitter=t(r.uniform(0, 0.1, (2, N))),
        neighbour=t(r.uniform(0, 0.3, (2, N, 2))),
        darkness=t(r.uniform(0, 0.2, (2, N))),
        compression=t(r.uniform(0, 0.05, (2, N))),
        centre=1.1,
        crossing=t(r.normal(size=(2, N, 3)) * 0.1) if order == "crosstalk first" else None,
        order=order,
    )


def by_hand(path, drive, transmittance):
    """The same, element by element."""
    p = {k: np.asarray(v) if isinstance(v, torch.Tensor) else v for k, v in vars(path).items()}
    plane = np.asarray(transmittance)
    out = np.zeros((len(drive), 2, N))
    for b in range(len(drive)):
        light = np.zeros((2, N))
        for q in range(2):
            for j in range(N):
                u = min(float(drive[b, j]), p["droop"][q, j]) - p["centre"]
                light[q, j] = np.polyval(p["emission"][q, j], u) * p["input_efficiency"][q, j]
        for q in range(2):
            signal = np.zeros(N)
            for o in range(N):
                for j in range(N):
                    signal[o] += np.polyval(p["weight_response"][q, o], plane[q, o, j]) * light[q, j]
                signal[o] *= p["output_correction"][q, o]
            past = p["splitter"][q] * p["output_correction"][q] * light[q]
            if p["order"] == "splitter first":
                signal += past
            own = signal - p["darkness"][q]
            shared = signal.copy()
            for o in range(N):
                if o + 1 < N:
                    shared[o] += p["neighbour"][q, o + 1, 0] * own[o + 1]
                if o > 0:
                    shared[o] += p["neighbour"][q, o - 1, 1] * own[o - 1]
            if p["order"] != "splitter first":
                shared += past
            if p["crossing"] is not None:
                for o in range(1, N):
                    for j in range(N):
                        shared[o] += np.polyval(p["crossing"][q, o], plane[1 - q, N - o, j]) * light[1 - q, j]
                shared[0] += (np.polyval(p["crossing"][q, 0], plane[1 - q, 0]) * light[1 - q]).sum()
            out[b, q] = shared / (1 + p["compression"][q] * shared)
    return out


@pytest.mark.parametrize("order", ["splitter first", "crosstalk first"])
class TestLightPath:
    """Light to photocurrents."""

    def test_it_is_what_the_steps_say(self, order):
        path, drive = faulty(order=order), t(draws(3).uniform(0, 3, (4, N)))
        seen = path.currents(path.light(drive), planes())
        np.testing.assert_allclose(seen, by_hand(path, drive, planes()), rtol=1e-12)

    def test_folded_into_matrices_it_is_the_same(self, order):
        path, drive = faulty(order=order), t(draws(3).uniform(0, 3, (4, N)))
        light = path.light(drive)
        matrices, constants = path.folded(planes())
        signal = torch.einsum("tfoi,bfi->bto", matrices, light) + constants
        np.testing.assert_allclose(path.compressed(signal), path.currents(light, planes()), rtol=1e-12)

    def test_light_at_the_detectors_leaves_their_crosstalk_out(self, order):
        path = faulty(order=order)
        blind = replace(
            path,
            neighbour=torch.zeros_like(path.neighbour),
            darkness=torch.zeros_like(path.darkness),
            compression=torch.zeros_like(path.compression),
            output_correction=torch.ones_like(path.output_correction),
        )
        np.testing.assert_allclose(path.optical(planes()), blind.folded(planes())[0], rtol=1e-12)

    def test_it_is_differentiable(self, order):
        path = faulty(order=order)
        drive = t(draws(4).uniform(0.2, 2, (2, N))).requires_grad_()
        shown = planes().requires_grad_()
        assert torch.autograd.gradcheck(lambda d, s: path.currents(path.light(d), s), (drive, shown))


def test_without_faults_it_is_the_product_to_the_bit():
    weights = planes()[0] - planes()[1]
    law = BenchLaw.ideal(planes())
    z = t(draws(5).normal(size=(3, N)))
    light = torch.tanh(z)
    np.testing.assert_array_equal(
        law.path.currents(law.path.light(light), planes())[:, 0],
        torch.einsum("oi,bi->bo", planes()[0], light),
    )
    np.testing.assert_allclose(law.response(z), torch.tanh(z) @ weights.T, atol=1e-14)
    ones = torch.ones(1, N, dtype=torch.float64)
    loop = LoopLaw(weights, 0.7 * ones, 0.9 * ones, 0.1 * ones)
    np.testing.assert_allclose(
        law.next_state(z, 0.7 * ones, 0.9 * ones, 0.1 * ones, law.rest()), loop.map(z), atol=1e-14
    )
    assert LightPath.ideal(N).linear_emission
    assert not faulty().linear_emission


class TestCurve:
    """d y / (1 + |y|^c)^(1/c) + f0 + g z."""

    @pytest.fixture
    def curve(self):
        r = draws(6)
        return ElectronicsCurve(
            a=t(r.uniform(1, 4, N)), b=t(r.normal(size=N) * 0.1), c=t(r.uniform(1.5, 6, N)),
            d=t(r.uniform(0.5, 1, N)), f0=t(r.normal(size=N) * 0.01), g=t(r.normal(size=N) * 0.01),
        )  # fmt: skip

    def test_values(self, curve):
        z = np.linspace(-3, 3, 41)[:, None] * np.ones(N)
        a, b, c, d, f0, g = (np.asarray(v) for v in vars(curve).values())
        y = a * z + b
        np.testing.assert_allclose(
            curve(t(z)), d * y / (1 + np.abs(y) ** c) ** (1 / c) + f0 + g * z, rtol=1e-12, atol=1e-15
        )

    def test_it_saturates_and_never_overflows(self, curve):
        z = t([[1e30] * N, [-1e30] * N])
        held = replace(curve, g=torch.zeros(N, dtype=torch.float64))
        np.testing.assert_allclose(held(z), np.stack([held.d + held.f0, -held.d + held.f0]), rtol=1e-12)

    def test_gradient(self, curve):
        assert torch.autograd.gradcheck(curve, (t(draws(7).normal(size=(3, N))).requires_grad_(),))

    def test_share_goes_from_tanh_to_the_curve(self, curve):
        z = t(draws(8).normal(size=(3, N)))
        ideal = BenchLaw.ideal(planes())
        for share in (0.0, 0.5, 1.0):
            law = replace(ideal, curve=curve, curve_share=share)
            expected = torch.tanh(z) + share * (curve(z) - torch.tanh(z))
            np.testing.assert_allclose(law.phi(z), expected, atol=1e-15)


def test_the_loops_errors():
    r = draws(9)
    errors = LoopErrors(*(t(r.normal(size=N)) for _ in range(3)), t(np.full(N, 1.0)), t(np.full(N, 1.1)),
                        t(np.full(N, 0.02)))  # fmt: skip
    gain, bias = t(r.uniform(0, 3, (2, N))), t(r.normal(size=(2, N)) * 2)
    np.testing.assert_allclose(
        errors.bias(bias, gain),
        torch.clamp(bias, -1, 1) + errors.scale * (errors.offset + gain * errors.offset_per_gain),
    )
    np.testing.assert_allclose(errors.gain(gain), gain * errors.scale)
    np.testing.assert_allclose(errors.leak(t([0.5])), np.full(N, 0.57))


def test_the_effective_matrix_is_the_slope():
    law = BenchLaw(faulty(), LoopErrors.none(N), planes(), pedestal=1.1)
    step = 1e-6
    numeric = np.stack(
        [
            (law.difference(1.1 + step * e[None]) - law.difference(1.1 - step * e[None]))[0].numpy()
            / 2
            / step
            for e in torch.eye(N, dtype=torch.float64)
        ],
        axis=1,
    )
    np.testing.assert_allclose(law.matrix(), numeric, atol=1e-8)
