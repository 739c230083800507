"""A wiring put to the test: random weights by its rows and columns, random phi, who looks like whom."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from labctl.devices import DeviceFault
from labctl.programs import encode_frame
from labctl_calibration.nominal import nominal_panel_record
from labctl_calibration.probing import Probing

FloatArray = NDArray[np.float64]
PATTERNS = 8  # a channel
DRIVE = 0.6


@dataclass(frozen=True)
class Check:
    """Least correlation of a row's or column's measured weights with those that it was given, and the largest
    with those of another.
    """

    OWN: ClassVar[float] = 0.5
    OTHER: ClassVar[float] = 0.8  # of the least own

    own: float
    other: float


def check_wiring(probing: Probing, columns: NDArray[np.int64]) -> Check:
    """Show, drive, solve, compare; `columns` are those that have light. DeviceFault, naming the worst row or
    column, where it does not look like its own.
    """
    n = probing.spec.n_channels
    rng = np.random.Generator(np.random.Philox(key=40_961))
    given = rng.choice([-1.0, 1.0], size=(n, n))
    design = nominal_panel_record(probing.panel, n, "design")
    probing.show(encode_frame(given, probing.panel, design).levels)
    phi = rng.choice([-DRIVE, DRIVE], size=(PATTERNS * n, n))
    seen = probing.probe(phi, at="phi")
    design_matrix = np.column_stack([phi, np.ones(len(phi))])
    measured = np.linalg.lstsq(design_matrix, seen, rcond=None)[0][:n].T  # [row, column]
    own, other = [], []
    parts = (("row", measured[:, columns], given[:, columns]), ("column", measured.T[columns], given.T[columns]))
    for kind, found, asked in parts:
        alike = _correlations(found, asked)
        diagonal = np.diag(alike)
        rest = np.abs(alike - np.diag(diagonal))
        worst = int((diagonal - rest.max(axis=1)).argmin())
        if diagonal[worst] < Check.OWN or rest[worst].max() > Check.OTHER * diagonal[worst]:
            place = worst if kind == "row" else int(columns[worst])
            raise DeviceFault(
                f"{kind} {place} of the panel resembles the random weights it was given by "
                f"{diagonal[worst]:.2f}, and another's by {rest[worst].max():.2f}; allowed: {Check.OWN:g} or "
                f"more, and others less than {Check.OTHER:g} of that; the wiring that was found is not this one",
                device=probing.modulator.name, operation="commission",
            )  # fmt: skip
        own.append(float(diagonal.min()))
        other.append(float(rest.max()))
    return Check(min(own), max(other))


def _correlations(found: FloatArray, asked: FloatArray) -> FloatArray:
    """Of every row of one with every row of the other."""
    parts = [(m - m.mean(axis=1, keepdims=True)) for m in (found, asked)]
    parts = [m / np.maximum(np.linalg.norm(m, axis=1, keepdims=True), 1e-12) for m in parts]
    return np.asarray(parts[0] @ parts[1].T)
