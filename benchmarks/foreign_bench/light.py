"""From emitter currents to photocurrents: recombination in the emitters, the optics' matrices, saturation.

Emitters: current = a n + (1 - a) n^2 in carriers n (defects, then light), light = n^2 (1 + c) / (1 + c n), c for
what Auger recombination takes; all 1 at phi = 1. Detectors: charge wanders to neighbours, is not lost, and the
current saturates as I / (1 + I / I_s).
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from foreign_bench.broken import Broken
from foreign_bench.cables import Cables
from foreign_bench.unit import ForeignUnit, N

FloatArray = NDArray[np.floating]


def output_matrices(collected: FloatArray, unit: ForeignUnit) -> FloatArray:
    """Photocurrent per unit of each emitter's own light [2, out, in], from what the optics collect."""
    leak = unit.splitter_leak
    mixed = (1 - leak) * collected + leak * collected[::-1]
    out = np.empty_like(mixed)
    for path in (0, 1):
        earlier, later = unit.neighbour[path].T
        wander = np.diag(1 - earlier - later) + np.diag(earlier[1:], 1) + np.diag(later[:-1], -1)
        # what would leave the array at its ends stays
        wander[0, 0] += earlier[0]
        wander[-1, -1] += later[-1]
        out[path] = unit.responsivity[path][:, None] * (wander @ mixed[path])
    return np.asarray(out * unit.efficiency)


class Light:
    """Photocurrents of one frame, in torch; `still` and `ripple` [2, out, in] from `output_matrices`. Currents in
    and out are by channel, light is by emitter.
    """

    def __init__(
        self,
        unit: ForeignUnit,
        still: FloatArray,
        ripple: FloatArray,
        dtype: torch.dtype,
        cables: Cables | None = None,
        broken: Broken | None = None,
    ) -> None:
        self._cables, self._broken = cables, Broken() if broken is None else broken

        def row(values: FloatArray) -> Tensor:
            return torch.as_tensor(values, dtype=dtype)

        self._loss, self._auger = row(unit.nonradiative), row(unit.auger)
        self._bends = bool(unit.nonradiative.any() or unit.auger.any())
        # [in, 2 out], both paths beside each other; below it what flicker adds
        beside = np.concatenate([still, ripple], axis=2) if unit.flicker else still
        self._matrix = row(np.concatenate([beside[0].T, beside[1].T], axis=1)).contiguous()
        self._flickers = bool(unit.flicker)
        self._bend = row(np.repeat(1 / unit.saturation_units, N))
        self._saturates = bool(np.isfinite(unit.saturation_units).any())

    def emitted(self, current: Tensor) -> Tensor:
        """Light [B, in] of currents [B, in], both in units of phi = 1."""
        if self._cables is not None:
            current = self._cables.to_emitters(current)
        if self._broken.stuck is not None:
            which, units = self._broken.stuck
            current = current.clone()
            current[:, which] = units
        if not self._bends:
            return current
        a, c = self._loss, self._auger
        carriers = (torch.sqrt(a * a + 4 * (1 - a) * current) - a) / (2 * (1 - a))
        return carriers * carriers * (1 + c) / (1 + c * carriers)

    def photocurrents(self, emitted: Tensor, flicker: Tensor) -> tuple[Tensor, Tensor]:
        """Currents [B, out] of the positive and the negative path; flicker [B, 1] as the panel stands."""
        seen = (torch.cat([emitted, flicker * emitted], dim=1) if self._flickers else emitted) @ self._matrix
        if self._saturates:
            seen = seen / (1 + self._bend * seen)
        plus, minus = seen[:, :N], seen[:, N:]
        if self._broken.detector_units is not None:
            more = torch.as_tensor(self._broken.detector_units, dtype=seen.dtype)
            plus, minus = plus + more[0], minus + more[1]
        return (plus, minus) if self._cables is None else self._cables.from_detectors(plus, minus)

    def phi(self, phi: Tensor) -> Tensor:
        """Of channels [B, n], as it arrives at the emitters' drivers."""
        return phi if self._cables is None else self._cables.phi(phi)
