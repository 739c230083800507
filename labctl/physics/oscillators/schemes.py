"""Explicit one-step schemes whose stages each lean on the one before alone."""

from __future__ import annotations

from typing import Literal

Method = Literal["euler", "heun", "rk4"]

# (how far into the step each stage looks along the slope of the one before, its share of the step's change)
SCHEMES: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "euler": ((0.0,), (1.0,)),
    "heun": ((0.0, 1.0), (0.5, 0.5)),
    "rk4": ((0.0, 0.5, 0.5, 1.0), (1 / 6, 1 / 3, 1 / 3, 1 / 6)),
}
