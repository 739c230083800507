"""A network trained through today's machine with nothing but its records: no device is asked for anything.

The fitted twin predicts the map of the frame that the network's weights will make; through that, rounded to
the codes to come, the network learns to compute what it was meant to, with batches on machines that differ by
what the records are uncertain by. Biases and gains are re-fitted to the codes in the end.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from labctl.devices import ConfigError
from labctl.models.datasets import DataSource
from labctl.models.network import RowTableNetwork
from labctl.physics import FittedMap
from labctl.programs import PlacedWeights, encode
from labctl.sampling import placed
from labctl_calibration.compensation import CODING, FREE, REFIT, channel_order, input_scale, own_samples
from labctl_calibration.optical.twin import FittedTwin
from labctl_calibration.stages import Fitting, Stage, Tell
from labctl_calibration.taking import silent

SHORT = 50  # iterations of a stage below which nothing is learnt


def train_through(
    twin: FittedTwin,
    network: RowTableNetwork,
    source: DataSource | None = None,
    *,
    bits: int = 4,
    mismatch: bool = True,
    shorter: float = 1.0,
    tell: Tell = silent,
) -> RowTableNetwork:
    """The network with codes of `bits` bits, biases and gains for the twin's machine, rows on good channels.

    `network` is a float network of one replica; what it computes is what is wanted. `source` None: samples of
    its own stand for its data. mismatch: whether batches differ by what the records are uncertain by.
    `shorter` divides the lengths of the stages.

    An engine is to run it with `use_order(rows_of(twin, network))`. Raises ConfigError for a network that has
    codes already, ProgramError for one that does not fit the machine.
    """
    if network.codes is not None:
        raise ConfigError(f"the network has codes of {network.codes[0].bits} bits; allowed: a float network")
    data, n = source or own_samples(network), twin.spec.n_channels
    order = rows_of(twin, network)
    limit = twin.spec.hidden_gain.high * twin.loop.gain_scale.numpy()[order]
    doubt = twin.mismatch().on(order) if mismatch else None
    fitting = Fitting(data, network, limit, tell, doubt)
    weights = placed(network, n)
    light = light_in_rows(twin, weights, order)
    scale = input_scale(light.curve, weights.placement.state)
    free = fitting.trained(_of(FREE, shorter), network.freed().with_input_scale(scale), weights, light)
    near = fitting.trained(_of(CODING, shorter), free.plain(), weights, light, bits).plain()
    coded = near.with_codes([[encode(matrix, bits) for matrix in near.weights()]])
    shown = placed(coded, n)
    light = light_in_rows(twin, shown, order)
    return fitting.trained(_of(REFIT, shorter), coded, shown, light).plain()


def rows_of(twin: FittedTwin, network: RowTableNetwork) -> NDArray[np.int64]:
    """Which channel is to carry each row [n]."""
    return channel_order(placed(network, twin.spec.n_channels), twin.channels)


def light_in_rows(twin: FittedTwin, weights: PlacedWeights, order: NDArray[np.int64]) -> FittedMap:
    """The map to expect of a program's frame, in the program's rows."""
    row_of = np.argsort(order)
    light = twin.light_of(torch.from_numpy(weights.fractions[np.ix_(row_of, row_of)]))
    at = torch.from_numpy(order)
    # the closed loop's own offset is nulled when the frame is loaded
    return FittedMap(light.powers[:, at][:, :, at], light.curve.on(at), torch.zeros_like(light.offset))


def _of(stage: Stage, shorter: float) -> Stage:
    return Stage(stage.what, max(SHORT, round(stage.iterations / shorter)), stage.rate)
