"""How somebody plugged a bench's channels in, and which way round the panel was mounted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from foreign_bench.unit import N

Floats = NDArray[np.floating]
Levels = NDArray[np.uint16]


@dataclass(frozen=True, eq=False)
class Cables:
    """emitter, detector [n]: what channel c feeds and hears; inverted [n]: its phi arrives with the other sign;
    crossed [n]: its two detectors are exchanged; plugged [n]: of the drive cable. The panel: upside_down,
    mirrored (left to right, its halves with it), exchanged (halves alone).
    """

    emitter: NDArray[np.int64]
    detector: NDArray[np.int64]
    inverted: NDArray[np.bool_]
    crossed: NDArray[np.bool_]
    plugged: NDArray[np.bool_]
    upside_down: bool = False
    mirrored: bool = False
    exchanged: bool = False

    @classmethod
    def drawn(cls, seed: int, *, unplugged: int = 0, share: float = 0.1) -> Cables:
        """Any to any, a share of either polarity the wrong way, so many drives not plugged in."""
        rng = np.random.default_rng([0xCAB1E, seed])
        plugged = np.ones(N, np.bool_)
        plugged[rng.permutation(N)[:unplugged]] = False
        emitter, detector = rng.permutation(N), rng.permutation(N)
        inverted, crossed = rng.random((2, N)) < share
        ways = rng.integers(2, size=3) == 1
        return cls(emitter, detector, inverted, crossed, plugged, bool(ways[0]), bool(ways[1]), bool(ways[2]))

    def frame(self, levels: Levels) -> Levels:
        """A frame as the optics have it."""
        if self.upside_down:
            levels = levels[::-1]
        if self.mirrored:
            levels = levels[:, ::-1]
        return np.roll(levels, levels.shape[1] // 2, axis=1) if self.exchanged else levels

    def phi(self, phi: Tensor) -> Tensor:
        """Of channels [B, n], as the emitters' drivers get it, still by channel."""
        return phi * torch.as_tensor(np.where(self.inverted, -1.0, 1.0), dtype=phi.dtype)

    def to_emitters(self, current: Tensor) -> Tensor:
        """Currents [B, n] of channels, by emitter."""
        given = current * torch.as_tensor(self.plugged, dtype=current.dtype)
        return given[:, torch.as_tensor(np.argsort(self.emitter))]

    def from_detectors(self, plus: Tensor, minus: Tensor) -> tuple[Tensor, Tensor]:
        """Photocurrents [B, n] of both paths, by channel."""
        at, crossed = torch.as_tensor(self.detector), torch.as_tensor(self.crossed)
        plus, minus = plus[:, at], minus[:, at]
        return torch.where(crossed, minus, plus), torch.where(crossed, plus, minus)
