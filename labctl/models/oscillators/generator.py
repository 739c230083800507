"""A generator made of oscillators: from noisy starting phases through a few segments to pixels.

    theta_0 = phase + amplitude eps,  eps standard normal;   pixel = (1 - cos theta) / 2 of the visible ones

`OscillatorGenerator` is what runs, is saved and becomes a program; `TrainableGenerator` is what is trained.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from labctl.devices.errors import ConfigError, DataError
from labctl.devices.topology import Topology, grid
from labctl.models.oscillators.codes import coded, codes_of, top_code
from labctl.models.oscillators.settings import BoardErrors, OscillatorShape
from labctl.models.pictures import Pictures
from labctl.physics import Stream
from labctl.physics.oscillators import Edges, OscillatorLaw, PhaseNoise, evolve

NODE_BITS: Final = 8
PIXEL_MAP: Final = "(1 - cos theta) / 2"
_CHUNK = 1000
_START = Stream(0, "generator", "start")


def pixels_of(theta: Tensor, n_visible: int) -> Tensor:
    """Pixels [B, P] in 0..1 of phases [B, n] (rad): those of the visible oscillators, which come first."""
    return 0.5 * (1.0 - torch.cos(theta[:, :n_visible]))


@dataclass(frozen=True, eq=False)
class OscillatorParameters:
    """All values of a generator: the law of its segments, starting phase [n] and noise amplitude [n], rad."""

    law: OscillatorLaw
    phase: Tensor
    amplitude: Tensor


@dataclass(frozen=True, eq=False)
class GeneratorCodes:
    """What a board of `bits` bits holds.

    coupling int8 [K, E] with a scale in units [K]; in_phase, quadrature, second, detuning int8 [K, n], phase
    and amplitude int8 [n], codes of 8 bits on the converters' fixed full scales (see `full_scales`).
    """

    bits: int
    coupling: NDArray[np.int8]
    scale: NDArray[np.float32]
    in_phase: NDArray[np.int8]
    quadrature: NDArray[np.int8]
    second: NDArray[np.int8]
    detuning: NDArray[np.int8]
    phase: NDArray[np.int8]
    amplitude: NDArray[np.int8]

    def values(self, shape: OscillatorShape) -> OscillatorParameters:
        """The values that the codes mean."""
        top, node = top_code(self.bits), top_code(NODE_BITS)
        full = full_scales(shape)

        def value(name: str) -> Tensor:
            return torch.as_tensor(getattr(self, name).astype(np.float32)) * (full[name] / node)

        coupling = torch.as_tensor(self.coupling.astype(np.float32)) / top
        law = OscillatorLaw(
            coupling * torch.as_tensor(self.scale)[:, None],
            *(value(name) for name in ("in_phase", "quadrature", "second", "detuning")),
        )
        return OscillatorParameters(law, value("phase"), value("amplitude"))


def full_scales(shape: OscillatorShape) -> dict[str, float]:
    """Full scales of the node converters: units for the law's, rad for the start's."""
    return {
        "in_phase": shape.injection_limit,
        "quadrature": shape.injection_limit,
        "second": shape.trim_limit,
        "detuning": shape.trim_limit,
        "phase": math.pi,
        "amplitude": math.pi,
    }


@dataclass(frozen=True, eq=False)
class OscillatorGenerator:
    """A generator of pictures of `side` pixels a side; `codes` are None for float parameters."""

    side: int
    shape: OscillatorShape
    topology: Topology
    parameters: OscillatorParameters
    codes: GeneratorCodes | None = None

    @property
    def edges(self) -> Edges:
        """Its edges, as the physics has them."""
        return edges_of(self.topology)

    @property
    def n_parameters(self) -> int:
        """Numbers that a program of it holds."""
        law = self.parameters.law
        per_segment = (law.coupling != 0).sum() if self.shape.density < 1 else law.coupling.numel()
        return int(per_segment) + 4 * law.detuning.numel() + 2 * self.topology.n

    def row_sum(self) -> float:
        """max_i sum_j |K_ij| over all segments, units."""
        return float(row_sums(self.topology, self.parameters.law.coupling.abs()).max())

    def generate(
        self,
        count: int,
        *,
        seed: int = 0,
        refine: int = 1,
        errors: BoardErrors | None = None,
        board: int = 0,
    ) -> Pictures:
        """`count` pictures [count, side, side] in 0..1; sample i's draws depend on seed and i alone.

        `refine` takes that many times the steps, which shows what a training learnt of the solver instead of
        the oscillators. `errors` are those of board number `board`, the same for every picture.
        """
        if count < 1 or refine < 1:
            raise DataError(f"count {count}, refine {refine}; allowed: 1 or more of each")
        law = self.parameters.law
        diffusion = 0.0
        if errors is not None:
            draw = torch.Generator().manual_seed(2**32 + board)
            law, diffusion = with_errors(law, errors, draw), errors.diffusion
        parts = []
        for first in range(0, count, _CHUNK):
            ids = np.arange(first, min(first + _CHUNK, count), dtype=np.int64)
            start = Stream(seed, _START.device, _START.name).normal(ids, self.topology.n)
            with torch.no_grad():
                theta = evolve(
                    self.edges,
                    law,
                    self.parameters.phase + self.parameters.amplitude * start,
                    duration=self.shape.duration / self.shape.segments,
                    steps=refine * self.shape.steps // self.shape.segments,
                    noise=PhaseNoise(diffusion, Stream(seed, "generator", "phases"), ids),
                )
                parts.append(pixels_of(theta, self.side**2).numpy())
        return np.concatenate(parts).reshape(count, self.side, self.side)


class TrainableGenerator(nn.Module):
    """Free numbers behind bounded parameters: couplings, injections and trims by tanh, noise in 0..pi.

    With `bits` set, its parameters are those of codes, mixed in by `blend` (0: float, 1: codes alone).
    `frozen` leaves the dynamics as they were drawn: only starting phases and noise train.
    """

    def __init__(self, side: int, shape: OscillatorShape, *, seed: int = 0, frozen: bool = False) -> None:
        super().__init__()
        self.side, self.shape = side, shape
        self.topology = grid(side, side, shape.radius, shape.hidden_share)
        self.edges = edges_of(self.topology)
        self.bits: int | None = None
        self.blend = 1.0
        draw = torch.Generator().manual_seed(seed)
        k, n, e = shape.segments, self.topology.n, self.topology.n_edges

        def normal(*size: int, sd: float) -> nn.Parameter:
            return nn.Parameter(sd * torch.randn(size, generator=draw))

        fan_in = max(1.0, e / n)
        self.coupling = normal(k, e, sd=(1.0 if frozen else 0.5) / math.sqrt(fan_in))
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

    def use_codes(self, bits: int) -> None:
        """From now on with codes of `bits` bits; the scales begin where they lose least of the couplings."""
        if bits == 1 and self.shape.density < 1:
            raise ConfigError(
                f"bits 1 with density {self.shape.density:g}: a code of one bit cannot be 0; allowed: 2 or more"
            )
        self.bits, self.blend = bits, 1.0
        with torch.no_grad():
            exact = self._coupling()
            self.log_scale.copy_(torch.stack([_best_scale(row[self.mask > 0], bits) for row in exact]).log())

    def values(self) -> OscillatorParameters:
        """The parameters as they act now, differentiable in the free numbers."""
        exact = self._exact()
        if self.bits is None or self.blend == 0:
            return exact
        full = full_scales(self.shape)
        law = exact.law
        coupling = coded(law.coupling, self.scale()[:, None], self.bits) * self.mask
        nodes = (
            coded(getattr(law, name), full[name], NODE_BITS)
            for name in ("in_phase", "quadrature", "second", "detuning")
        )
        phase = coded(exact.phase, full["phase"], NODE_BITS)
        amplitude = coded(exact.amplitude, full["amplitude"], NODE_BITS)
        rounded = OscillatorParameters(OscillatorLaw(coupling, *nodes), phase, amplitude)
        return rounded if self.blend == 1 else _mixed(exact, rounded, self.blend)

    def scale(self) -> Tensor:
        """Full scale of each segment's couplings [K], units: learnt, as far as limit and step bound allow."""
        if self.bits is None:
            raise ConfigError("scale: the couplings are floats; allowed: after use_codes")
        scale = self.log_scale.exp().clamp(max=self.shape.coupling_limit)
        with torch.no_grad():
            codes = codes_of(self._coupling(), scale[:, None], self.bits).abs() * self.mask
            most = row_sums(self.topology, codes).amax(dim=1) / top_code(self.bits)
        return torch.minimum(scale, self.shape.row_limit / most.clamp_min(1e-9))

    def pixels(self, count: int, draw: torch.Generator, errors: BoardErrors, step: int) -> Tensor:
        """Pixels [count, side^2] of fresh starting noise, on a board drawn anew; differentiable."""
        found = self.values()
        device = found.phase.device
        start = torch.randn(count, self.topology.n, generator=draw).to(device)
        law = with_errors(found.law, errors, draw)
        noise = None
        if errors.diffusion:
            # a batch's own samples: numbers that no other batch has
            ids = np.arange(step * count, (step + 1) * count, dtype=np.int64)
            noise = PhaseNoise(errors.diffusion, Stream(0, "generator", "training"), ids)
        theta = evolve(
            self.edges,
            law,
            found.phase + found.amplitude * start,
            duration=self.shape.duration / self.shape.segments,
            steps=self.shape.steps // self.shape.segments,
            noise=noise,
        )
        return pixels_of(theta, self.side**2)

    def finished(self) -> OscillatorGenerator:
        """The generator at rest: detached parameters, and codes where there are bits."""
        with torch.no_grad():
            if self.bits is None:
                found = self._exact()
                law = OscillatorLaw(
                    *(t.detach().cpu().clone() for t in _tables(found.law)),
                )
                still = OscillatorParameters(law, found.phase.cpu().clone(), found.amplitude.cpu().clone())
                return OscillatorGenerator(self.side, self.shape, self.topology, still)
            codes = self._codes()
        return OscillatorGenerator(self.side, self.shape, self.topology, codes.values(self.shape), codes)

    def _codes(self) -> GeneratorCodes:
        bits = self.bits or NODE_BITS
        exact, full, scale = self._exact(), full_scales(self.shape), self.scale()

        def whole(values: Tensor) -> NDArray[np.int8]:
            return np.asarray(values.cpu().numpy(), dtype=np.int8)

        nodes = {
            name: whole(codes_of(getattr(exact.law, name), full[name], NODE_BITS))
            for name in ("in_phase", "quadrature", "second", "detuning")
        }
        return GeneratorCodes(
            bits=bits,
            coupling=whole(codes_of(exact.law.coupling, scale[:, None], bits) * self.mask),
            scale=scale.cpu().numpy().astype(np.float32),
            phase=whole(codes_of(exact.phase, full["phase"], NODE_BITS)),
            amplitude=whole(codes_of(exact.amplitude, full["amplitude"], NODE_BITS)),
            **nodes,
        )

    def _coupling(self) -> Tensor:
        """[K, E] within the limit; rows whose sum breaks the step bound are scaled back to it."""
        limit = self.shape.coupling_limit
        bounded = limit * torch.tanh(self.coupling / limit) * self.mask
        sums = row_sums(self.topology, bounded.abs())
        share = (self.shape.row_limit / sums.clamp_min(1e-9)).clamp(max=1.0)
        return bounded * share[:, _targets(self.topology, share.device)]

    def _exact(self) -> OscillatorParameters:
        injection, trim = self.shape.injection_limit, self.shape.trim_limit
        law = OscillatorLaw(
            self._coupling(),
            injection * torch.tanh(self.in_phase / injection),
            injection * torch.tanh(self.quadrature / injection),
            trim * torch.tanh(self.second / trim),
            trim * torch.tanh(self.detuning / trim),
        )
        # phases are the same a turn on: the converter's range is one turn about 0
        turns = torch.round(self.phase.detach() / (2.0 * math.pi))
        return OscillatorParameters(
            law, self.phase - 2.0 * math.pi * turns, math.pi * torch.sigmoid(self.amplitude)
        )


def edges_of(topology: Topology) -> Edges:
    """A board's wiring as the physics has it."""
    return Edges(topology.n, topology.target, topology.source)


def row_sums(topology: Topology, values: Tensor) -> Tensor:
    """Sums [K, n] over what each oscillator hears, of values [K, E]."""
    target = _targets(topology, values.device)
    return values.new_zeros(len(values), topology.n).index_add(1, target, values)


def _targets(topology: Topology, device: torch.device) -> Tensor:
    return torch.as_tensor(topology.target.astype(np.int64), device=device)


def with_errors(law: OscillatorLaw, errors: BoardErrors, draw: torch.Generator) -> OscillatorLaw:
    """The law on a board with drawn mismatch, the same in all segments: its cells are what they are."""
    if not (errors.detuning or errors.gain or errors.offset):
        return law
    e, n = law.coupling.shape[1], law.detuning.shape[1]
    gain, offset = (torch.randn(2, e, generator=draw)).to(law.coupling.device)
    detuning = torch.randn(n, generator=draw).to(law.coupling.device)
    return OscillatorLaw(
        law.coupling * (1.0 + errors.gain * gain) + errors.offset * offset,
        law.in_phase,
        law.quadrature,
        law.second,
        law.detuning + errors.detuning * detuning,
    )


def _tables(law: OscillatorLaw) -> Sequence[Tensor]:
    return law.coupling, law.in_phase, law.quadrature, law.second, law.detuning


def _mixed(a: OscillatorParameters, b: OscillatorParameters, share: float) -> OscillatorParameters:
    tables = [torch.lerp(x, y, share) for x, y in zip(_tables(a.law), _tables(b.law), strict=True)]
    return OscillatorParameters(
        OscillatorLaw(*tables),
        torch.lerp(a.phase, b.phase, share),
        torch.lerp(a.amplitude, b.amplitude, share),
    )


def _best_scale(values: Tensor, bits: int) -> Tensor:
    """The full scale with the least squared error of coded values [E], among shares of their largest."""
    most = values.abs().max().clamp_min(1e-6)
    if bits == 1:
        return values.abs().mean().clamp_min(1e-6)
    scales = most * torch.linspace(0.3, 1.0, 36)
    errors = torch.stack([(coded(values, s, bits) - values).square().sum() for s in scales])
    return scales[int(errors.argmin())]
