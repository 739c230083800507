"""Forward map of an optical bench with its faults: drive to light, through two planes, to photocurrents.

In order (the 48-channel machine's): emitters' cubic light-current law per sign path and channel; input
efficiency; planes, each output with a quadratic of the transmittance; product per path; output correction;
light that passes the beamsplitter unmodulated; neighbours' crosstalk in the detector array (each without
its own darkness); compression. The 16-channel machine has the crosstalk before the splitter, whose leakage
there crosses from path to path. Order and forms: adm.md 2.1. Everything is differentiable.

Sign paths are an axis of length 2, positive first; matrices are [out, in].
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from labctl.physics.curve import ElectronicsCurve
from labctl.physics.loop import saturate

Order = Literal["splitter first", "crosstalk first"]


@dataclass(frozen=True)
class LightPath:
    """Parameters of the light's way; shapes with n channels.

    emission [2, n, 4]: cubic in (drive - centre), highest power first. droop [2, n]: drive beyond which an
    emitter gives no more light. input_efficiency [2, n] of each input channel (0 = dead). weight_response
    [2, n, 3]: a T^2 + b T + c of the transmittances T of each output channel. output_correction [2, n].
    splitter [2, n]: share of an input channel's light that reaches the output of the same index past the
    planes. crossing [2, n, 3]: what output k of a path receives of the other path's light, a quadratic of
    that path's row n - k (16-channel machine; None: nothing). neighbour [2, n, 2]: shares of a detector's
    signal in the earlier and the later one. darkness [2, n]: of the signal, not passed on. compression
    [2, n]: i / (1 + k i), per unit of photocurrent.
    """

    emission: Tensor
    droop: Tensor
    input_efficiency: Tensor
    weight_response: Tensor
    output_correction: Tensor
    splitter: Tensor
    neighbour: Tensor
    darkness: Tensor
    compression: Tensor
    centre: float = 0.0
    crossing: Tensor | None = None
    order: Order = "splitter first"

    @classmethod
    def ideal(cls, n: int, dtype: torch.dtype = torch.float64) -> LightPath:
        """Light as driven, planes as shown, detectors alone."""

        def full(*shape: int, value: float) -> Tensor:
            return torch.full(shape, value, dtype=dtype)

        linear = torch.tensor([0.0, 0.0, 1.0, 0.0], dtype=dtype)
        return cls(
            emission=linear.repeat(2, n, 1),
            droop=full(2, n, value=torch.inf),
            input_efficiency=full(2, n, value=1.0),
            weight_response=torch.tensor([0.0, 1.0, 0.0], dtype=dtype).repeat(2, n, 1),
            output_correction=full(2, n, value=1.0),
            splitter=full(2, n, value=0.0),
            neighbour=full(2, n, 2, value=0.0),
            darkness=full(2, n, value=0.0),
            compression=full(2, n, value=0.0),
        )

    @property
    def linear_emission(self) -> bool:
        """Whether light is proportional to the drive, and alike on both paths."""
        a, b, c, d = self.emission.unbind(-1)
        return bool(
            (a == 0).all()
            and (b == 0).all()
            and (d == c * self.centre).all()
            and (c[0] == c[1]).all()
            and torch.isinf(self.droop).all()
        )

    def light(self, drive: Tensor) -> Tensor:
        """Light of every emitter on both paths [B, 2, n] of a drive [B, n], before the input optics."""
        u = torch.minimum(drive[..., None, :], self.droop) - self.centre
        a, b, c, d = self.emission.unbind(-1)
        return ((a * u + b) * u + c) * u + d

    def planes(self, transmittance: Tensor) -> Tensor:
        """Weights [2, n, n] that transmittances [2, n, n] make, by each output's quadratic."""
        a, b, c = (part[..., None] for part in self.weight_response.unbind(-1))
        return (a * transmittance + b) * transmittance + c

    def currents(self, light: Tensor, transmittance: Tensor) -> Tensor:
        """Photocurrents of both paths [B, 2, n] of `light` [B, 2, n] through `transmittance` [2, n, n]."""
        entered = light * self.input_efficiency
        signal = torch.einsum("poi,bpi->bpo", self.planes(transmittance), entered) * self.output_correction
        past = self.splitter * self.output_correction * entered
        if self.order == "splitter first":
            signal = self._crosstalk(signal + past)
        else:
            signal = self._crosstalk(signal) + past
        if self.crossing is not None:
            signal = signal + torch.einsum("poi,bpi->bpo", self._crossed(transmittance), entered.flip(1))
        return self.compressed(signal)

    def optical(self, transmittance: Tensor) -> Tensor:
        """Light at the detectors (or a camera) as matrices [to 2, from 2, n, n] of the emitters' light."""
        lit = self.planes(transmittance) + torch.diag_embed(self.splitter)
        return self._with_crossing(lit, transmittance) * self.input_efficiency[None, :, None, :]

    def folded(self, transmittance: Tensor) -> tuple[Tensor, Tensor]:
        """`currents` before compression as matrices [to 2, from 2, n, n] and constants [2, n]."""
        n = transmittance.shape[-1]
        spread = self._spread()
        lit = self.planes(transmittance) * self.output_correction[..., None]
        past = torch.diag_embed(self.splitter * self.output_correction)
        own = spread @ (lit + past) if self.order == "splitter first" else spread @ lit + past
        kept = torch.einsum("poi,pi->po", spread - torch.eye(n, dtype=spread.dtype), self.darkness)
        matrices = self._with_crossing(own, transmittance)
        return matrices * self.input_efficiency[None, :, None, :], -kept

    def _with_crossing(self, own: Tensor, transmittance: Tensor) -> Tensor:
        n = own.shape[-1]
        out = torch.zeros(2, 2, n, n, dtype=own.dtype)
        out[0, 0], out[1, 1] = own[0], own[1]
        if self.crossing is not None:
            crossed = self._crossed(transmittance)
            out[0, 1], out[1, 0] = crossed[0], crossed[1]
        return out

    def compressed(self, signal: Tensor) -> Tensor:
        """What the amplifiers make of photocurrents [B, 2, n]."""
        return signal / (1 + self.compression * signal)

    def _spread(self) -> Tensor:
        """Detector crosstalk as matrices [2, n, n]."""
        earlier, later = self.neighbour[:, 1:, 0], self.neighbour[:, :-1, 1]
        n = self.neighbour.shape[1]
        eye = torch.eye(n, dtype=self.neighbour.dtype)
        return eye + torch.diag_embed(earlier, offset=1) + torch.diag_embed(later, offset=-1)

    def _crosstalk(self, signal: Tensor) -> Tensor:
        own = signal - self.darkness
        out = signal.clone()
        out[..., :-1] = out[..., :-1] + self.neighbour[:, 1:, 0] * own[..., 1:]
        out[..., 1:] = out[..., 1:] + self.neighbour[:, :-1, 1] * own[..., :-1]
        return out

    def _crossed(self, transmittance: Tensor) -> Tensor:
        """[2, n, n]: from the other path's light to each output, rows of the other path's plane mirrored."""
        if self.crossing is None:
            return torch.zeros_like(transmittance)
        other = torch.roll(transmittance.flip(0).flip(1), 1, dims=1)  # row k holds the other's row n - k
        a, b, c = (part[..., None] for part in self.crossing.unbind(-1))
        return (a * other + b) * other + c


@dataclass(frozen=True)
class LoopErrors:
    """What the closed loop adds: scale (gain y + offset + gain offset_per_gain) + clip(bias) - leak z.

    Every field [n], network units: offset, offset_per_gain, scale; bias_limit, beyond which the summed bias
    is clipped; leak = leak_scale * asked + leak_offset.
    """

    offset: Tensor
    offset_per_gain: Tensor
    scale: Tensor
    bias_limit: Tensor
    leak_scale: Tensor
    leak_offset: Tensor

    @classmethod
    def none(cls, n: int, dtype: torch.dtype = torch.float64) -> LoopErrors:
        """A loop that does as asked."""
        zero, one = torch.zeros(n, dtype=dtype), torch.ones(n, dtype=dtype)
        return cls(zero, zero, one, torch.full_like(one, torch.inf), one, zero)

    def gain(self, gain: Tensor) -> Tensor:
        """Gain that y sees."""
        return gain * self.scale

    def bias(self, bias: Tensor, gain: Tensor) -> Tensor:
        """All that is added besides gain y."""
        clipped = torch.maximum(torch.minimum(bias, self.bias_limit), -self.bias_limit)
        return clipped + self.scale * (self.offset + gain * self.offset_per_gain)

    def leak(self, leak: Tensor) -> Tensor:
        """Leak that the state sees."""
        return leak * self.leak_scale + self.leak_offset


@dataclass(frozen=True)
class BenchLaw:
    """The whole forward map of a bench with one frame on display, in network units.

    transmittance [2, n, n]; pedestal: drive of an emitter at phi = 0; curve None is tanh, and curve_share
    goes from tanh (0) to the curve (1).
    """

    path: LightPath
    loop: LoopErrors
    transmittance: Tensor
    pedestal: float = 0.0
    curve: ElectronicsCurve | None = None
    curve_share: float = 1.0

    @classmethod
    def ideal(cls, transmittance: Tensor, pedestal: float = 0.0) -> BenchLaw:
        """y = W phi(z) with W = positive minus negative plane (plus the pedestal's offset)."""
        n, dtype = transmittance.shape[-1], transmittance.dtype
        return cls(LightPath.ideal(n, dtype), LoopErrors.none(n, dtype), transmittance, pedestal)

    def phi(self, z: Tensor) -> Tensor:
        """The electronics' nonlinearity."""
        if self.curve is None or self.curve_share == 0:
            return saturate(z)
        if self.curve_share == 1:
            return self.curve(z)
        plain = saturate(z)
        return plain + self.curve_share * (self.curve(z) - plain)

    def photocurrents(self, drive: Tensor) -> Tensor:
        """Both paths' photocurrents [B, 2, n] of emitter drives [B, n]."""
        return self.path.currents(self.path.light(drive), self.transmittance)

    def difference(self, drive: Tensor) -> Tensor:
        """Positive minus negative photocurrent [B, n]."""
        seen = self.photocurrents(drive)
        return seen[:, 0] - seen[:, 1]

    def response(self, z: Tensor) -> Tensor:
        """y(z) [B, n], the pedestal's offset included."""
        return self.difference(self.pedestal + self.phi(z))

    def rest(self) -> Tensor:
        """y at phi = 0 [n]: what an offset null removes."""
        n, dtype = self.transmittance.shape[-1], self.transmittance.dtype
        return self.difference(torch.full((1, n), self.pedestal, dtype=dtype))[0]

    def next_state(self, z: Tensor, gain: Tensor, leak: Tensor, bias: Tensor, null: Tensor) -> Tensor:
        """F(z) = (1 - leak) z + gain (y - null) + bias and the loop's errors; fixed points are the loop's."""
        forcing = self.loop.gain(gain) * (self.response(z) - null) + self.loop.bias(bias, gain)
        return z - self.loop.leak(leak) * z + forcing

    def matrix(self, around: Tensor | None = None) -> Tensor:
        """Effective weights [n, n]: slope of y with phi's output around it (0: the working point)."""
        n, dtype = self.transmittance.shape[-1], self.transmittance.dtype
        at = torch.zeros(n, dtype=dtype) if around is None else around.detach().clone()
        at.requires_grad_()
        with torch.enable_grad():
            seen = self.difference((self.pedestal + at)[None])[0]
        rows = [torch.autograd.grad(current, at, retain_graph=True)[0] for current in seen]
        return torch.stack(rows)

    def with_transmittance(self, transmittance: Tensor) -> BenchLaw:
        """The same bench with another frame."""
        return replace(self, transmittance=transmittance)
