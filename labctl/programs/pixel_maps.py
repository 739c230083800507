"""How an oscillator's phase is read as a pixel."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labctl.devices.errors import ProgramError

FloatArray = NDArray[np.float64]
RAD_PER_PIXEL = 0.8  # of the linear map: pixels in [-1, 1] stay inside +-46 degrees of their anchor

PIXEL_MAPS: dict[str, Callable[[FloatArray], FloatArray]] = {
    "cosine": lambda theta: (1 - np.cos(theta)) / 2,  # 0 at phase 0, 1 at pi: generators
    "linear": lambda theta: np.arctan2(np.sin(theta), np.cos(theta)) / RAD_PER_PIXEL,  # chains of equilibria
}


def pixels_of(name: str, phases_rad: ArrayLike) -> FloatArray:
    """Pixels of phases, element by element; ProgramError for a map that is not known."""
    if name not in PIXEL_MAPS:
        raise ProgramError(f"pixel_map is {name!r}; allowed: {', '.join(PIXEL_MAPS)}")
    return PIXEL_MAPS[name](np.asarray(phases_rad, np.float64))
