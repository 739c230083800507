"""A diffusion chain made of oscillators: at every level a picture is held by anchors, settles, and is read.

    kappa_i sin(c x_i - theta_i) + sum_j K_ij sin(theta_j - theta_i) + a_i cos theta_i - b_i sin theta_i = 0

x: the noisy picture (variance-preserving, pixels in [-1, 1]); c = RAD_PER_PIXEL; the visible phases at rest
are c times the picture at the next level. `Diffuser` is what runs, is saved and holds the program of a board;
`TrainableDiffuser` is what is trained. Ours throughout: no paper's coefficients stand here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from labctl.devices.errors import ConfigError
from labctl.devices.topology import Topology
from labctl.models.oscillators.board_law import edges_of, injection_scales, law_of, single
from labctl.models.oscillators.codable import Codable
from labctl.models.oscillators.codes import coded, stepped
from labctl.models.oscillators.couplings import CouplingBounds
from labctl.models.oscillators.model import OscillatorModel
from labctl.models.oscillators.settings import DiffuserShape
from labctl.models.pictures import Pictures
from labctl.physics.oscillators import Edges, OscillatorLaw, PhaseNoise, evolve
from labctl.programs import OscillatorProgram, code_program
from labctl.programs.codes import encode
from labctl.sampling import AnchoredChain, EquilibriumMachine, cosine_levels
from labctl.sampling.equilibria import PIXEL_MAP

FloatArray = NDArray[np.float64]
STRENGTH_BITS = 8
_STRENGTH_START = 2.0  # logit of the anchors' first share of their limit: strong ones are not easily detuned


def signed(pictures: Pictures) -> FloatArray:
    """Pictures [N, side, side] in 0..1 as x0 [N, P] in [-1, 1]."""
    return np.asarray(2.0 * pictures.reshape(len(pictures), -1).astype(np.float64) - 1.0)


def unsigned(x: FloatArray) -> FloatArray:
    """x [B, P] as pixels; what lies outside [-1, 1] comes out outside 0..1."""
    return np.asarray((x + 1.0) / 2.0)


@dataclass(frozen=True, eq=False)
class Diffuser(OscillatorModel):
    """A chain on pictures of `side` pixels a side; without a `program` its couplings are floats.

    law: of its S segments; strength [K, P] of the anchors at each level, units. Its pictures are drawn
    through `labctl.sampling`, as on a board; pixels beyond 0..1 are set to the nearer end.
    """

    shape: DiffuserShape
    law: OscillatorLaw
    strength: Tensor

    stream = "chain"

    def segments_law(self) -> OscillatorLaw:
        """The law of its segments."""
        return self.law

    @property
    def n_parameters(self) -> int:
        """Numbers that act: couplings other than 0, injections, strengths."""
        law = self.law
        nodes = law.in_phase.numel() + law.quadrature.numel() + self.strength.numel()
        return int((law.coupling != 0).sum()) + nodes

    @cached_property
    def chain(self) -> AnchoredChain:
        """Its levels and anchors, as the sampler drives them."""
        return AnchoredChain(
            sigmas=cosine_levels(self.shape.levels, self.shape.sigma_max),
            strength=self.strength.double().numpy(),
            visible=np.arange(self.side**2),
            n=self.topology.n,
            segments=np.zeros(self.shape.levels, np.int64)
            if self.shape.shared
            else np.arange(self.shape.levels),
        )

    def segment(self, k: int) -> OscillatorLaw:
        """The law of segment k alone."""
        return segment_of(self.law, k)

    def uncoupled(self) -> Diffuser:
        """The same with every coupling at 0: what anchors and injections alone do. It has no program."""
        law = replace(self.law, coupling=torch.zeros_like(self.law.coupling))
        return replace(self, law=law, program=None)

    def _draw(
        self, ids: NDArray[np.int64], law: OscillatorLaw, noise: PhaseNoise, *, seed: int, refine: int
    ) -> Pictures:
        shape = self.shape
        settler = HostSettler(edges_of(self.topology), law, shape.duration, refine * shape.steps, noise)
        machine, start = EquilibriumMachine(self.chain, settler), self.chain.start(ids, seed=seed)
        x = self.chain.sampler().run(machine, start, sample_id=ids, seed=seed)
        return np.asarray(np.clip(unsigned(x), 0.0, 1.0).astype(np.float32))


@dataclass(frozen=True, eq=False)
class HostSettler:
    """The law itself, `steps` of Heun's method over `duration` units a level, with `noise` of its phases."""

    edges: Edges
    law: OscillatorLaw
    duration: float
    steps: int
    noise: PhaseNoise | None = None

    def rest(
        self, level: int, segment: int, start: FloatArray, anchors: tuple[FloatArray, FloatArray]
    ) -> FloatArray:
        """Phases [B, n] after the level's duration."""
        noise = self.noise and replace(self.noise, first_step=level * self.steps)
        with torch.no_grad():
            theta = evolve(
                self.edges,
                segment_of(self.law, segment),
                single(start),
                duration=self.duration,
                steps=self.steps,
                noise=noise,
                inject=(single(anchors[0]), single(anchors[1])),
            )
        return np.asarray(theta.double().numpy())


def segment_of(law: OscillatorLaw, k: int) -> OscillatorLaw:
    """Segment k of a law, alone."""
    return OscillatorLaw(
        law.coupling[k : k + 1],
        law.in_phase[k : k + 1],
        law.quadrature[k : k + 1],
        law.second[k : k + 1],
        law.detuning[k : k + 1],
    )


def chain_program_of(diffuser: Diffuser) -> OscillatorProgram:
    """The program that a board runs; ConfigError for a chain of floats."""
    if diffuser.program is None:
        raise ConfigError("this chain's couplings are floats; allowed: a coded one, e.g. of 4 bits")
    return diffuser.program


class TrainableDiffuser(Codable):
    """Free numbers behind bounded couplings, injections and anchor strengths, a list entry a segment.

    Codes have one scale a segment.
    """

    def __init__(self, side: int, shape: DiffuserShape, *, seed: int = 0) -> None:
        super().__init__()
        self.side, self.shape = side, shape
        self.topology = shape.wired(side)
        self.edges = edges_of(self.topology)
        draw = torch.Generator().manual_seed(seed)
        n, e, m = self.topology.n, self.topology.n_edges, side**2
        free = e
        if shape.couplings == "symmetric":  # one number a pair, found by the lower edge number of the two
            lower, pair = np.unique(np.minimum(np.arange(e), self.edges.reverse), return_inverse=True)
            self._pair, free = torch.as_tensor(pair), len(lower)
        hidden = torch.cat([torch.zeros(m), torch.ones(n - m)])
        limit = torch.full((n,), shape.injection_limit)
        limit[:m] -= shape.anchor_limit
        self.limit: Tensor
        self.register_buffer("limit", limit)
        sd = 0.3 / math.sqrt(e / n)

        def normal(size: int, sd: float) -> nn.Parameter:
            return nn.Parameter(sd * torch.randn(size, generator=draw))

        segments = range(shape.segments)
        self.coupling = nn.ParameterList([normal(free, sd) for _ in segments])
        self.in_phase = nn.ParameterList([normal(n, 0.05) for _ in segments])
        # hidden oscillators are held at 0 to begin with, visible ones by their picture alone
        self.quadrature = nn.ParameterList([nn.Parameter(hidden.clone()) for _ in segments])
        self.log_scale = nn.ParameterList([nn.Parameter(torch.zeros(1)) for _ in segments])
        self.strength = nn.ParameterList(
            [nn.Parameter(torch.full((m,), _STRENGTH_START)) for _ in range(shape.levels)]
        )
        for table in self.coupling:
            table.requires_grad_(shape.couplings != "none")

    @property
    def _bounds(self) -> CouplingBounds:
        """A chain without couplings is one whose mask lets none through."""
        none = self.shape.couplings == "none"
        mask = torch.zeros(self.topology.n_edges) if none else torch.ones(self.topology.n_edges)
        return CouplingBounds(
            self.topology, self.shape.coupling_limit, self.shape.row_limit, mask,
            symmetric=self.shape.couplings == "symmetric",
        )  # fmt: skip

    def segment(self, level: int) -> int:
        """Which parameter set acts at a level."""
        return 0 if self.shape.shared else level

    def of_levels(self, levels: Sequence[int]) -> list[nn.Parameter]:
        """What trains at some levels, each table once."""
        found: list[nn.Parameter] = []
        for level in levels:
            k = self.segment(level)
            found += [self.coupling[k], self.in_phase[k], self.quadrature[k], self.strength[level]]
            found += [self.log_scale[k]] if self.bits else []
        return [table for table in dict.fromkeys(found) if table.requires_grad]

    def use_codes(self, bits: int, *, anneal_share: float = 0.0) -> None:
        """From now on with codes of `bits` bits; the scales begin where they lose least of the couplings."""
        if bits == 1 and self.shape.couplings == "none":
            raise ConfigError("bits = 1 without couplings: one bit has no code 0; allowed: 2 bits or more")
        self.begin_codes(bits, anneal_share)
        if self.shape.couplings == "none":
            return
        with torch.no_grad():
            for k, log_scale in enumerate(self.log_scale):
                exact = self._exact_coupling(k).double().numpy()
                log_scale.copy_(torch.as_tensor(encode(exact, bits, "row-mse").scale.copy()).log())

    def values(self, level: int) -> tuple[OscillatorLaw, Tensor]:
        """The law of one segment that acts at a level, and its anchors' strength [P]; differentiable."""
        k = self.segment(level)
        limit = self.limit
        exact = {
            "coupling": self._exact_coupling(k),
            "in_phase": limit * torch.tanh(self.in_phase[k] / limit)[None],
            "quadrature": limit * torch.tanh(self.quadrature[k] / limit)[None],
            "strength": self.shape.anchor_limit * torch.sigmoid(self.strength[level]),
        }
        if self.bits is not None and self.blend > 0:
            converter = injection_scales(self.shape.injection_limit).injection
            step = self.shape.anchor_limit / (2**STRENGTH_BITS - 1)
            rounded = {
                "coupling": self._bounds.coded(exact["coupling"], self.scale(k), self.bits),
                "in_phase": coded(exact["in_phase"], converter.range_units, converter.bits),
                "quadrature": coded(exact["quadrature"], converter.range_units, converter.bits),
                "strength": stepped(exact["strength"], step).clamp_min(step),
            }
            exact = self.blended(exact, rounded)
        strength = exact.pop("strength")
        zero = torch.zeros(1, self.topology.n)
        return OscillatorLaw(**exact, second=zero, detuning=zero), strength

    def scale(self, k: int) -> Tensor:
        """Full scale of a segment's couplings [1], units."""
        return self._bounds.scale(self.log_scale[k], self.coded_bits())

    def _exact_coupling(self, k: int) -> Tensor:
        free = self.coupling[k][None]
        return self._bounds.bounded(free[:, self._pair] if self.shape.couplings == "symmetric" else free)

    def finished(self) -> Diffuser:
        """The chain at rest: detached parameters, and the program where there are codes."""
        self.blend = 1.0
        with torch.no_grad():
            found = [self.values(level) for level in range(self.shape.levels)]
            strength = torch.stack([s for _, s in found]).clone()
            laws = [law for law, _ in found[: self.shape.segments]]
            law = OscillatorLaw(
                *(torch.cat([getattr(one, name) for one in laws]).clone() for name in (
                    "coupling", "in_phase", "quadrature", "second", "detuning"))
            )  # fmt: skip
            program = None
            if self.bits is not None:
                scale = torch.cat([self.scale(k) for k in range(self.shape.segments)])
                program = chain_program(
                    self.topology, self.shape, law, self.side, bits=self.bits, scale=scale.double().numpy()
                )
                law = law_of(program)
                step = self.shape.anchor_limit / (2**STRENGTH_BITS - 1)
                strength = torch.round(strength / step) * step
        return Diffuser(self.side, self.shape, self.topology, law, strength, program=program)


def chain_program(
    topology: Topology, shape: DiffuserShape, law: OscillatorLaw, side: int, *, bits: int, scale: FloatArray
) -> OscillatorProgram:
    """The law as a program: a segment a parameter set. ProgramError where a board's law would not hold."""
    exact = {name: getattr(law, name).double().numpy() for name in ("coupling", "in_phase", "quadrature")}
    program, _ = code_program(
        topology,
        coupling=exact["coupling"],
        in_phase=exact["in_phase"],
        quadrature=exact["quadrature"],
        duration=shape.duration,
        bits=bits,
        scale=scale,
        visible=np.arange(side**2),
        pixel_map=PIXEL_MAP,
        nodes=injection_scales(shape.injection_limit),
    )
    return program
