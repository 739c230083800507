"""A network over a measured map: over the machine as designed it is the network itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from labctl_calibration.compensation import channel_order

from labctl.devices.errors import ProgramError
from labctl.models.measured import MeasuredNetwork
from labctl.models.network import HIDDEN_GAIN, RowTableNetwork
from labctl.models.refit import code_network
from labctl.physics import FittedCurve, FittedMap
from labctl.programs import encode
from labctl.sampling import placed

N = 24
SIZES = (2, 9, 8)


def designed(weights, powers=None):
    """The map of a machine without faults, or with these powers."""
    ideal = weights.fractions[None] if powers is None else powers
    zero = torch.zeros(N, dtype=torch.float64)
    return FittedMap(torch.from_numpy(ideal), FittedCurve.nominal(N), zero)


def inputs(levels=5, members=7, seed=0):
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(1, levels, members, SIZES[0], generator=rng) * 2
    return x, torch.logspace(-1.2, 1, levels)


@pytest.fixture(params=[0, 3], ids=["plain", "classes"])
def network(request):
    return RowTableNetwork(SIZES, seeds=[4], n_classes=request.param)


def labels_for(network, x):
    if not network.n_classes:
        return None
    return torch.arange(x.shape[1] * x.shape[2]).reshape(x.shape[1:3]) % network.n_classes


def f_of(network, x, sigma):
    with torch.no_grad():
        return network.raw_groups(x, sigma, labels_for(network, x)).numpy()


@pytest.mark.parametrize("bits", [2, 4, 9])
def test_frozen_codes_over_the_designed_machine_are_the_network(network, bits):
    coded = code_network(network, bits)
    weights = placed(coded, N)
    x, sigma = inputs()
    through = MeasuredNetwork(coded, weights, designed(weights))
    np.testing.assert_allclose(f_of(through, x, sigma), f_of(coded, x, sigma), atol=2e-3)


def test_float_weights_over_the_designed_machine_are_the_network_at_those_bits(network):
    """The frame on display was coded coarsely; what is computed belongs to the weights that are now."""
    shown = placed(code_network(network, 4), N)
    x, sigma = inputs()
    through = MeasuredNetwork(network, shown, designed(shown), bits=9)
    wanted = f_of(code_network(network, 9), x, sigma)
    np.testing.assert_allclose(f_of(through, x, sigma), wanted, atol=2e-3)
    assert np.abs(wanted - f_of(code_network(network, 4), x, sigma)).max() > 0.02


def test_freed_codes_compute_the_same(network):
    coded = code_network(network, 4)
    x, sigma = inputs()
    free = coded.freed()
    assert free.codes is None
    np.testing.assert_allclose(f_of(free, x, sigma), f_of(coded, x, sigma), atol=1e-5)
    again = code_network(free, 4)
    for ours, theirs in zip(again.codes, coded.codes, strict=True):
        np.testing.assert_array_equal(ours.codes, theirs.codes)


def test_rows_short_of_full_scale_are_not_freed(network):
    """A float row's largest weight is 1: such a row would come back scaled up, in silence."""
    shared = network.with_codes([[encode(w * np.linspace(0.3, 1, len(w))[:, None], 4, "global")
                                  for w in network.weights()]])  # fmt: skip
    with pytest.raises(ProgramError, match=r"matrix 1, row 0: the largest code is 2; allowed .*: 7"):
        shared.freed()


def test_leakage_and_curves_are_computed_as_the_machine_would(network):
    """Against the machine's own fixed point, iterated to the end in numpy."""
    coded = code_network(network, 4)
    weights = placed(coded, N)
    rng = np.random.default_rng(1)
    powers = np.zeros((2, N, N))
    powers[0] = weights.fractions * 0.97 + 0.01 * rng.normal(size=(N, N))
    powers[1] = 0.02 * weights.fractions
    offset = 0.01 * rng.normal(size=N)
    curve = FittedCurve.nominal(N)
    light = FittedMap(torch.from_numpy(powers), curve, torch.from_numpy(offset))
    sigma, label = 0.7, 0
    x = rng.normal(size=(6, 2))
    c_in = 1 / np.sqrt(sigma**2 + 1)
    tables = coded.rows(sigma)
    gain = weights.placement.spread(tables.gains)[label] * weights.scale_out
    bias = weights.placement.spread(tables.biases)[label]
    z = np.zeros((6, N))
    for _ in range(200):
        z[:, :2] = c_in * x
        phi = np.tanh(z)
        y = phi @ powers[0].T + phi**2 @ powers[1].T + offset
        out = gain * y + bias
        z[:, 2 : sum(SIZES)] = out[:, 2 : sum(SIZES)]
    through = MeasuredNetwork(coded, weights, light)
    groups = torch.from_numpy(x).float()[None, None]
    labels = None if not network.n_classes else torch.full((1, 6), label)
    with torch.no_grad():
        seen = through.raw_groups(groups, torch.tensor([sigma]), labels)[0, 0].numpy()
        plain = coded.raw_groups(groups, torch.tensor([sigma]), labels)[0, 0].numpy()
    changed = np.abs(plain - out[:, :2]).max()
    assert changed > 0.02
    np.testing.assert_allclose(seen, out[:, :2], atol=0.05 * changed)


def gradients(through, network):
    x, sigma = inputs()
    through.raw_groups(x, sigma, labels_for(network, x)).square().sum().backward()
    return {name: value.grad for name, value in through.named_parameters()}


def test_with_codes_the_gradient_reaches_the_row_functions_alone(network):
    coded = code_network(network, 4)
    weights = placed(coded, N)
    found = gradients(MeasuredNetwork(coded, weights, designed(weights)), network)
    assert not any(name.startswith("raw_") for name in found)
    assert all(grad is not None and grad.abs().max() > 0 for grad in found.values())


def test_free_weights_have_a_gradient_through_their_rounding(network):
    shown = placed(code_network(network, 4), N)
    found = gradients(MeasuredNetwork(network, shown, designed(shown), bits=4), network)
    for layer in range(len(SIZES)):
        assert found[f"raw_{layer}"].abs().max() > 0
    assert all(torch.isfinite(grad).all() for grad in found.values())


def test_training_a_measured_network_leaves_the_original_alone(network):
    coded = code_network(network, 4)
    before = {name: value.clone() for name, value in coded.state_dict().items()}
    weights = placed(coded, N)
    through = MeasuredNetwork(coded, weights, designed(weights))
    gradients(through, network)
    with torch.no_grad():
        for parameter in through.parameters():
            parameter += 0.1
    assert all(torch.equal(value, before[name]) for name, value in coded.state_dict().items())
    changed = through.plain()
    assert type(changed) is RowTableNetwork
    assert torch.equal(changed.w3, through.w3)


def test_hidden_gains_stop_at_what_the_machine_can_give(network):
    """gain x scale_out beyond the limit is the limit; the sample's own rows go on."""
    coded = code_network(network, 4)
    weights = placed(coded, N)
    x, sigma = inputs()
    limit = np.full(N, HIDDEN_GAIN[1])
    free = f_of(MeasuredNetwork(coded, weights, designed(weights)), x, sigma)
    wide = f_of(MeasuredNetwork(coded, weights, designed(weights), gain_limit=limit), x, sigma)
    np.testing.assert_allclose(wide, free, atol=1e-6)
    limit[:] = 0.05
    held = MeasuredNetwork(coded, weights, designed(weights), gain_limit=limit)
    assert np.abs(f_of(held, x, sigma) - free).max() > 0.05
    with torch.no_grad():
        gains, _ = held._tables(sigma)
    for matrix, gain in enumerate(gains):
        rows = weights.placement.blocks[matrix][0]
        reached = held._reached(matrix, gain) * torch.as_tensor(weights.scale_out[rows]).float()
        if matrix < len(SIZES) - 1:
            assert float(reached.max()) <= 0.05 * (1 + 1e-6)
        else:
            assert torch.equal(held._reached(matrix, gain), gain)


def test_float_weights_without_bits_are_refused(network):
    shown = placed(code_network(network, 4), N)
    with pytest.raises(ProgramError, match="needs the bits of its codes"):
        MeasuredNetwork(network, shown, designed(shown))


def test_the_sample_and_the_heaviest_rows_get_the_best_channels():
    weights = placed(code_network(RowTableNetwork(SIZES), 4), N)
    channels = np.random.default_rng(0).permutation(N)
    order = channel_order(weights, channels)
    assert sorted(order) == list(range(N))
    assert set(order[:2]) == set(channels[:2])
    assert set(order[sum(SIZES) :]) == set(channels[sum(SIZES) :])
    given = np.abs(weights.weights).sum(axis=0)[2 : sum(SIZES)]
    rank = np.argsort(channels)[order[2 : sum(SIZES)]]
    assert (np.diff(given[np.argsort(rank)]) <= 1e-12).all()
