"""What an encoder hands over: a frame to show, and what the record says that it will realise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labctl.devices import Coercion

FloatArray = NDArray[np.float64]
MIN_CELL_PX = 10


@dataclass(frozen=True, eq=False)
class EncodedFrame:
    """levels [height, width] to show, and the fractions [n, n] the record says that frame realises;
    coercions: what no level shows.
    """

    levels: NDArray[np.uint16]
    realised: FloatArray
    coercions: tuple[Coercion, ...] = ()
