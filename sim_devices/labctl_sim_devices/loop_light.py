"""Light of a closed loop, step by step: from states to photocurrents, with the emitters' intensity noise.

Two ways: a bench without faults, one product W phi a step; and the true one, whose static nonlinearity from
state to light is tabulated once (linear between 2,049 states: within 1e-5 of a unit of light) and whose
linear optics are folded into one matrix from both paths' light.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor

from labctl.physics import BenchLaw, saturate
from labctl.physics.kernels import modulate

FloatArray = NDArray[np.float64]
Floats = NDArray[np.floating]
REACH_UNITS = 10.0
KNOTS = 2049


class LoopLight(Protocol):
    """What a loop's integrator asks of the light. Arrays [B, f]: f features that a camera's optics know."""

    light: Tensor
    flicker: Tensor
    y: Tensor
    jitter: Tensor
    total: Tensor

    @property
    def offset_units(self) -> FloatArray:
        """Photocurrent [n] at rest, which y leaves out."""
        ...

    @property
    def resting(self) -> float | FloatArray:
        """Light of the emitters at rest, one for all or [f]."""
        ...

    def shine(self, z: Tensor, time_us: float, rin_sd: float, rin: Tensor) -> None:
        """Emit the light of states z [B, n] so long after release: sets light and flicker."""
        ...

    def glow(self, z: Tensor, time_us: float) -> None:
        """As `shine`, without noise."""
        ...

    def detect(self, jitters: bool, counts: bool) -> None:
        """Detect it: sets y, and where asked jitter and total."""
        ...


class PlainLight:
    """y = W tanh(z), W = positive minus negative plane, light = pedestal + phi."""

    def __init__(self, paths: FloatArray, pedestal: float, batch: int, dtype: torch.dtype) -> None:
        n = paths.shape[1]
        weights = paths[0] - paths[1]
        self._pedestal = pedestal
        self.offset_units: FloatArray = pedestal * weights.sum(axis=1)
        self._weights = _matrix(weights.T, dtype)
        self._total = _matrix((paths[0] + paths[1]).T, dtype)
        self._phi, self.light, self.flicker = (torch.empty((batch, n), dtype=dtype) for _ in range(3))
        self._quiet = torch.zeros((batch, n), dtype=dtype)
        self.y = self.jitter = self.total = self._quiet

    @property
    def resting(self) -> float:
        """Light of the emitters at rest."""
        return self._pedestal

    def shine(self, z: Tensor, time_us: float, rin_sd: float, rin: Tensor) -> None:
        """Emit the light of states z [B, n]."""
        saturate(z, out=self._phi)
        modulate(
            self._phi.numpy(), self._pedestal, rin_sd, rin.numpy(), self.light.numpy(), self.flicker.numpy()
        )

    def glow(self, z: Tensor, time_us: float) -> None:
        """Light of states z [B, n] without noise."""
        torch.add(saturate(z), self._pedestal, out=self.light)
        self.flicker.zero_()

    def detect(self, jitters: bool, counts: bool) -> None:
        """One product for y, one more for each kind of noise."""
        self.y = self._phi @ self._weights
        self.jitter = self.flicker @ self._weights if jitters else self._quiet
        self.total = self.light @ self._total if counts else self.light


class EmissionTable:
    """Light of every emitter over its state, one path if both are alike, else two: [n, knots, paths]."""

    def __init__(
        self, law: BenchLaw, dtype: torch.dtype, at_emitters: Callable[[Tensor], Tensor] = lambda phi: phi
    ) -> None:
        """at_emitters: what arrives at the emitters [knots, n] of the channels' phi [knots, n]."""
        n = law.transmittance.shape[-1]
        grid = torch.linspace(-REACH_UNITS, REACH_UNITS, KNOTS, dtype=torch.float64)
        drive = law.pedestal + at_emitters(law.phi(grid[:, None].expand(-1, n).contiguous()))
        self.linear = law.path.linear_emission
        rest = torch.full((1, n), law.pedestal, dtype=torch.float64)
        if self.linear:
            light, resting = drive[:, None], rest[:, None]
        else:
            light, resting = law.path.light(drive), law.path.light(rest)
        self.table: Floats = light.permute(2, 0, 1).contiguous().to(dtype).numpy()
        self.rest: FloatArray = resting[0].numpy()


class TrueLight:
    """Light and photocurrents of a bench with its faults."""

    def __init__(
        self,
        law: BenchLaw,
        emission: EmissionTable,
        emitters: FloatArray,
        modulation: FloatArray,
        dtype: torch.dtype,
        dips: Callable[[float], FloatArray] | None = None,
    ) -> None:
        """`law` without the emitters' factors [n] of the moment; modulation [B] of each sample's light.

        dips: a further factor [B] at a time after release, where light changes during a settle.
        """
        batch, n = len(modulation), law.transmittance.shape[-1]
        self._table = emission.table
        self._modulation: Floats = modulation.astype(self._table.dtype)
        self._dips = dips
        matrices, constants = law.path.folded(law.transmittance)
        folded = matrices.numpy() * emitters
        if emission.linear:  # light is c times the drive on both paths
            folded = (folded * law.path.emission[:, :, 2].numpy()[None, :, None, :]).sum(axis=1)[:, None]
        paths = folded.shape[1]  # folded: [to, from, out, in]
        rest = emission.rest.reshape(-1)
        self.resting: FloatArray = rest
        both = folded.transpose(0, 1, 3, 2).reshape(2, paths * n, n)  # [to, features, out]
        at_rest = np.einsum("tfo,f->to", both, rest) + constants.numpy()
        compression = law.path.compression.numpy()
        seen = at_rest / (1 + compression * at_rest)
        self.offset_units: FloatArray = seen[0] - seen[1]
        slope = 1 / (1 + compression * at_rest) ** 2  # intensity noise is small: compressed as at rest
        self._to_both = _matrix(np.concatenate([both[0], both[1]], axis=1), dtype)
        self._to_noise = _matrix(both[0] * slope[0] - both[1] * slope[1], dtype)
        kind = self._table.dtype
        self._detectors: tuple[Floats, Floats, Floats] = (
            at_rest.astype(kind),
            compression.astype(kind),
            self.offset_units.astype(kind),
        )
        self._rest: Floats = rest.astype(self._table.dtype)
        shape = (batch, paths * n)
        self._change, self.light, self.flicker = (torch.empty(shape, dtype=dtype) for _ in range(3))
        self._quiet = torch.zeros((batch, n), dtype=dtype)
        self.y, self.total = torch.empty_like(self._quiet), torch.empty_like(self._quiet)
        self.jitter = self._quiet

    def shine(self, z: Tensor, time_us: float, rin_sd: float, rin: Tensor) -> None:
        """Emit the light of states z [B, n]."""
        modulation = self._modulation
        if self._dips is not None:
            modulation = modulation * self._dips(time_us).astype(modulation.dtype)
        _shine(
            z.numpy(), self._table, REACH_UNITS, self._rest, modulation, rin_sd, rin.numpy(),
            self._change.numpy(), self.light.numpy(), self.flicker.numpy(),
        )  # fmt: skip

    def glow(self, z: Tensor, time_us: float) -> None:
        """Light of states z [B, n] without noise."""
        self.shine(z, time_us, 0.0, self._quiet)

    def detect(self, jitters: bool, counts: bool) -> None:
        """One product for the currents of both paths, one more for intensity noise."""
        signal = self._change @ self._to_both
        at_rest, compression, offset = self._detectors
        _difference(signal.numpy(), at_rest, compression, offset, self.y.numpy(), self.total.numpy())
        self.jitter = self.flicker @ self._to_noise if jitters else self._quiet


def _matrix(values: FloatArray, dtype: torch.dtype) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values)).to(dtype)


@njit(cache=True, nogil=True, fastmath={"contract", "reassoc"}, error_model="numpy")
def _shine(  # pragma: no cover - compiled
    z: Floats,
    table: Floats,
    reach: float,
    rest: Floats,
    modulation: Floats,
    noise_sd: float,
    normal: Floats,
    change: Floats,
    light: Floats,
    flicker: Floats,
) -> None:
    """light = modulation * table(z), change = light - rest, flicker = light n_RIN; z [B, n], out [B, p n].

    The table [n, knots, paths] is linear between its knots, and beyond its ends.
    """
    n, knots, paths = table.shape
    steps = (knots - 1) / (2 * reach)
    for b in range(z.shape[0]):
        for i in range(n):
            place = (z[b, i] + reach) * steps
            low = 0
            if place >= knots - 2:
                low = knots - 2
            elif place > 0:
                low = int(place)
            share = place - low
            noise = noise_sd * normal[b, i]
            for p in range(paths):
                at = table[i, low, p]
                value = modulation[b] * (at + share * (table[i, low + 1, p] - at))
                k = p * n + i
                light[b, k] = value
                change[b, k] = value - rest[k]
                flicker[b, k] = value * noise


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def _difference(  # pragma: no cover - compiled
    signal: Floats,
    at_rest: Floats,
    compression: Floats,
    offset: Floats,
    y: Floats,
    total: Floats,
) -> None:
    """y = compressed positive minus negative current minus offset, total = their sum before compression.

    signal [B, 2 n] is their change from at_rest [2, n]; y, total [B, n].
    """
    n = y.shape[1]
    for b in range(y.shape[0]):
        for i in range(n):
            positive, negative = signal[b, i] + at_rest[0, i], signal[b, n + i] + at_rest[1, i]
            total[b, i] = max(positive + negative, 0.0)
            y[b, i] = (
                positive / (1 + compression[0, i] * positive)
                - negative / (1 + compression[1, i] * negative)
                - offset[i]
            )
