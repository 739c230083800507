"""A network made to fit the bench it runs on: rows on good channels, weights, biases and gains adapted to it.

With the program's own frame on display, open-loop probes say what it does to light; that map and the
electronics' measured curves predict what the machine computes. Through them the network is trained to compute
what the codes were meant to: its own F at noised data. First with free weights; these are coded again, shown
and probed again; then, with the codes frozen, biases and gains alone are re-fitted to what is really there.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from labctl.devices import ConfigError
from labctl.engines import OpticalLoopEngine
from labctl.models.datasets import Affine, DataSource
from labctl.models.measured import MeasuredNetwork
from labctl.models.network import RowTableNetwork
from labctl.models.points import PointTable
from labctl.models.reference import converged_samples, start_noise
from labctl.models.refit import refit_settings
from labctl.models.training import TrainSettings, optimise
from labctl.programs import PlacedWeights, encode
from labctl.sampling import placed
from labctl_calibration.bench import Bench

FloatArray = NDArray[np.float64]
Tell = Callable[[str, int, int], None]
OWN_SAMPLES = 8192  # of the network itself, where its data are not at hand
ITERATIONS, SAMPLES_PER_LEVEL = 1500, 16  # of each of the two trainings
SIGMA_RANGE = (0.05, 12.0)  # uniform in ln sigma: low levels, where gains are highest, count like others
FREE_RATE, REFIT_RATE = 5e-3, 1e-2
FREE_BITS = 9  # of the weights while they move: the rounding of the codes to come would drown the gradient
METHOD = (ITERATIONS, SAMPLES_PER_LEVEL, SIGMA_RANGE, FREE_RATE, REFIT_RATE, FREE_BITS)


def channel_order(weights: PlacedWeights, channels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Which channel carries each row [n]: rows u on the best, hidden rows by what they give to others."""
    given = np.abs(weights.weights).sum(axis=0)
    given[weights.placement.state] += given.sum() + 1.0
    order = np.empty(len(given), np.int64)
    order[np.argsort(-given, kind="stable")] = channels
    return order


def compensate(
    engine: OpticalLoopEngine,
    bench: Bench,
    network: RowTableNetwork,
    source: DataSource | None,
    *,
    probes: int,
    settings: TrainSettings,
    tell: Tell,
) -> RowTableNetwork:
    """The network adapted to the engine's bench, with codes of the same bits; `probes` in all.

    Puts the rows on their channels, and leaves them there. `source` None: samples of the network itself stand
    for its data. Raises ConfigError for a network without codes, ProgramError for one that does not fit, or
    whose codes leave a row short of full scale.
    """
    codes = network.codes
    if codes is None:
        raise ConfigError(
            "bits is 'float'; compensation adapts coded networks; allowed: 1 to 9, or none of it"
        )
    bits = codes[0].bits
    data = source or own_samples(network)
    weights = placed(network, engine.n_channels)
    order = channel_order(weights, bench.channels)
    engine.use_order(order)
    limit = engine.electronics.spec.hidden_gain.high * bench.full_scale_units
    limits = limit * bench.trims.gain_scale[order]

    def fitted(network: RowTableNetwork, what: str) -> RowTableNetwork:
        """Trained through the map of the frame that is on display."""
        light = bench.map_of(engine.electronics, order, probes=probes // 2)
        through = MeasuredNetwork(network, weights, light, bits=FREE_BITS, gain_limit=limits)
        optimise(
            through, data, _settings(settings, free=network.codes is None), seeds=(0,), teacher=teacher,
            progress=lambda event: tell(what, event.done, event.total),
        )  # fmt: skip
        return through.plain()

    teacher = network
    engine.show(weights)
    free = fitted(network.freed(), "adapting the weights")
    coded = free.with_codes([[encode(matrix, bits) for matrix in free.weights()]])
    weights = placed(coded, engine.n_channels)
    engine.show(weights)
    return fitted(coded, "re-fit to the bench")


def _settings(trained: TrainSettings, *, free: bool) -> TrainSettings:
    return refit_settings(trained).model_copy(
        update={
            "iterations": ITERATIONS,
            "samples_per_level": SAMPLES_PER_LEVEL,
            "sigma_law": "loguniform",
            "sigma_low": SIGMA_RANGE[0],
            "sigma_high": SIGMA_RANGE[1],
            "learning_rate": FREE_RATE if free else REFIT_RATE,
        }
    )


def own_samples(network: RowTableNetwork) -> DataSource:
    """Samples of the network's converged ODE as a source of data, classes in rotation."""
    d = network.sizes[0]
    labels = torch.arange(OWN_SAMPLES) % network.n_classes if network.n_classes else None
    start = start_noise(OWN_SAMPLES, d, seed=2**41)
    points = converged_samples(network, start, labels, steps=24).double().numpy()
    identity = Affine((0.0,) * d, (1.0,) * d)
    classes = None if labels is None else labels.numpy()
    return PointTable("the network's own samples", points, identity, classes, network.n_classes)
