"""A board's wiring, converters and codes as the physics has them, and what a board adds to a law."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from labctl.devices.topology import Topology
from labctl.models.oscillators.settings import BoardErrors
from labctl.physics.oscillators import Edges, OscillatorLaw
from labctl.programs import NodeScales, OscillatorProgram


def edges_of(topology: Topology) -> Edges:
    """A board's wiring as the physics has it."""
    return Edges(topology.n, topology.target.copy(), topology.source.copy())  # torch wants them writable


def law_of(program: OscillatorProgram) -> OscillatorLaw:
    """What the codes of a program's tables mean, float32."""
    tables = (
        program.coupling.weights(),
        *(program.node_values(name) for name in ("in_phase", "quadrature", "second", "detuning")),
    )
    return OscillatorLaw(*(single(table) for table in tables))


def injection_scales(limit: float) -> NodeScales:
    """The default converters, but for an injection of full scale `limit`, units."""
    default = NodeScales()
    return replace(default, injection=replace(default.injection, range_units=limit))


def with_errors(law: OscillatorLaw, errors: BoardErrors, draw: torch.Generator) -> OscillatorLaw:
    """The law on a board with drawn mismatch, the same in all segments: its cells are what they are."""
    if not (errors.detuning or errors.gain or errors.offset):
        return law
    e, n = law.coupling.shape[1], law.detuning.shape[1]
    gain, offset = torch.randn(2, e, generator=draw).to(law.coupling.device)
    detuning = torch.randn(n, generator=draw).to(law.coupling.device)
    return OscillatorLaw(
        law.coupling * (1.0 + errors.gain * gain) + errors.offset * offset,
        law.in_phase,
        law.quadrature,
        law.second,
        law.detuning + errors.detuning * detuning,
    )


def single(table: NDArray[np.floating]) -> Tensor:
    """A table in float32, as the kernels take it."""
    return torch.as_tensor(np.asarray(table, np.float32))
