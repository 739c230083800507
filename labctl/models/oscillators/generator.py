"""A generator made of oscillators: from noisy starting phases through a few segments to pixels.

    theta_0 = phase + amplitude eps,  eps standard normal;   pixel = (1 - cos theta) / 2 of the visible ones

`OscillatorGenerator` is what runs, is saved and holds the program of a board; `TrainableGenerator` is what is
trained.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from labctl.devices.errors import ConfigError
from labctl.devices.topology import Topology
from labctl.devices.values import Coercion
from labctl.models.oscillators.board_law import edges_of, injection_scales, law_of, single, with_errors
from labctl.models.oscillators.codable import Codable
from labctl.models.oscillators.codes import coded, stepped
from labctl.models.oscillators.couplings import CouplingBounds
from labctl.models.oscillators.model import OscillatorModel
from labctl.models.oscillators.pixel_model import PixelModel
from labctl.models.oscillators.settings import BoardErrors, OscillatorShape
from labctl.models.pictures import Pictures
from labctl.physics import Stream
from labctl.physics.oscillators import OscillatorLaw, PhaseNoise, evolve
from labctl.programs import NodeScales, OscillatorProgram, code_program
from labctl.programs.codes import encode
from labctl.programs.oscillator_program import AMPLITUDE_BITS, START_BITS

PIXEL_MAP: Final = "cosine"
_NEAR_ONE = 1.0 - 1e-6  # share of a limit beyond which free numbers would run away
_TURN_STEP = 2.0 * math.pi / 2**START_BITS
_AMPLITUDE_STEP = math.pi / (2**AMPLITUDE_BITS - 1)


def pixels_of(theta: Tensor, n_visible: int) -> Tensor:
    """Pixels [B, P] in 0..1 of phases [B, n] (rad): those of the visible oscillators, which come first."""
    return 0.5 * (1.0 - torch.cos(theta[:, :n_visible]))


@dataclass(frozen=True, eq=False)
class OscillatorParameters:
    """All values of a generator: the law of its segments, starting phase [n] and noise amplitude [n], rad."""

    law: OscillatorLaw
    phase: Tensor
    amplitude: Tensor

    @classmethod
    def of(cls, program: OscillatorProgram) -> OscillatorParameters:
        """What the codes of a program mean, float32."""
        return cls(law_of(program), single(program.start_rad), single(program.amplitude_rad))

    def tables(self) -> dict[str, Tensor]:
        """Every table by name: coupling [K, E], the nodes' [K, n], phase and amplitude [n]."""
        law = self.law
        return {
            "coupling": law.coupling,
            "in_phase": law.in_phase,
            "quadrature": law.quadrature,
            "second": law.second,
            "detuning": law.detuning,
            "phase": self.phase,
            "amplitude": self.amplitude,
        }

    @classmethod
    def of_tables(cls, tables: dict[str, Tensor]) -> OscillatorParameters:
        """From the tables that `tables` gives."""
        law = {name: table for name, table in tables.items() if name not in ("phase", "amplitude")}
        return cls(OscillatorLaw(**law), tables["phase"], tables["amplitude"])


@dataclass(frozen=True, eq=False)
class OscillatorGenerator(OscillatorModel):
    """A generator of pictures of `side` pixels a side; without a `program` its parameters are floats."""

    shape: OscillatorShape
    parameters: OscillatorParameters

    stream = "generator"

    def segments_law(self) -> OscillatorLaw:
        """The law of its segments."""
        return self.parameters.law

    @property
    def n_parameters(self) -> int:
        """Numbers that act: couplings other than 0, node parameters, starts."""
        tables = self.parameters.tables()
        couplings = int((tables.pop("coupling") != 0).sum())
        return couplings + sum(table.numel() for table in tables.values())

    def _draw(
        self, ids: NDArray[np.int64], law: OscillatorLaw, noise: PhaseNoise, *, seed: int, refine: int
    ) -> Pictures:
        start = Stream(seed, self.stream, "start").normal(ids, self.topology.n)
        with torch.no_grad():
            theta = evolve(
                edges_of(self.topology),
                law,
                self.parameters.phase + self.parameters.amplitude * start,
                duration=self.shape.duration / self.shape.segments,
                steps=refine * self.shape.steps // self.shape.segments,
                noise=noise,
            )
            return np.asarray(pixels_of(theta, self.side**2).numpy())


def rounded_program(
    generator: OscillatorGenerator, bits: int
) -> tuple[OscillatorProgram, tuple[Coercion, ...]]:
    """The float parameters as the nearest codes, couplings of `bits` bits: nothing was trained with them.

    One scale a segment, of least squared error; what it clips comes back with the program. ConfigError for a
    generator that has codes already, ProgramError as `code_program` (at one bit also for couplings of 0).
    """
    if generator.program is not None:
        raise ConfigError(f"this generator has codes of {generator.bits} bits; allowed: one of floats")
    exact = {name: table.double().numpy() for name, table in generator.parameters.tables().items()}
    scale = encode(exact["coupling"], bits, "row-mse").scale
    return _coded_program(generator.topology, generator.shape, exact, bits, scale)


def program_of(generator: OscillatorGenerator) -> OscillatorProgram:
    """The program that a board runs; ConfigError for a generator of floats."""
    if generator.program is None:
        raise ConfigError("this generator's couplings are floats; allowed: a coded one, e.g. of 4 bits")
    return generator.program


class TrainableGenerator(Codable, PixelModel):
    """Free numbers behind bounded parameters: couplings, injections and trims by tanh, noise in 0..pi.

    `frozen` leaves the dynamics as they were drawn: only starting phases and noise train.
    """

    def __init__(self, side: int, shape: OscillatorShape, *, seed: int = 0, frozen: bool = False) -> None:
        super().__init__()
        self.side, self.shape = side, shape
        self.topology = shape.wired(side)
        self.edges = edges_of(self.topology)
        draw = torch.Generator().manual_seed(seed)
        k, n, e = shape.segments, self.topology.n, self.topology.n_edges

        def normal(*size: int, sd: float) -> nn.Parameter:
            return nn.Parameter(sd * torch.randn(size, generator=draw))

        # frozen dynamics are as strong as trained ones come out; trained ones begin at half of that
        self.coupling = normal(k, e, sd=(1.0 if frozen else 0.5) / math.sqrt(e / n))
        self.in_phase, self.quadrature = normal(k, n, sd=0.1), normal(k, n, sd=0.1)
        self.second, self.detuning = normal(k, n, sd=0.1), normal(k, n, sd=0.1)
        self.phase = nn.Parameter(math.pi * (2.0 * torch.rand(n, generator=draw) - 1.0))
        share = shape.noise / math.pi
        self.amplitude = nn.Parameter(torch.full((n,), math.log(share / (1.0 - share))))
        self.log_scale = nn.Parameter(torch.zeros(k))
        mask = torch.ones(e)
        if shape.density < 1:
            mask[torch.randperm(e, generator=draw)[round(shape.density * e) :]] = 0.0
        self.mask: Tensor
        self.register_buffer("mask", mask)
        for parameter in (self.coupling, self.in_phase, self.quadrature, self.second, self.detuning):
            parameter.requires_grad_(not frozen)

    def begin_at(self, parameters: OscillatorParameters) -> None:
        """Take over the parameters of a generator of this shape, as float32 lets the bounds be undone."""
        shape = self.shape
        limits = {
            "coupling": shape.coupling_limit,
            "in_phase": shape.injection_limit,
            "quadrature": shape.injection_limit,
            "second": shape.trim_limit,
            "detuning": shape.trim_limit,
        }
        tables = parameters.tables()
        with torch.no_grad():
            for name, limit in limits.items():
                share = (tables[name].double() / limit).clamp(-_NEAR_ONE, _NEAR_ONE)
                getattr(self, name).copy_(limit * torch.atanh(share))
            self.phase.copy_(tables["phase"])
            share = (tables["amplitude"].double() / math.pi).clamp(1.0 - _NEAR_ONE, _NEAR_ONE)
            self.amplitude.copy_(torch.log(share / (1.0 - share)))

    def use_codes(self, bits: int, *, anneal_share: float = 0.0) -> None:
        """From now on with codes of `bits` bits; the scales begin where they lose least of the couplings.

        Over the first `anneal_share` of a training, `progress_to` lets them in.
        """
        if bits == 1 and self.shape.density < 1:
            raise ConfigError(
                f"bits = 1 with shape.density = {self.shape.density:g}: one bit has no code 0; "
                "allowed: 2 bits or more, or a density of 1"
            )
        self.begin_codes(bits, anneal_share)
        with torch.no_grad():
            exact = self._bounds.bounded(self.coupling)[:, self.mask > 0].double().cpu().numpy()
            self.log_scale.copy_(torch.as_tensor(encode(exact, bits, "row-mse").scale.copy()).log())

    def values(self) -> OscillatorParameters:
        """The parameters as they act now, differentiable in the free numbers."""
        exact = self._exact().tables()
        if self.bits is None or self.blend == 0:
            return OscillatorParameters.of_tables(exact)
        converters = node_scales(self.shape)
        rounded = {"coupling": self._bounds.coded(exact["coupling"], self.scale(), self.bits)}
        for name in ("in_phase", "quadrature", "second", "detuning"):
            converter = converters.of(name)
            rounded[name] = coded(exact[name], converter.range_units, converter.bits)
        rounded["phase"] = stepped(exact["phase"], _TURN_STEP)
        rounded["amplitude"] = stepped(exact["amplitude"], _AMPLITUDE_STEP)
        return OscillatorParameters.of_tables(self.blended(exact, rounded))

    def scale(self) -> Tensor:
        """Full scale of each segment's couplings [K], units: learnt, up to the limit."""
        return self._bounds.scale(self.log_scale, self.coded_bits())

    @property
    def _bounds(self) -> CouplingBounds:
        return CouplingBounds(self.topology, self.shape.coupling_limit, self.shape.row_limit, self.mask)

    def pixels(self, count: int, draw: torch.Generator, errors: BoardErrors, step: int) -> Tensor:
        """Pixels [count, side^2] of fresh starting noise, on a board drawn anew; differentiable."""
        found = self.values()
        start = torch.randn(count, self.topology.n, generator=draw).to(found.phase.device)
        noise = None
        if errors.diffusion:
            # a batch's own samples: numbers that no other batch has
            ids = np.arange(step * count, (step + 1) * count, dtype=np.int64)
            noise = PhaseNoise(errors.diffusion, Stream(0, "generator", "training"), ids)
        theta = evolve(
            self.edges,
            with_errors(found.law, errors, draw),
            found.phase + found.amplitude * start,
            duration=self.shape.duration / self.shape.segments,
            steps=self.shape.steps // self.shape.segments,
            noise=noise,
        )
        return pixels_of(theta, self.side**2)

    def finished(self) -> OscillatorGenerator:
        """The generator at rest: detached parameters, and the program where there are codes.

        With codes they are in force in full, however far the blend had come. ProgramError where a board's
        law would not hold for it (see `code_program`).
        """
        self.blend = 1.0
        with torch.no_grad():
            values = {name: table.cpu().clone() for name, table in self.values().tables().items()}
            parameters, program = OscillatorParameters.of_tables(values), None
            if self.bits is not None:
                exact = {name: table.double().numpy() for name, table in values.items()}
                scale = self.scale().double().cpu().numpy()
                program, _ = _coded_program(self.topology, self.shape, exact, self.bits, scale)
                parameters = OscillatorParameters.of(program)
        return OscillatorGenerator(self.side, self.shape, self.topology, parameters, program=program)

    def _exact(self) -> OscillatorParameters:
        injection, trim = self.shape.injection_limit, self.shape.trim_limit
        law = OscillatorLaw(
            self._bounds.bounded(self.coupling),
            injection * torch.tanh(self.in_phase / injection),
            injection * torch.tanh(self.quadrature / injection),
            trim * torch.tanh(self.second / trim),
            trim * torch.tanh(self.detuning / trim),
        )
        return OscillatorParameters(law, self.phase, math.pi * torch.sigmoid(self.amplitude))


def _coded_program(
    topology: Topology,
    shape: OscillatorShape,
    exact: dict[str, NDArray[np.float64]],
    bits: int,
    scale: NDArray[np.float64],
) -> tuple[OscillatorProgram, tuple[Coercion, ...]]:
    """The tables of `OscillatorParameters.tables` as a program, couplings at full scale `scale` [K]."""
    return code_program(
        topology,
        coupling=exact["coupling"],
        in_phase=exact["in_phase"],
        quadrature=exact["quadrature"],
        second=exact["second"],
        detuning=exact["detuning"],
        start_rad=exact["phase"],
        amplitude_rad=exact["amplitude"],
        duration=shape.duration / shape.segments,
        bits=bits,
        scale=scale,
        pixel_map=PIXEL_MAP,
        nodes=node_scales(shape),
    )


def node_scales(shape: OscillatorShape) -> NodeScales:
    """The converters of node parameters whose full scales are the shape's limits."""
    default = NodeScales()
    return replace(
        injection_scales(shape.injection_limit),
        second=replace(default.second, range_units=shape.trim_limit),
        detuning=replace(default.detuning, range_units=shape.trim_limit),
    )
