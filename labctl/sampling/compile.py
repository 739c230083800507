"""From a scheme and a network to a program: which leak, gain and bias each settle gets.

Hardware variable u = c_in x. With g in front of the denoiser D = c_skip x + c_out F (conventions, section 5):
rows u have leak 1 - g c_skip, gain g c_in c_out g_out and bias c_in c + g c_in c_out b_out; hidden rows have
leak 1 and the network's own gain and bias. In "evaluate" rows u hold c_in x and rows h_L are read.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from labctl.programs import (
    CodedMatrix,
    LoopProgram,
    LoopSegment,
    PlacedWeights,
    Placement,
    Settled,
    place,
)
from labctl.sampling.network import LoopNetwork
from labctl.sampling.sampler import Sampler
from labctl.sampling.split import parts_of, visits

FloatArray = NDArray[np.float64]
DEFAULT_TOLERANCE = 0.05
DEFAULT_SWEEPS = 2  # over the parts of a cut network: the second leaves less than the scheme's own error


@dataclass(frozen=True)
class Ask:
    """One thing a scheme asks of a machine: settle with g at sigma, or evaluate at sigma (g = 0)."""

    kind: Literal["implicit", "evaluate"]
    g: float
    sigma: float


class _Recorder:
    """A machine that only writes down what a scheme asks of it."""

    def __init__(self) -> None:
        self.asks: list[Ask] = []

    def settle(self, c: FloatArray, g: float, sigma: float, start: FloatArray) -> FloatArray:
        self.asks.append(Ask("implicit", g, sigma))
        return c

    def denoise(self, x: FloatArray, sigma: float) -> FloatArray:
        self.asks.append(Ask("evaluate", 0.0, sigma))
        return x


def asks_of(sampler: Sampler) -> list[Ask]:
    """Everything the sampler will ask, in order; schemes never branch on the state."""
    recorder = _Recorder()
    sampler.run(recorder, np.zeros((1, 1)), sample_id=np.zeros(1, np.int64), seed=0)
    return recorder.asks


def placed(network: LoopNetwork, n_channels: int) -> PlacedWeights:
    """The network's codes, where it has them, or its float weights, laid into the machine's W."""
    codes: list[CodedMatrix] | None = getattr(network, "codes", None)
    return place(codes if codes is not None else network.weights(), n_channels)


def segment_of(
    network: LoopNetwork, placement: Placement, ask: Ask, *, tolerance: float = DEFAULT_TOLERANCE
) -> LoopSegment:
    """The segment for one ask. `tolerance` is relative to sigma, as an error of x."""
    c_skip, c_out, c_in = network.preconditioning.coefficients(ask.sigma)
    rows = network.rows(ask.sigma)
    gain, bias = placement.spread(rows.gains), placement.spread(rows.biases)
    leak = np.ones(placement.n_channels)
    state = placement.state
    scale = ask.g * c_in * c_out if ask.kind == "implicit" else 0.0
    gain[:, state] *= scale
    bias[:, state] *= scale
    if ask.kind == "implicit":
        leak[state] = 1.0 - ask.g * c_skip
    end = Settled(tolerance * ask.sigma * c_in)
    return LoopSegment(ask.kind, ask.sigma, leak, gain, bias, c_in, end)


def compile_program(
    network: LoopNetwork,
    sampler: Sampler,
    n_channels: int,
    *,
    tolerance: float = DEFAULT_TOLERANCE,
    sweeps: int = DEFAULT_SWEEPS,
) -> LoopProgram:
    """The whole chain. A network larger than the machine is cut into parts, one matrix each, and every step
    settles them in sequence, `sweeps` times over; an evaluation asks each once.

    Raises ProgramError for a network that neither fits the machine nor can be cut.
    """
    parts = parts_of(network, n_channels)
    matrices = tuple(placed(part, n_channels) for part in parts)
    segments: list[LoopSegment] = []
    at_top = False
    for ask in asks_of(sampler):
        each = [segment_of(part, matrices[0].placement, ask, tolerance=tolerance) for part in parts]
        order = visits(len(parts), sweeps if ask.kind == "implicit" else 1, at_top)
        segments += [replace(each[k], matrix=k, last=False) for k in order[:-1]]
        segments.append(replace(each[order[-1]], matrix=order[-1]))
        at_top = order[-1] > 0
    return LoopProgram(matrices, tuple(segments))
