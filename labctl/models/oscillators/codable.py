"""A module in training whose parameters become codes, let in over a share of the training."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from labctl.devices.errors import ConfigError


class Codable(nn.Module):
    """A module whose parameters are floats at first, and codes of `bits` bits after `begin_codes`.

    They are mixed in by `blend` (0: floats, 1: codes alone).
    """

    def __init__(self) -> None:
        super().__init__()
        self.bits: int | None = None
        self.blend = 1.0
        self._anneal_share = 0.0

    def begin_codes(self, bits: int, anneal_share: float) -> None:
        """Codes from now on; `progress_to` lets them in over the first `anneal_share` of a training."""
        self.bits, self.blend, self._anneal_share = bits, 1.0, anneal_share

    def progress_to(self, share: float) -> None:
        """Blend the codes in."""
        if self.bits is not None:
            self.blend = min(1.0, share / self._anneal_share) if self._anneal_share else 1.0

    def coded_bits(self) -> int:
        """Bits of a code; ConfigError for floats."""
        if self.bits is None:
            raise ConfigError("scale: the couplings are floats; allowed: after use_codes")
        return self.bits

    def blended(self, exact: dict[str, Tensor], rounded: dict[str, Tensor]) -> dict[str, Tensor]:
        """Tables by name on their way from the exact ones to the rounded."""
        if self.blend == 1:
            return rounded
        return {name: torch.lerp(value, rounded[name], self.blend) for name, value in exact.items()}
