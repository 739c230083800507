"""The row-table network: the loop's form, bounds by construction, replicas, codes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from labctl.devices.errors import ProgramError
from labctl.models.network import (
    HIDDEN_BIAS,
    HIDDEN_GAIN,
    OUTPUT_BIAS,
    OUTPUT_GAIN,
    RowTableNetwork,
    coefficients,
)
from labctl.programs.codes import encode
from labctl.sampling.network import LoopNetwork
from labctl.sampling.parametrisation import Kind, Preconditioning

KINDS: list[Kind] = ["edm", "flow", "vp"]


def by_the_protocol(
    network: LoopNetwork, x: NDArray[np.float64], sigma: float, label: int = 0
) -> NDArray[np.float64]:
    """D from weights() and rows() alone, as `LoopNetwork` defines it."""
    c_skip, c_out, c_in = network.preconditioning.coefficients(sigma)
    tables = network.rows(sigma)
    h = c_in * x
    for w, gain, bias in zip(network.weights(), tables.gains, tables.biases, strict=True):
        h = gain[label] * (np.tanh(h) @ w.T) + bias[label]
    return c_skip * x + c_out * h


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sizes", [[2, 23, 23], [2, 46], [5, 3, 4, 6]])
def test_denoise_is_the_loop_network_of_the_protocol(kind: Kind, sizes: list[int]) -> None:
    network = RowTableNetwork(sizes, seeds=[5], preconditioning=Preconditioning(kind))
    assert isinstance(network, LoopNetwork)
    assert [w.shape for w in network.weights()] == list(zip([*sizes[1:], sizes[0]], sizes, strict=True))
    x = torch.randn(50, sizes[0], generator=torch.Generator().manual_seed(0))
    for sigma in (0.02, 0.7, 10.0):
        expected = by_the_protocol(network, x.double().numpy(), sigma)
        np.testing.assert_allclose(network.denoise(x, sigma).detach().numpy(), expected, atol=2e-5)


def test_classes_enter_through_the_rows() -> None:
    network = RowTableNetwork([4, 9], seeds=[1], n_classes=3)
    x = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 1, 2, 2, 1, 0])
    out = network.denoise(x, 0.5, labels).detach().numpy()
    for label in range(3):
        expected = by_the_protocol(network, x.double().numpy(), 0.5, label)
        np.testing.assert_allclose(out[labels == label], expected[labels == label], atol=2e-6)
    assert network.rows(0.5).gains[0].shape == (3, 9)
    with pytest.raises(ValueError, match="labels missing"):
        network.denoise(x, 0.5)
    with pytest.raises(ValueError, match="labels given"):
        RowTableNetwork([4, 9]).denoise(x, 0.5, labels)


@pytest.mark.parametrize("kind", KINDS)
def test_tensor_coefficients_are_those_of_the_preconditioning(kind: Kind) -> None:
    preconditioning = Preconditioning(kind, sigma_data=0.8)
    sigma = torch.logspace(-2.5, 1.5, 9, dtype=torch.float64)
    for tensor, column in zip(
        coefficients(preconditioning, sigma),
        np.transpose([preconditioning.coefficients(float(s)) for s in sigma]),
        strict=True,
    ):
        np.testing.assert_allclose(tensor.numpy(), column)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("coded", [False, True])
def test_gains_and_biases_are_bounded_whatever_the_parameters(kind: Kind, coded: bool) -> None:
    network = RowTableNetwork([2, 7, 5], seeds=[0], preconditioning=Preconditioning(kind))
    if coded:
        network = network.with_codes([[encode(w, 4, "row-mse") for w in network.weights()]])
    for factor in (1.0, 1e3):
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.mul_(factor)
        for sigma in (0.01, 0.3, 30.0):
            tables = network.rows(sigma)
            scales = [np.ones(len(w)) for w in network.weights()]
            if network.codes is not None:
                scales = [matrix.scale for matrix in network.codes]
            for at, (gain, bias, scale) in enumerate(zip(tables.gains, tables.biases, scales, strict=True)):
                last = at == 2
                low, high = OUTPUT_GAIN[kind] if last else HIDDEN_GAIN
                assert (gain * scale >= low * (1 - 1e-6)).all()
                assert (gain * scale <= high * (1 + 1e-6)).all()
                assert (np.abs(bias) <= (OUTPUT_BIAS if last else HIDDEN_BIAS)).all()
            # The gain code of a u row reaches from 5e-4 to 1: at every noise level, with steps g up to 1.
            _, c_out, c_in = network.preconditioning.coefficients(sigma)
            assert c_in * c_out * OUTPUT_GAIN[kind][1] <= 1.0


def test_largest_weight_of_each_row_is_one() -> None:
    for w in RowTableNetwork([2, 23, 23], seeds=[2]).weights():
        np.testing.assert_array_equal(np.abs(w).max(axis=1), 1.0)


def test_rows_are_smooth_in_sigma() -> None:
    network = RowTableNetwork([2, 23, 23], seeds=[0])
    a, b = network.rows(0.5), network.rows(0.5 * 1.001)
    for x, y in zip((*a.gains, *a.biases), (*b.gains, *b.biases), strict=True):
        assert np.abs(x - y).max() < 0.05


def test_replicas_do_not_see_each_other() -> None:
    both = RowTableNetwork([2, 8, 8], seeds=[3, 4])
    x = torch.randn(10, 2, generator=torch.Generator().manual_seed(1))
    levels = torch.linspace(0.1, 3.0, 10)
    together = both.denoise(x, levels)
    assert together.shape == (2, 10, 2)
    for i, seed in enumerate((3, 4)):
        alone = RowTableNetwork([2, 8, 8], seeds=[seed])
        torch.testing.assert_close(both.replica(i).denoise(x, levels), alone.denoise(x, levels))
        torch.testing.assert_close(together[i], alone.denoise(x, levels))
        np.testing.assert_array_equal(both.all_weights()[i][1], alone.weights()[1])
    with pytest.raises(ValueError, match=r"replica\(i\)"):
        both.weights()
    with pytest.raises(IndexError, match="replica 2"):
        both.replica(2)


def test_grouped_and_single_levels_agree() -> None:
    network = RowTableNetwork([3, 6], seeds=[0, 1], n_classes=2)
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(2, 4, 5, 3, generator=rng)
    sigma = torch.rand(2, 4, generator=rng) + 0.1
    labels = torch.randint(0, 2, (2, 4, 5), generator=rng)
    grouped = network.denoise_groups(x, sigma, labels)
    for replica in range(2):
        for level in range(4):
            alone = network.replica(replica).denoise(
                x[replica, level], sigma[replica, level], labels[replica, level]
            )
            torch.testing.assert_close(grouped[replica, level], alone)


def test_residual_is_zero_for_the_perfect_answer() -> None:
    network = RowTableNetwork([2, 6], seeds=[0])
    x0, noise = torch.randn(1, 2, 3, 2), torch.randn(1, 2, 3, 2)
    sigma = torch.tensor([[0.5, 2.0]])
    residual = network.residual_groups(x0, noise, sigma)
    denoised = network.denoise_groups(x0 + sigma[..., None, None] * noise, sigma)
    _, c_out, _ = coefficients(network.preconditioning, sigma)
    torch.testing.assert_close(denoised - x0, c_out[..., None, None] * residual)


def test_codes_replace_the_weights_and_leave_the_rows_as_parameters() -> None:
    network = RowTableNetwork([2, 23, 23], seeds=[0])
    codes = [encode(w, 4) for w in network.weights()]
    coded = network.with_codes([codes])
    assert (coded.bits, network.bits, network.codes) == (4, None, None)
    for w, matrix in zip(coded.weights(), codes, strict=True):
        np.testing.assert_array_equal(w, matrix.weights())
    assert not any(name.startswith("raw") for name, _ in coded.named_parameters())
    np.testing.assert_allclose(coded.rows(0.3).gains[1], network.rows(0.3).gains[1])
    x = torch.randn(20, 2, generator=torch.Generator().manual_seed(0))
    expected = by_the_protocol(coded, x.double().numpy(), 0.3)
    np.testing.assert_allclose(coded.denoise(x, 0.3).detach().numpy(), expected, atol=2e-5)
    torch.testing.assert_close(coded.replica(0).denoise(x, 0.3), coded.denoise(x, 0.3))


def test_shapes_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ProgramError, match="sizes"):
        RowTableNetwork([2])
    with pytest.raises(ProgramError, match="n_classes -1"):
        RowTableNetwork([2, 3], n_classes=-1)
    network = RowTableNetwork([2, 3], seeds=[0])
    with pytest.raises(ProgramError, match="2 replicas"):
        network.with_codes([[], []])
    with pytest.raises(ProgramError, match="shapes"):
        network.with_codes([[encode(np.ones((2, 2)), 4)]])
