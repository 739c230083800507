"""Normal draws by counter: a number belongs to (seed, step, sample, substep, channel), whatever its batch.

A mixing function of Steele, Lea and Flood (SplitMix64, OOPSLA 2014) turns each counter into two 32-bit uniforms;
Box and Muller make two normals of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

U64 = NDArray[np.uint64]
GOLDEN = 0x9E3779B97F4A7C15
MASK = 2**64 - 1


def mixed(counter: U64) -> U64:
    """SplitMix64's finaliser, element-wise."""
    x = counter.copy()
    x ^= x >> np.uint64(30)
    x *= np.uint64(0xBF58476D1CE4E5B9)
    x ^= x >> np.uint64(27)
    x *= np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)
    return x


@dataclass(frozen=True, eq=False)
class Draws:
    """Normals of a batch of samples, by their keys [B]."""

    keys: U64

    @classmethod
    def of(cls, seed: int, stream: int, step_id: int, sample_id: NDArray[np.int64]) -> Draws:
        """For samples [B] of one step on one day."""
        day = mixed(np.array([(seed * GOLDEN + stream) & MASK], np.uint64))
        return cls(mixed(mixed(day + np.uint64(step_id)) + sample_id.astype(np.uint64)))

    def part(self, rows: NDArray[np.int64]) -> Draws:
        """The draws of some of the batch."""
        return Draws(self.keys[rows])

    def normals(self, substep: int, count: int) -> NDArray[np.float32]:
        """Standard normals [B, count]; count is even."""
        places = (np.arange(count // 2, dtype=np.uint64) + np.uint64(substep << 16)) * np.uint64(GOLDEN)
        bits = mixed(self.keys[:, None] + places[None, :])
        scale = np.float32(2.0**-32)
        # half a step up: never the logarithm of zero
        radius = ((bits >> np.uint64(32)).astype(np.float32) + np.float32(0.5)) * scale
        angle = (bits & np.uint64(0xFFFFFFFF)).astype(np.float32) * (scale * np.float32(2 * np.pi))
        length = np.sqrt(np.float32(-2.0) * np.log(np.minimum(radius, np.float32(1.0))))
        return np.concatenate([length * np.cos(angle), length * np.sin(angle)], axis=1)
