"""Weights on mirrors that are on or off: as the share of a cell's mirrors that are on, or of the time.

Which mirrors of a cell are on follows a rank-1 lattice (Roberts' R2 sequence: steps of 1/g and 1/g^2 with
g^3 = g + 1), so that any number of them is spread over the cell: a cell's edge, or its neighbour's light,
meets as many as its share.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labctl.devices import CalibrationRecord, Coercion, ModulatorSpec, ProgramError
from labctl.programs.encoded_frame import EncodedFrame

FloatArray = NDArray[np.float64]
PLASTIC = 1.324717957244746  # real root of g^3 = g + 1
MOST_PLANES = 8
ON_CODE = 1e-9  # of full scale: a code is meant


@dataclass(frozen=True, eq=False)
class EncodedPlanes:
    """planes [P, height, width] to show for durations_us [P] in turn, and the fractions [n, n] that their
    mean over whole sequences realises; coercions: weights between two codes.
    """

    planes: NDArray[np.uint16]
    durations_us: FloatArray
    realised: FloatArray
    coercions: tuple[Coercion, ...] = ()


def mirror_ranks(height: int, width: int) -> NDArray[np.int64]:
    """In which order the mirrors of a cell [height, width] come on."""
    y, x = np.mgrid[:height, :width]
    place = np.mod((x + 0.5) / PLASTIC + (y + 0.5) / PLASTIC**2, 1.0)
    ranks = np.empty(height * width, np.int64)
    ranks[np.argsort(place, axis=None, kind="stable")] = np.arange(height * width)
    return ranks.reshape(height, width)


def encode_area(fractions: FloatArray, spec: ModulatorSpec, record: CalibrationRecord) -> EncodedFrame:
    """Signed fractions [n, n] in -1 .. 1 to a frame of mirrors; rows, columns, fields as `encode_frame`."""
    height, width = (int(v) for v in record.array("cell_px"))
    mirrors, n = height * width, len(fractions)
    ranks = mirror_ranks(height, width)
    counts = np.rint(np.abs(fractions) * mirrors).astype(np.int64)
    frame = np.zeros(spec.shape_px, np.uint16)
    for path, sign in ((0, 1.0), (1, -1.0)):
        mine = np.where(sign * fractions > 0, counts, 0)
        cells = mine[:, None, :, None] > ranks[None, :, None, :]
        _field(frame, record, path, n)[:] = cells.reshape(n * height, n * width)
    return EncodedFrame(frame, np.sign(fractions) * counts / mirrors)


def encode_planes(
    fractions: FloatArray, spec: ModulatorSpec, record: CalibrationRecord, bits: int
) -> EncodedPlanes:
    """Signed fractions [n, n] in -1 .. 1 to planes of binary-weighted light: whole cells on or off in each.

    `bits` are a magnitude's, one plane each. Plane p has 2^p times the light of the shortest; every plane
    lasts blank_us longer than its light. Raises ProgramError for more planes than the device or this encoder
    has.
    """
    most = min(spec.max_planes, MOST_PLANES)
    if not 1 <= bits <= most:
        raise ProgramError(f"pulse-width weights of {bits} magnitude bits; allowed: 1 to {most}")
    height, width = (int(v) for v in record.array("cell_px"))
    n, top = len(fractions), 2**bits - 1
    codes = np.rint(np.abs(fractions) * top).astype(np.int64)
    planes = np.zeros((bits, *spec.shape_px), np.uint16)
    for plane in range(bits):
        on = (codes >> plane) & 1
        for path, sign in ((0, 1.0), (1, -1.0)):
            mine = np.where(sign * fractions > 0, on, 0).astype(np.uint16)
            _field(planes[plane], record, path, n)[:] = mine.repeat(height, axis=0).repeat(width, axis=1)
    durations_us = plane_durations_us(spec, bits)
    realised = np.sign(fractions) * codes / top
    off = np.abs(realised - fractions)
    between = int(np.count_nonzero(off > ON_CODE))
    if not between:
        return EncodedPlanes(planes, durations_us, realised)
    worst = int(off.argmax())
    asked, shown = float(fractions.flat[worst]), float(realised.flat[worst])
    note = Coercion("weight fraction", asked, shown, "of full scale", between)
    return EncodedPlanes(planes, durations_us, realised, (note,))


def plane_durations_us(spec: ModulatorSpec, bits: int) -> FloatArray:
    """How long each plane [bits] of a sequence lasts."""
    durations_us: FloatArray = spec.min_plane_us * 2.0 ** np.arange(bits, dtype=np.float64) + spec.blank_us
    return durations_us


def _field(frame: NDArray[np.uint16], record: CalibrationRecord, path: int, n: int) -> NDArray[np.uint16]:
    """The part of a frame that carries a sign path: a view."""
    top, left = (int(v) for v in record.array("path_origin_px")[path])
    height, width = (int(v) for v in record.array("cell_px"))
    return frame[top : top + n * height, left : left + n * width]
