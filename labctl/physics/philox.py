"""Counter-based random numbers: a draw depends on what it is for, never on what was drawn before.

Philox 4x32-10 (Salmon et al., SC'11): key (seed, device, stream name), counter (sample, step, substep,
channel block). Normals by Box-Muller, four from each counter. So a sample's draws depend neither on its
batch nor on the order of work (conventions, section 6).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

from labctl.physics.kernels import box_muller, philox_words


@lru_cache(maxsize=256)
def _key(text: str) -> tuple[int, int]:
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:], "little")


@dataclass(frozen=True)
class Stream:
    """One named source of draws, e.g. Stream(seed=7, device="electronics", name="loop")."""

    seed: int
    device: str
    name: str

    def key(self) -> tuple[int, int]:
        """The 64-bit Philox key as two words: a BLAKE2b digest of (seed, device, name)."""
        return _key(f"{self.seed}\x00{self.device}\x00{self.name}")

    def words(
        self, sample_id: NDArray[np.int64], channels: int, *, step: int = 0, substep: int = 0
    ) -> NDArray[np.uint32]:
        """Raw 32-bit words [B, 4 ceil(channels / 4)], the four of each counter side by side."""
        first, second = self._words(sample_id, channels, step, substep)
        blocks = first.shape[1] // 2
        quads = np.stack(
            [first[:, :blocks], first[:, blocks:], second[:, :blocks], second[:, blocks:]], axis=2
        )
        return quads.reshape(len(sample_id), 4 * blocks)

    def normal(
        self,
        sample_id: NDArray[np.int64],
        channels: int,
        *,
        step: int = 0,
        substep: int = 0,
        dtype: torch.dtype = torch.float32,
    ) -> torch.Tensor:
        """Standard normals [B, channels], one row per sample id; 23 bits each, so none beyond 5.8."""
        radius, angle = self._words(sample_id, channels, step, substep)
        value, scratch = np.empty(radius.size, np.float32), np.empty(radius.size, np.float32)
        out = np.empty((len(sample_id), 2 * radius.shape[1]), np.float32)
        box_muller(radius.ravel(), angle.ravel(), value, value.view(np.int32), scratch, out)
        return torch.from_numpy(out)[:, :channels].to(dtype)

    def _words(
        self, sample_id: NDArray[np.int64], channels: int, step: int, substep: int
    ) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
        blocks = -(-channels // 4)
        first = np.empty((len(sample_id), 2 * blocks), np.uint32)
        second = np.empty_like(first)
        key0, key1 = self.key()
        philox_words(
            np.uint32(key0), np.uint32(key1), np.ascontiguousarray(sample_id, dtype=np.uint32),
            np.uint32(step), np.uint32(substep), first, second,
        )  # fmt: skip
        return first, second
