"""Places along the panel by binary codes: which stripes of a few frames light a channel tells where it is.

Frames are the bits of a Gray code of half cells. A cell that lies anywhere sees, of each frame, the share of
its own width that is lit; the place whose shares are nearest to what was seen is taken, so that a place is
good to a fraction of a cell though codes are whole half cells. How much worse the best place elsewhere fits
says how sure it is. Two channels do not stand at one place: a channel that is not sure has no place where one
stands that is.
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
    that is another one and, for a channel that is not sure, nobody's who is.
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


def locate(shares: FloatArray, frames: NDArray[np.bool_], pitch_px: float, *, clearly: float) -> Places:
    """Places of m channels that saw shares [K, m] of their light through frames [K, extent].

    A channel is sure whose best place fits by `clearly` better than any other.
    """
    extent = frames.shape[1]
    candidates = np.arange(0, extent + STEP_PX, STEP_PX)
    summed = np.concatenate([np.zeros((len(frames), 1)), np.cumsum(frames, axis=1)], axis=1)
    edge = np.arange(extent + 1, dtype=np.float64)
    ends = [np.clip(candidates + sign * pitch_px / 2, 0, extent) for sign in (1, -1)]
    upper, lower = ([np.interp(end, edge, row) for row in summed] for end in ends)
    expected = (np.array(upper) - np.array(lower)) / pitch_px
    missed = np.sqrt(((shares[:, :, None] - expected[:, None, :]) ** 2).mean(axis=0))
    alone = _best(missed, candidates, pitch_px)
    sure = alone.next_best - alone.missed >= clearly
    taken = np.zeros(len(candidates), dtype=np.bool_)
    for place in alone.place_px[sure]:
        taken |= np.abs(candidates - place) <= ELSEWHERE * pitch_px
    return _best(np.where(taken[None] & ~sure[:, None], np.inf, missed), candidates, pitch_px)


def _best(missed: FloatArray, candidates: FloatArray, pitch_px: float) -> Places:
    """Of misses [m, candidates]."""
    best = missed.argmin(axis=1)
    away = np.abs(candidates[None] - candidates[best][:, None]) > ELSEWHERE * pitch_px
    return Places(
        candidates[best],
        missed[np.arange(len(best)), best],
        np.where(away, missed, np.inf).min(axis=1),
    )


def indices(place_px: FloatArray, pitch_px: float, n: int, extent_px: float) -> IntArray:
    """Whole places [m] on a grid of n cells of about that pitch, by design in the middle of the extent.

    Counted from neighbour to neighbour, as the image may be magnified. Who stands twice does so in what comes
    back. Where cells at the ends are missing, the grid lies as near to its design as it can.
    """
    order = np.argsort(place_px, kind="stable")
    steps = np.diff(place_px[order]) / pitch_px
    own = steps[(steps > ELSEWHERE) & (steps < 2 - ELSEWHERE)]
    typical = float(np.median(own)) if len(own) else 1.0
    count = np.concatenate([[0.0], np.cumsum(np.rint(steps / typical))])
    pitch = pitch_px * typical
    design = (extent_px - n * pitch_px) / 2 + pitch_px / 2
    first = float(np.median(place_px[order] - pitch * count) - design) / pitch
    # magnified about the middle, the first cell is off its design by half of what the grid has grown
    first += (n - 1) / 2 * (1 - 1 / typical)
    begin = np.clip(np.rint(first), 0, max(n - 1 - count[-1], 0))
    index = np.empty(len(place_px))
    index[order] = begin + count
    return np.asarray(index, np.int64)
