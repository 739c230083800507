"""Counter-based random numbers: a draw depends on what it is for, never on what was drawn before.

Philox 4x32-10 (Salmon et al., SC'11): key (seed, device, stream name), counter (sample, step, substep,
channel block). Normals by Box-Muller, four from each counter. So a sample's draws depend neither on its
batch nor on the order of work (conventions, section 6).
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray

_TWO_PI = 2.0 * math.pi


@njit(cache=True, nogil=True)
def _philox_words(  # pragma: no cover - compiled
    key0: np.uint32,
    key1: np.uint32,
    sample: NDArray[np.uint32],
    step: np.uint32,
    substep: np.uint32,
    blocks: int,
    out: NDArray[np.uint32],
) -> None:
    """out[B, 4 * blocks]: ten Philox rounds on the counter (sample, step, substep, block)."""
    mask = np.uint64(0xFFFFFFFF)
    shift = np.uint64(32)
    m0 = np.uint64(0xD2511F53)
    m1 = np.uint64(0xCD9E8D57)
    for b in range(sample.shape[0]):
        for block in range(blocks):
            c0 = np.uint64(sample[b])
            c1 = np.uint64(step)
            c2 = np.uint64(substep)
            c3 = np.uint64(block)
            k0 = np.uint64(key0)
            k1 = np.uint64(key1)
            for _ in range(10):
                p0 = m0 * c0
                p1 = m1 * c2
                c0 = (p1 >> shift) ^ c1 ^ k0
                c1 = p1 & mask
                c2 = (p0 >> shift) ^ c3 ^ k1
                c3 = p0 & mask
                k0 = (k0 + np.uint64(0x9E3779B9)) & mask
                k1 = (k1 + np.uint64(0xBB67AE85)) & mask
            out[b, 4 * block] = np.uint32(c0)
            out[b, 4 * block + 1] = np.uint32(c1)
            out[b, 4 * block + 2] = np.uint32(c2)
            out[b, 4 * block + 3] = np.uint32(c3)


@dataclass(frozen=True)
class Stream:
    """One named source of draws, e.g. Stream(seed=7, device="electronics", name="loop")."""

    seed: int
    device: str
    name: str

    def key(self) -> tuple[int, int]:
        """The 64-bit Philox key as two words: a BLAKE2b digest of (seed, device, name)."""
        text = f"{self.seed}\x00{self.device}\x00{self.name}".encode()
        digest = hashlib.blake2b(text, digest_size=8).digest()
        return int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:], "little")

    def words(
        self, sample_id: NDArray[np.int64], channels: int, *, step: int = 0, substep: int = 0
    ) -> NDArray[np.uint32]:
        """Raw 32-bit words [B, ceil(channels / 4) * 4]."""
        blocks = -(-channels // 4)
        out = np.empty((len(sample_id), 4 * blocks), np.uint32)
        key0, key1 = self.key()
        _philox_words(
            np.uint32(key0), np.uint32(key1), np.ascontiguousarray(sample_id, dtype=np.uint32),
            np.uint32(step), np.uint32(substep), blocks, out,
        )  # fmt: skip
        return out

    def normal(
        self,
        sample_id: NDArray[np.int64],
        channels: int,
        *,
        step: int = 0,
        substep: int = 0,
        dtype: torch.dtype = torch.float32,
    ) -> torch.Tensor:
        """Standard normals [B, channels], one row per sample id."""
        words = torch.from_numpy(self.words(sample_id, channels, step=step, substep=substep).view(np.int32))
        # 24 bits each: u in (0, 1) never 0, so the logarithm is finite; |normal| <= 5.8
        unit = (words.bitwise_right_shift(8).bitwise_and(0xFFFFFF)).to(dtype).add_(0.5).mul_(2.0**-24)
        half = unit.shape[1] // 2
        radius = unit[:, :half].log().mul_(-2.0).sqrt_()
        angle = unit[:, half:].mul(_TWO_PI)
        out = torch.empty_like(unit)
        torch.mul(radius, angle.cos(), out=out[:, :half])
        torch.mul(radius, angle.sin_(), out=out[:, half:])
        return out[:, :channels]
