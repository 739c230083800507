"""Cables between the electronics and the optics, as somebody plugged them; and how he mounted the panel.

A drive cable takes a channel's current to an emitter, a read cable brings the difference of a pair of
detectors to a channel. phi comes to the emitter's driver on two wires of its own: where these are exchanged
it arrives inverted, and the pedestal and a current that is driven at the emitter itself do not. Where the
two detectors of a pair are exchanged, their difference is inverted. An emitter without a cable is dark.

The optics keep their own order (emitter k lights column k of the panel, detector pair k sees row k); the
electronics keep theirs. Only here do the two meet.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from labctl_sim_devices.loop_light import LoopLight
from labctl_sim_devices.profile import OpticalProfile
from labctl_sim_devices.registration import FLIPS

FloatArray = NDArray[np.float64]
Floats = NDArray[np.floating]
IntArray = NDArray[np.int64]
Flip = Literal["none", "rows", "columns", "both"]


@dataclass(frozen=True, eq=False)
class Cables:
    """emitter [n]: the one that drive channel c feeds; emitter_sign [n]: of phi there, 0 where the cable is
    not plugged in. detector [n]: the pair that read channel c hears; detector_sign [n].
    """

    emitter: IntArray
    emitter_sign: FloatArray
    detector: IntArray
    detector_sign: FloatArray

    @property
    def channel_of_emitter(self) -> IntArray:
        """[n]: which drive channel feeds emitter k."""
        return np.argsort(self.emitter)

    @property
    def plugged(self) -> FloatArray:
        """[n]: 1, or 0 for an emitter that has no cable."""
        return np.asarray((self.emitter_sign != 0)[self.channel_of_emitter], np.float64)

    def phi(self, phi: FloatArray) -> FloatArray:
        """Signals [B, n] of the channels as the emitters' drivers receive them, still by channel."""
        return np.asarray(phi * np.where(self.emitter_sign < 0, -1.0, 1.0))

    def to_emitters(self, by_channel: FloatArray) -> FloatArray:
        """Drives [B, n] by channel, by emitter."""
        return np.asarray(by_channel[:, self.channel_of_emitter])

    def from_detectors(self, difference: Floats) -> FloatArray:
        """Differences of detector pairs [..., n], by channel."""
        return np.asarray(difference[..., self.detector] * self.detector_sign)

    def total(self, total: Floats) -> FloatArray:
        """Light on detector pairs [B, n], by channel."""
        return np.asarray(total[:, self.detector] * np.abs(self.detector_sign))


def drawn_cables(
    seed: int, n: int, *, permuted: bool = True, inverted_share: float = 0.0, unplugged: int = 0
) -> Cables:
    """Cables as somebody in a hurry plugs them: any to any, a share of them inverted, some not at all."""
    rng = np.random.Generator(np.random.Philox(key=[seed, 8311]))
    emitter, detector = (rng.permutation(n) if permuted else np.arange(n) for _ in range(2))
    signs = [np.where(rng.random(n) < inverted_share, -1.0, 1.0) for _ in range(2)]
    signs[0][rng.permutation(n)[:unplugged]] = 0.0
    return Cables(emitter.astype(np.int64), signs[0], detector.astype(np.int64), signs[1])


def drawn_mounting(seed: int) -> tuple[Flip, bool]:
    """Which way the panel is turned over, and whether its halves are exchanged."""
    rng = np.random.Generator(np.random.Philox(key=[seed, 8312]))
    flips: tuple[Flip, ...] = ("none", "rows", "columns", "both")
    return flips[int(rng.integers(4))], bool(rng.integers(2))


def mounted(profile: OpticalProfile, flip: Flip, exchanged: bool) -> OpticalProfile:
    """The profile of a bench whose panel sits so: turned over against what the profile says, the half that
    fed the positive path feeding the negative one.
    """
    names = {signs: name for name, signs in FLIPS.items()}
    was, more = FLIPS[profile.panel_flip], FLIPS[flip]
    origins = profile.path_origin_px
    return profile.model_copy(
        update={
            "panel_flip": names[(was[0] * more[0], was[1] * more[1])],
            "path_origin_px": (origins[1], origins[0]) if exchanged else origins,
        }
    )


class Scramble(Protocol):
    """What a rig file's `[world.scramble]` says."""

    seed: int
    permuted: bool
    inverted_share: float
    unplugged: int
    mounting: bool


def scrambled(profile: OpticalProfile, how: Scramble) -> dict[str, Any]:
    """`profile` and `cables` of a bench that was put together so."""
    flip, exchanged = drawn_mounting(how.seed) if how.mounting else ("none", False)
    return {
        "profile": mounted(profile, flip, exchanged),
        "cables": drawn_cables(
            how.seed, profile.n_channels, permuted=how.permuted, inverted_share=how.inverted_share,
            unplugged=how.unplugged,
        ),
    }  # fmt: skip


class CabledLight:
    """A loop's light behind cables: states by channel in, photocurrents by channel out, light by emitter."""

    def __init__(self, inner: LoopLight, cables: Cables) -> None:
        self._inner = inner
        self.offset_units: FloatArray = cables.from_detectors(inner.offset_units)
        self._channel = torch.from_numpy(cables.channel_of_emitter)
        self._detector = torch.from_numpy(cables.detector)
        self._sign = torch.from_numpy(cables.detector_sign).to(inner.y.dtype)
        self.light, self.flicker = inner.light, inner.flicker  # by emitter
        self.y, self.jitter, self.total = inner.y, inner.jitter, inner.total

    @property
    def resting(self) -> float | FloatArray:
        """By emitter."""
        return self._inner.resting

    def shine(self, z: Tensor, time_us: float, rin_sd: float, rin: Tensor) -> None:
        """Emit the light of states z [B, n]; the draws rin [B, n] are the emitters'."""
        self._inner.shine(z[:, self._channel], time_us, rin_sd, rin)
        self.light, self.flicker = self._inner.light, self._inner.flicker

    def glow(self, z: Tensor, time_us: float) -> None:
        """As `shine`, without noise."""
        self._inner.glow(z[:, self._channel], time_us)
        self.light, self.flicker = self._inner.light, self._inner.flicker

    def detect(self, jitters: bool, counts: bool) -> None:
        """Detect it, and bring it to the channels."""
        self._inner.detect(jitters, counts)
        self.y = self._inner.y[:, self._detector] * self._sign
        if jitters:
            self.jitter = self._inner.jitter[:, self._detector] * self._sign
        if counts:
            self.total = self._inner.total[:, self._detector] * self._sign.abs()
