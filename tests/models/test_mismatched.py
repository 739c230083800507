"""Networks that meet another machine in every batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from labctl.devices import ConfigError
from labctl.models.mismatched import Mismatch, MismatchedNetwork
from labctl.models.network import RowTableNetwork
from labctl.physics import FittedCurve, FittedMap
from labctl.sampling import placed

N = 12


def through(mismatch, seed=0):
    network = RowTableNetwork((2, 6), seeds=[0])
    weights = placed(network, N)
    light = FittedMap(
        torch.from_numpy(weights.fractions)[None], FittedCurve.nominal(N), torch.zeros(N).double()
    )
    return MismatchedNetwork(network, weights, light, mismatch, bits=9, seed=seed)


def f_of(network):
    x = torch.linspace(-1, 1, 8).reshape(1, 1, 4, 2)
    return network.raw_groups(x, torch.tensor([0.5]), None)


def test_every_evaluation_meets_another_machine_and_seeds_repeat_them():
    mismatch = Mismatch(np.full((N, N), 0.05), np.full(N, 0.02))
    network, again = through(mismatch), through(mismatch)
    first, second = f_of(network), f_of(network)
    assert not torch.equal(first, second)
    assert torch.equal(f_of(again), first)
    assert not torch.equal(f_of(through(mismatch, seed=1)), first)
    with torch.no_grad():
        assert torch.equal(f_of(network), f_of(network))


def test_without_uncertainty_it_is_the_measured_one():
    network = through(Mismatch(np.zeros((N, N)), np.zeros(N)))
    with torch.no_grad():
        mean = f_of(network)
    torch.testing.assert_close(f_of(network), mean)


@pytest.mark.parametrize("bad", [-0.1, np.nan])
def test_impossible_uncertainties_are_refused(bad):
    with pytest.raises(ConfigError, match="weight has"):
        Mismatch(np.full((N, N), bad), np.zeros(N))
