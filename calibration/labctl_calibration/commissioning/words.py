"""A wiring in words. What is turned over can be the panel or the order of all cables: light cannot tell."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from labctl.devices import Wiring

IntArray = NDArray[np.int64]


def mounting_words(wiring: Wiring, dead: IntArray) -> tuple[str, ...]:
    """Order of drive and read channels along the panel."""
    lives = np.setdiff1d(np.arange(wiring.n_channels), dead)
    parts = (("drive", "columns", "left to right", wiring.column, lives),
             ("read", "rows", "top to bottom", wiring.row, np.arange(wiring.n_channels)))  # fmt: skip
    said = []
    for kind, what, way, place, channels in parts:
        moved = int((place[channels] != channels).sum())
        turned = int((wiring.n_channels - 1 - place[channels] != channels).sum())
        if not moved:
            said.append(f"{kind} channels are in order: the panel's {what} as designed")
        elif not turned:
            said.append(
                f"{kind} channels count the panel's {what} backwards: it is mounted mirrored {way} (or all "
                "cables are in reverse, which is the same to the bench)"
            )
        else:
            said.append(f"{moved} of {len(channels)} {kind} channels stand at another of the panel's {what}")
    return tuple(said)


def sign_words(wiring: Wiring, dead: IntArray) -> tuple[str, ...]:
    """Polarities."""
    said = []
    inverted = np.flatnonzero(wiring.read_sign < 0)
    if 2 * len(inverted) > wiring.n_channels:
        said.append("the panel's right half feeds the positive detectors: its halves are exchanged")
        inverted = np.flatnonzero(wiring.read_sign > 0)
    for kind, which in (
        ("the two detectors of read", inverted),
        ("the wires of phi of drive", np.flatnonzero(wiring.drive_sign < 0)),
    ):
        if len(which):
            names = ", ".join(map(str, which))
            said.append(f"{kind} channel{'' if len(which) == 1 else 's'} {names} are exchanged")
    return tuple(said) or ("no polarity is inverted",)
