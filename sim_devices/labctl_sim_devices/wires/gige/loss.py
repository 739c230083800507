"""Packets that a wire loses, by seed, and the count of what went over it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labctl.devices import ConfigError


@dataclass(frozen=True)
class PacketLoss:
    """Share of payload packets that never arrive when first sent; with `resends`, of those sent again too.

    Draws depend on the seed and on the block and packet alone (Philox). Raises ConfigError for a share
    outside 0 .. 1 or a negative seed.
    """

    share: float
    seed: int = 0
    resends: bool = False

    def __post_init__(self) -> None:
        if not 0.0 <= self.share <= 1.0:
            raise ConfigError(f"packet loss: share is {self.share!r}; allowed: 0 to 1")
        if self.seed < 0:
            raise ConfigError(f"packet loss: seed is {self.seed!r}; allowed: 0 or more")

    def lost(self, block: int, packets: int, attempt: int = 0) -> NDArray[np.bool_]:
        """Which packets [packets] of the block (counted since the start) are lost on this attempt."""
        if attempt and not self.resends:
            return np.zeros(packets, np.bool_)
        draws = np.random.Generator(np.random.Philox(key=[self.seed, (attempt << 48) + block]))
        return np.asarray(draws.random(packets) < self.share)


@dataclass(frozen=True)
class WireCount:
    """What a camera put on its wire since the face was started: whole blocks, their packets, injected losses.

    Blocks that AcquisitionStop broke off are counted apart, and their packets not at all.
    """

    blocks: int = 0
    broken_off_blocks: int = 0
    packets: int = 0
    lost_packets: int = 0
    damaged_blocks: int = 0
    resends_asked: int = 0
    resent_packets: int = 0
    unavailable_packets: int = 0
