"""Where the optics have the cells on the panel, and which share of each pixel's light belongs to a cell.

A cell's centre and its two edge vectors follow the field's shift, rotation, magnification and radial
distortion; within a cell the map is taken as affine. A pixel counts with the overlap of its square with the
cell along the cell's two axes, edges softened by the blur of the panel's image (a normal): so light spills
into the neighbouring cells.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.special import ndtr

from labctl_sim_devices.profile import OpticalProfile
from labctl_sim_devices.units import UnitTruth

FloatArray = NDArray[np.float64]
TABLE_STEP_PX = 1 / 256
FLIPS = {"none": (1.0, 1.0), "rows": (-1.0, 1.0), "columns": (1.0, -1.0), "both": (-1.0, -1.0)}


@dataclass(frozen=True, eq=False)
class Placement:
    """Cells of one path on the panel: centre [n, n, 2] (y, x of pixel edges; row = output) and edge vectors
    [n, n, 2, 2]: how (y, x) moves along the cell's height and along its width.
    """

    centre_px: FloatArray
    edges_px: FloatArray


def designed_centres(profile: OpticalProfile, path: int) -> FloatArray:
    """Centres [n, n, 2] of the cells as designed."""
    n, (height, width) = profile.n_channels, profile.cell_px
    top, left = profile.path_origin_px[path]
    steps = np.arange(n) + 0.5
    rows, columns = np.meshgrid(top + height * steps, left + width * steps, indexing="ij")
    return np.stack([rows, columns], axis=2)


def placement(profile: OpticalProfile, unit: UnitTruth, path: int, temperature_c: float) -> Placement:
    """Where path 0 or 1 has its cells at a temperature; each field may be turned over in itself."""
    n = profile.n_channels
    size = n * np.array(profile.cell_px, np.float64)
    middle = np.array(profile.path_origin_px[path], np.float64) + size / 2
    warmer = temperature_c - profile.temperature_c
    shift = unit.shift_px[path] + unit.shift_px_per_c * warmer
    zoom = float(unit.magnification[path]) * (1 + float(unit.magnification_per_c) * warmer)
    turn = float(unit.rotation_rad[path])
    turned = zoom * np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    corner = float(np.hypot(*(size / 2)))
    bend = float(unit.distortion_px[path]) / corner**3

    flip = np.array(FLIPS[profile.panel_flip])
    from_middle = (designed_centres(profile, path) - middle) * flip
    square = (from_middle**2).sum(axis=2)[..., None]
    bent = from_middle * (1 + bend * square)
    centre = middle + shift + bent @ turned.T
    # d bent / d from_middle = (1 + k r^2) I + 2 k r r^T
    outer = from_middle[..., :, None] * from_middle[..., None, :]
    slope = (1 + bend * square)[..., None] * np.eye(2) + 2 * bend * outer
    edges = turned @ slope * (flip * profile.cell_px)
    return Placement(centre, edges)


def edge_table(blur_px: float) -> FloatArray:
    """Share of a pixel's light inside an edge, over its centre's distance to it (px, inward positive).

    The overlap of a square pixel with a half-plane, blurred by a normal; from -reach to +reach in steps of
    `TABLE_STEP_PX`.
    """
    reach = 0.5 + 4 * blur_px
    count = math.ceil(reach / TABLE_STEP_PX)
    distance = np.arange(-count, count + 1) * TABLE_STEP_PX
    if blur_px == 0:
        return np.clip(distance + 0.5, 0.0, 1.0)
    high, low = (distance + 0.5) / blur_px, (distance - 0.5) / blur_px
    table: FloatArray = blur_px * (_ramp(high) - _ramp(low))
    return table


def _ramp(u: NDArray[np.floating]) -> FloatArray:
    return np.asarray(u * ndtr(u) + np.exp(-0.5 * u * u) / math.sqrt(2 * math.pi))


@njit(cache=True, nogil=True, error_model="numpy")
def _inside(table: FloatArray, distance: float) -> float:  # pragma: no cover - compiled
    place = distance * 256.0 + (table.size - 1) // 2
    if place <= 0.0:
        return 0.0
    if place >= table.size - 1:
        return 1.0
    low = int(place)
    return float(table[low] + (place - low) * (table[low + 1] - table[low]))


@njit(cache=True, nogil=True, error_model="numpy")
def _within(  # pragma: no cover - compiled
    table: FloatArray, half: float, away: float, reach: float
) -> float:
    """Share of a pixel between two edges at +-half, its centre `away` from their middle."""
    near, far = half - away, half + away
    if near >= reach:
        return 1.0
    share = _inside(table, near)
    return share if far >= reach else share + _inside(table, far) - 1.0


@njit(cache=True, nogil=True, error_model="numpy")
def gather_cells(  # pragma: no cover - compiled
    light: FloatArray, centre: FloatArray, edges: FloatArray, table: FloatArray, out: FloatArray
) -> None:
    """Mean of light [height, width] over each cell: centre [n, n, 2], edges [n, n, 2, 2], out [n, n].

    The mean is over the cell's whole area: what lies beyond the panel is dark.
    """
    reach = (table.size - 1) // 2 / 256.0
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            hy, hx, wy, wx = edges[i, j, 0, 0], edges[i, j, 1, 0], edges[i, j, 0, 1], edges[i, j, 1, 1]
            height, width = math.hypot(hy, hx), math.hypot(wy, wx)
            area = abs(hy * wx - hx * wy)
            span_y = 0.5 * (abs(hy) + abs(wy)) + reach + 1.0
            span_x = 0.5 * (abs(hx) + abs(wx)) + reach + 1.0
            top = max(0, math.floor(centre[i, j, 0] - span_y))
            end = min(light.shape[0], math.ceil(centre[i, j, 0] + span_y))
            left = max(0, math.floor(centre[i, j, 1] - span_x))
            stop = min(light.shape[1], math.ceil(centre[i, j, 1] + span_x))
            determinant = hy * wx - hx * wy
            u_y, u_x = wx / determinant * height, -wy / determinant * height  # px along the height
            v_y, v_x = -hx / determinant * width, hy / determinant * width
            total = 0.0
            for y in range(top, end):
                dy = y + 0.5 - centre[i, j, 0]
                for x in range(left, stop):
                    dx = x + 0.5 - centre[i, j, 1]
                    share = _within(table, 0.5 * height, abs(u_y * dy + u_x * dx), reach)
                    if share > 0.0:
                        share *= _within(table, 0.5 * width, abs(v_y * dy + v_x * dx), reach)
                        total += share * light[y, x]
            out[i, j] = total / area
