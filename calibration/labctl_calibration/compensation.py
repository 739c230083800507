"""A network made to fit the bench it runs on: rows on good channels, weights, biases and gains adapted to it.

With the program's own frame on display, open-loop probes say what it does to light; that map and the
electronics' measured curves predict what the machine computes. Through them the network is trained to
compute what it was meant to: the teacher's F at noised data. First with free weights, then with weights that
feel their coming codes. The codes are the nearest to these or, of the free weights, those that cost F least:
whichever re-fits better. They are shown and probed again, and the network runs on them: what its own settles
say of every row corrects the map. Then, with the codes frozen, biases and gains alone are re-fitted to that.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from labctl.devices import ConfigError
from labctl.engines import OpticalLoopEngine
from labctl.models.datasets import Affine, DataSource
from labctl.models.measured import MeasuredNetwork
from labctl.models.network import RowTableNetwork
from labctl.models.points import PointTable
from labctl.models.reference import converged_samples, start_noise
from labctl.physics import FittedCurve, FittedMap
from labctl.programs import CodedMatrix, PlacedWeights, encode, search_codes
from labctl.sampling import placed
from labctl_calibration.bench import Bench
from labctl_calibration.frame_flicker import FrameFlicker, measure_flicker
from labctl_calibration.operating import OPERATING, Known, known, operated
from labctl_calibration.stages import FREE_BITS, SAMPLES_PER_LEVEL, SIGMA_RANGE, Fitting, Stage, Tell

OWN_SAMPLES = 8192  # of the network itself, where its data are not at hand
FREE = Stage("adapting the weights", 1000, 5e-3)
CODING = Stage("nearing the codes", 500, 1e-3)
TRIAL = Stage("choosing the codes", 300, 1e-2)
REFIT = Stage("re-fit to the bench", 1000, 1e-2)
STAGES = (FREE, CODING, TRIAL, REFIT)
MOMENT_LEVELS, MOMENT_SAMPLES = 24, 640
SCALE_RANGE = (0.5, 1.5)  # of rows u
METHOD = (
    *(STAGES, SAMPLES_PER_LEVEL, SIGMA_RANGE, FREE_BITS, MOMENT_LEVELS, MOMENT_SAMPLES, SCALE_RANGE),
    *(OWN_SAMPLES, OPERATING),
)


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
    tell: Tell,
    teacher: RowTableNetwork | None = None,
) -> RowTableNetwork:
    """The network adapted to the engine's bench: see `adapt`."""
    return adapt(engine, bench, network, source, probes=probes, tell=tell, teacher=teacher).network


@dataclass(frozen=True, eq=False)
class Adapted:
    """A network on its bench. Maps are of its frame, in its rows: `probed` with no state of the network,
    `known` after its own settles; so is its flicker.
    """

    network: RowTableNetwork
    probed: FittedMap
    known: Known
    flicker: FrameFlicker


def adapt(
    engine: OpticalLoopEngine,
    bench: Bench,
    network: RowTableNetwork,
    source: DataSource | None,
    *,
    probes: int,
    tell: Tell,
    teacher: RowTableNetwork | None = None,
) -> Adapted:
    """The network adapted to the engine's bench, with codes of the same bits, and what is known of it there.

    Puts the rows on their channels, and leaves them there. `source` None: samples of the network itself
    stand for its data. `teacher` is the network whose F is wanted, as before it was coded; None: the
    network's own. `probes` in all: a third for the first map, a third for settles of the network on its new
    codes; the last is what the engine measures by itself whenever it loads.

    Raises ConfigError for a network without codes, ProgramError for one that does not fit, or whose codes
    leave a row short of full scale.
    """
    codes = network.codes
    if codes is None:
        raise ConfigError(
            "bits is 'float'; compensation adapts coded networks; allowed: 1 to 9, or none of it"
        )
    data = source or own_samples(network)
    weights = placed(network, engine.n_channels)
    order = channel_order(weights, bench.channels)
    engine.use_order(order)
    limit = engine.electronics.spec.hidden_gain.high * bench.full_scale_units
    fitting = Fitting(data, teacher or network, limit * bench.trims.gain_scale[order], tell)
    engine.show(weights)
    light = bench.map_of(engine.electronics, order, probes=probes // 3)
    scale = input_scale(light.curve, weights.placement.state)
    free = fitting.trained(FREE, network.freed().with_input_scale(scale), weights, light)
    coded = _coded(fitting, free, weights, light, codes[0].bits)
    seen = operated(engine, coded, fitting.teacher, data, settles=probes // 3)
    probed = engine.measured_map()
    operating = known(probed, seen).light
    flicker = measure_flicker(engine.electronics, bench.full_scale_units)
    refitted = fitting.trained(REFIT, coded, placed(coded, engine.n_channels), operating).plain()
    found = known(probed, seen, powers=len(probed.powers), lines_hz=flicker.frequency_hz)
    return Adapted(refitted, probed, found, flicker)


def input_scale(curve: FittedCurve, state: slice) -> float:
    """The scale of rows u at which their curves are nearest to tanh, whose amplitude weights can undo.

    Hidden rows' gains and biases undo a scale; rows u hold what the host reads.
    """
    z = torch.linspace(-3.0, 3.0, 241, dtype=torch.float64)
    density, wanted = torch.exp(-(z**2) / 2), torch.tanh(z)

    def missed(scale: float) -> float:
        f = curve(scale * z[:, None].expand(-1, len(curve.scale)))[:, state].mean(dim=1)
        amplitude = (density * f * wanted).sum() / (density * f * f).sum()
        return float((density * (amplitude * f - wanted) ** 2).sum())

    return float(minimize_scalar(missed, bounds=SCALE_RANGE, method="bounded").x)


def _coded(
    fitting: Fitting, free: MeasuredNetwork, weights: PlacedWeights, light: FittedMap, bits: int
) -> RowTableNetwork:
    """The free network in codes of `bits`; weights and light are of the frame that was measured."""
    nearing = fitting.trained(CODING, free.plain(), weights, light, bits).plain()
    tried = [nearing.with_codes([[encode(matrix, bits) for matrix in nearing.weights()]])]
    if bits > 1:  # a sign has nothing to search
        tried.append(free.plain().with_codes([searched_codes(free, fitting.data, bits)]))
    losses = []
    for k, candidate in enumerate(tried):
        shown = placed(candidate, weights.placement.n_channels)
        through = fitting.through(candidate, shown, free.light_of(shown))
        losses.append(fitting.improve(TRIAL, through))
        tried[k] = through.plain()
    return tried[int(np.argmin(losses))]


def searched_codes(free: MeasuredNetwork, data: DataSource, bits: int) -> list[CodedMatrix]:
    """Codes of a network's weights by what they cost its F on the machine: see `search_codes`."""
    rng = np.random.Generator(np.random.Philox(key=505))
    sigma = np.geomspace(*SIGMA_RANGE, MOMENT_LEVELS)
    points, labels = data.draw(MOMENT_LEVELS * MOMENT_SAMPLES, rng)
    noised = points.reshape(MOMENT_LEVELS, MOMENT_SAMPLES, -1)
    noised = noised + sigma[:, None, None] * rng.standard_normal(noised.shape)
    moments = free.moments(
        torch.from_numpy(noised[None]).float(),
        torch.from_numpy(sigma).float(),
        None if labels is None else torch.from_numpy(labels).reshape(noised.shape[:2]),
    )
    matrices = free.plain().weights()
    return [search_codes(w, bits, m) for w, m in zip(matrices, moments, strict=True)]


def own_samples(network: RowTableNetwork) -> DataSource:
    """Samples of the network's converged ODE as a source of data, classes in rotation."""
    d = network.sizes[0]
    labels = torch.arange(OWN_SAMPLES) % network.n_classes if network.n_classes else None
    start = start_noise(OWN_SAMPLES, d, seed=2**41)
    points = converged_samples(network, start, labels, steps=24).double().numpy()
    identity = Affine((0.0,) * d, (1.0,) * d)
    classes = None if labels is None else labels.numpy()
    return PointTable("the network's own samples", points, identity, classes, network.n_classes)
