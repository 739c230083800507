"""Places along the panel by binary codes: which stripes of a few frames light a channel tells where it is.

Frames are the bits of a Gray code of half cells. A cell that lies anywhere sees, of each frame, the share of
its own width that is lit; the place whose shares are nearest to what was seen is taken, so that a place is
good to a fraction of a cell though codes are whole half cells. How much worse the best place elsewhere fits
says how sure it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
STEP_PX = 0.5
ELSEWHERE = 0.75  # of a cell: a place farther off is another one


@dataclass(frozen=True, eq=False)
class Places:
    """place_px [m]; missed [m]: rms of seen less expected shares; next_best [m]: the same at the best place
    that is another one.
    """

    place_px: FloatArray
    missed: FloatArray
    next_best: FloatArray


def code_frames(extent_px: int, pitch_px: float) -> NDArray[np.bool_]:
    """[K, extent]: which pixels along an axis are lit in each of K frames."""
    cell = np.floor(np.arange(extent_px) / (pitch_px / 2)).astype(np.int64)
    gray = cell ^ (cell >> 1)
    bits = int(gray.max()).bit_length()
    return np.array([(gray >> bit) & 1 for bit in range(bits)], dtype=np.bool_)


def locate(shares: FloatArray, frames: NDArray[np.bool_], pitch_px: float) -> Places:
    """Places of m channels that saw shares [K, m] of their light through frames [K, extent]."""
    extent = frames.shape[1]
    candidates = np.arange(0, extent + STEP_PX, STEP_PX)
    summed = np.concatenate([np.zeros((len(frames), 1)), np.cumsum(frames, axis=1)], axis=1)
    edge = np.arange(extent + 1, dtype=np.float64)
    ends = [np.clip(candidates + sign * pitch_px / 2, 0, extent) for sign in (1, -1)]
    upper, lower = ([np.interp(end, edge, row) for row in summed] for end in ends)
    expected = (np.array(upper) - np.array(lower)) / pitch_px
    missed = np.sqrt(((shares[:, :, None] - expected[:, None, :]) ** 2).mean(axis=0))
    best = missed.argmin(axis=1)
    away = np.abs(candidates[None] - candidates[best][:, None]) > ELSEWHERE * pitch_px
    return Places(
        candidates[best],
        missed[np.arange(len(best)), best],
        np.where(away, missed, np.inf).min(axis=1),
    )


def indices(place_px: FloatArray, pitch_px: float, n: int, first_px: float) -> IntArray:
    """Whole places [m] on a grid of n cells of about that pitch; its first cell is about at first_px.

    Who stands twice, or beyond the grid, does so in what comes back. Where cells at the ends are missing, the
    grid lies as near to its design as it can.
    """
    pitch, offset = pitch_px, first_px
    index = np.rint((place_px - offset) / pitch)
    for _ in range(3):  # the image is magnified and shifted a little against the design
        if len(place_px) > 2 and np.ptp(index) > 0:
            pitch, offset = np.polyfit(index, place_px, 1)
        index = np.rint((place_px - offset) / pitch)
    if len(index):
        index -= max(0, index.max() - (n - 1))
        index += max(0, -index.min())
    return np.asarray(index, np.int64)
