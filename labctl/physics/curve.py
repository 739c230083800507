"""The electronics' own nonlinearity: a sigmoid with a sharper knee than tanh, channel by channel."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class ElectronicsCurve:
    """f(z) = d y / (1 + |y|^c)^(1/c) + f0 + g z with y = a z + b; every field [n].

    z and f in whatever units the parameters are in. The form is that of the published digital twin
    (adm.md 2.1); c = 2 is the algebraic sigmoid, larger c a sharper knee.
    """

    a: Tensor
    b: Tensor
    c: Tensor
    d: Tensor
    f0: Tensor
    g: Tensor

    def __call__(self, z: Tensor) -> Tensor:
        """f(z), [..., n] to [..., n]."""
        y = self.a * z + self.b
        size = y.abs()
        # |y| > 1: the same function with the power's argument below 1, so that nothing overflows
        inverse = 1 / torch.where(size > 1, size, torch.ones_like(size))
        low = torch.where(size > 1, torch.ones_like(size), size)
        small = self.d * y / (1 + low**self.c) ** (1 / self.c)
        large = self.d * torch.sign(y) / (1 + inverse**self.c) ** (1 / self.c)
        return torch.where(size > 1, large, small) + self.f0 + self.g * z
