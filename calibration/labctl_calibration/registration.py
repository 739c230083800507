"""Where the optics have every cell on the panel, sub-pixel, by structured light and single emitters.

One path at a time (the other half at level 0). Square stripes with a period of about one and a half cells are
moved in five steps: that leaves harmonics 4, 6, 9, 11, ... beside the first, of which square stripes have no
even ones, and a cell's own width takes out nearly all of the ninth. So the phase of the first is the cell's
place, free of the panel's unknown response (which only makes harmonics) and of how much light the cell has.
The place is known up to whole periods; from cell to cell the design tells them, frames with a band of the
field lit settle the last one. Three frames with every third row lit give the detectors' crosstalk, which
would bend the phases along the outputs, and take it out. Sign and direction of everything is read off, not
assumed: swapped or mirrored planes are found.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labctl.devices import DeviceFault
from labctl.programs import CellMap
from labctl_calibration.probing import Probing, half

FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]
STRIPE_CELLS = 1.5
STEPS = 5
ROUNDS = 4
ROW_SHARE = 0.5  # of a cell's height that is lit where single rows are
SEARCH = 512  # points of the search for the stripes' frequency over the cells
WORST_PITCH = 0.25  # relative departure from the designed pitch that is searched
OUTLIER = 4.0  # robust standard deviations
PASSES = 4
VISIBLE = 0.2  # of the median amplitude: dimmer cells say nothing of their place
LEAST_VISIBLE = 0.4  # of all cells
LIKELY = 0.9  # agreement of the cells with the frame that has a band lit
BAND = (0.27, 0.64)  # of the field


@dataclass(frozen=True, eq=False)
class PathRegistration:
    """One sign path: map of its cells; residual_px rms of `used` cells' centroids (both axes) around it;
    neighbour [n, 2]: shares of a detector's signal in the earlier and the later one; side: panel half
    (0 = left) that the path's cells lie on; shift_px [2] and turn_mrad against the design; blur_px: standard
    deviation of the optics' point spread, from the stripes' contrast.
    """

    cells: CellMap
    residual_px: float
    used: int
    neighbour: FloatArray
    side: int
    shift_px: FloatArray
    turn_mrad: float
    mirrored: tuple[bool, bool]
    blur_px: float

    @property
    def error_px(self) -> float:
        """Standard error of a cell's place from the fit (seven parameters)."""
        return float(self.residual_px * np.sqrt(7 / max(2 * self.used, 1)))


@dataclass(frozen=True, eq=False)
class Registration:
    """Both sign paths as the detectors subtract them, positive first; temperature_c when it was taken."""

    paths: tuple[PathRegistration, PathRegistration]
    temperature_c: float

    @property
    def swapped(self) -> bool:
        """Whether the positive path's cells lie on the half designed for the negative one."""
        return self.paths[0].side == 1

    @property
    def found(self) -> tuple[str, ...]:
        """In words."""
        said = []
        if self.swapped:
            said.append("the sign planes are swapped: the panel's left half is the negative path; corrected")
        for name, path in zip(("positive", "negative"), self.paths, strict=True):
            said += [
                f"the {name} plane is mirrored {how}; corrected"
                for how, is_so in zip(("top to bottom", "left to right"), path.mirrored, strict=True)
                if is_so
            ]
            cells = path.shift_px / path.cells.pitch_px
            whole = ", ".join(f"{round(c):+d}" for c in cells)
            said.append(
                f"the {name} field is shifted by {path.shift_px[0]:+.2f} px down and {path.shift_px[1]:+.2f} "
                f"px right{f' ({whole} cells)' if np.abs(np.rint(cells)).max() else ''}, turned by "
                f"{path.turn_mrad:+.2f} mrad, {100 * _zoom(path.cells):.2f}% of its designed size, distorted "
                f"by {path.cells.distortion_px:+.2f} px at the corners (centroids scatter by "
                f"{path.residual_px:.3f} px around that, {path.used} cells)"
            )
        return tuple(said)


def register(probing: Probing) -> Registration:
    """34 frames with 4 n probes each. Raises DeviceFault where no cells answer or where no map fits."""
    sides = [_register_side(probing, side) for side in (0, 1)]
    signs = [sign for _, sign in sides]
    if signs[0] == signs[1]:
        raise DeviceFault(
            f"both halves of the panel feed the {'positive' if signs[0] > 0 else 'negative'} path; "
            "allowed: one half for each sign",
            device=probing.modulator.name, operation="register",
        )  # fmt: skip
    by_sign = {sign: path for path, sign in sides}
    return Registration((by_sign[1], by_sign[-1]), probing.electronics.temperature_c())


def _register_side(probing: Probing, side: int) -> tuple[PathRegistration, int]:
    """The path whose cells lie on one half of the panel, and its sign at the detectors."""
    panel, n = probing.panel, probing.spec.n_channels
    top, columns = panel.n_levels - 1, half(panel, side)
    pitch = (panel.shape_px[0] // n, (panel.shape_px[1] // 2) // n)
    probing.show_half(side, 0)
    off = probing.one_hot(rounds=ROUNDS)
    probing.show_half(side, top)
    lit = probing.one_hot(rounds=ROUNDS) - off
    sign = 1 if lit.sum() > 0 else -1
    waves, periods = [], []
    for axis in (0, 1):
        period = 2 * STEPS * round(STRIPE_CELLS * pitch[axis] / (2 * STEPS))
        waves.append(sign * _wave(probing, side, axis, period))
        periods.append(period)
    crosstalk = np.eye(n)
    coarse = _band_lit(probing, columns)
    parts = [sign * (seen - off) for seen in coarse]
    whole = sign * lit
    for last in (False, True):  # first as the detectors see it, then without their crosstalk
        straight = [np.asarray(np.linalg.solve(crosstalk, wave), np.complex128) for wave in waves]
        shares = [np.linalg.solve(crosstalk, part) for part in (*parts, whole)]
        places, seen_well = _places(probing, side, straight, periods, pitch, shares)
        cells, used, residual = _fitted(places, seen_well, n, pitch)
        if not last:
            crosstalk = _crosstalk(probing, cells, columns, off, sign)
    middle = np.array([panel.shape_px[0] / 2, (columns.start + columns.stop) / 2])
    turned = np.linalg.inv(np.diag(np.sign(np.diag(cells.affine)))) @ cells.affine
    return (
        PathRegistration(
            cells=cells,
            residual_px=residual,
            used=used,
            neighbour=np.stack(
                [np.append(0.0, np.diag(crosstalk, 1)), np.append(np.diag(crosstalk, -1), 0.0)], axis=1
            ),
            side=side,
            shift_px=cells.middle_px - middle,
            turn_mrad=1e3 * float(np.arctan2(turned[1, 0] - turned[0, 1], turned[0, 0] + turned[1, 1])),
            blur_px=_blur(straight, periods, shares[-1], seen_well, cells),
            mirrored=(bool(cells.affine[0, 0] < 0), bool(cells.affine[1, 1] < 0)),
        ),
        sign,
    )


def _wave(probing: Probing, side: int, axis: int, period: int) -> ComplexArray:
    """First harmonic [out, in] of what cells see of stripes along an axis: its phase is the cell's place.

    The stripes are bright where (pixel - step) mod period < period / 2; phase = 2 pi place / period.
    """
    shape, columns = probing.panel.shape_px, half(probing.panel, side)
    pixel = np.arange(shape[axis])
    bright, steps = period // 2, range(0, period, period // STEPS)
    total = np.zeros((probing.spec.n_channels,) * 2, np.complex128)
    for step in steps:
        lit = ((pixel - step) % period < bright).astype(np.uint16) * (probing.panel.n_levels - 1)
        frame = np.zeros(shape, np.uint16)
        frame[:, columns] = lit[:, None] if axis == 0 else lit[None, columns]
        probing.show(frame)
        # a cell at p sees most where the middle of a bright stripe, step + bright / 2, is at p
        total += probing.one_hot(rounds=ROUNDS) * np.exp(2j * np.pi * (step + bright / 2) / period)
    return np.asarray(total * 2 / len(steps))


def _band_lit(probing: Probing, columns: slice) -> list[FloatArray]:
    """What the cells see [out, in] with a band of the field lit across, and with one lit down it."""
    height, width = probing.panel.shape_px[0], columns.stop - columns.start
    (top, bottom), (left, right) = _band(height), _band(width)
    seen = []
    for rows, across in (
        (slice(top, bottom), columns),
        (slice(None), slice(columns.start + left, columns.start + right)),
    ):
        frame = np.zeros(probing.panel.shape_px, np.uint16)
        frame[rows, across] = probing.panel.n_levels - 1
        probing.show(frame)
        seen.append(probing.one_hot(rounds=ROUNDS))
    return seen


def _band(pixels: int) -> tuple[int, int]:
    """Where the band begins and ends: two edges, so that one dead channel cannot hide where they fall."""
    return round(BAND[0] * pixels), round(BAND[1] * pixels)


def _places(
    probing: Probing,
    side: int,
    waves: list[ComplexArray],
    periods: list[int],
    pitch: tuple[int, int],
    shares: list[FloatArray],
) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Places [n, n, 2] (y, x) of the cells in pixels, and which cells are bright enough to be believed."""
    across, down, whole = shares
    columns, name = half(probing.panel, side), ("left", "right")[side]
    bright = whole > VISIBLE * np.median(whole)
    for wave in waves:
        bright &= np.abs(wave) > VISIBLE * np.median(np.abs(wave))
    if whole.max() <= 0 or bright.mean() < LEAST_VISIBLE:
        raise DeviceFault(
            f"{100 * bright.mean():.0f}% of the cells on the {name} half answer to stripes; "
            f"allowed: {100 * LEAST_VISIBLE:.0f}% or more",
            device=probing.modulator.name, operation="register",
        )  # fmt: skip
    out = np.empty((*whole.shape, 2))
    fields = ((0, probing.panel.shape_px[0]), (columns.start, columns.stop))
    for axis, (part, (first, last)) in enumerate(zip((across, down), fields, strict=True)):
        place = _unwrapped(waves[axis], periods[axis], pitch[axis], axis, bright)
        lit = part / np.where(bright, whole, 1.0) > 0.5
        begin, end = (first + edge for edge in _band(last - first))
        turns = np.arange(-last // periods[axis], 2 + 2 * last // periods[axis])
        moved = place + turns[:, None, None] * periods[axis]
        agree = (((moved > begin) & (moved < end)) == lit)[:, bright].mean(axis=1)
        best = int(np.argmax(agree))
        runner_up = float(np.delete(agree, best).max())
        if agree[best] < LIKELY or agree[best] - runner_up < 0.5 / len(whole):
            raise DeviceFault(
                f"no one place of the {name} half's cells {('down', 'across')[axis]} agrees with what frames "
                f"with a band lit show: the best with {100 * agree[best]:.1f}% of the cells, the next with "
                f"{100 * runner_up:.1f}%; allowed: {100 * LIKELY:.0f}% or more, and clearly the best",
                device=probing.modulator.name, operation="register",
            )  # fmt: skip
        out[..., axis] = place + turns[best] * periods[axis]
    return out, bright


def _unwrapped(
    wave: ComplexArray, period: int, pitch: int, axis: int, bright: NDArray[np.bool_]
) -> FloatArray:
    """Places [n, n] up to whole periods, one unknown number of them for all cells together."""
    n = len(wave)
    unit = np.where(bright, wave / np.maximum(np.abs(wave), 1e-12), 0.0)
    power = np.abs(np.fft.fft2(unit, (SEARCH, SEARCH)))
    turns = np.fft.fftfreq(SEARCH)
    # turns a cell along the outputs and along the inputs; whole ones are free, the design chooses them
    frequency = [turns[i] for i in np.unravel_index(int(power.argmax()), power.shape)]
    own = frequency[axis] + np.arange(-2, 3)
    designed = pitch / period
    frequency[axis] = float(own[np.argmin(np.abs(np.abs(own) - designed))])
    index = np.arange(n) - (n - 1) / 2
    for _ in range(2):  # the search's grid leaves a fraction of a period at the edges: straighten, look again
        plane = frequency[0] * index[:, None] + frequency[1] * index[None, :]
        rest = unit * np.exp(-2j * np.pi * plane)
        frequency[0] += float(np.angle((rest[1:] * rest[:-1].conj()).sum())) / (2 * np.pi)
        frequency[1] += float(np.angle((rest[:, 1:] * rest[:, :-1].conj()).sum())) / (2 * np.pi)
    plane = frequency[0] * index[:, None] + frequency[1] * index[None, :]
    rest = unit * np.exp(-2j * np.pi * plane)
    mean = np.angle(rest.sum())
    return np.asarray(period * (plane + (np.angle(rest * np.exp(-1j * mean)) + mean) / (2 * np.pi)))


def _fitted(
    places: FloatArray, good: NDArray[np.bool_], n: int, pitch: tuple[int, int]
) -> tuple[CellMap, int, float]:
    """Affine map with one radial distortion through the places, outliers left out: map, cells used, rms."""
    plain = CellMap(n, (float(pitch[0]), float(pitch[1])), np.zeros(2), np.eye(2))
    q, p = plain.designed().reshape(-1, 2), places.reshape(-1, 2)
    corner = float(np.hypot(*plain.pitch_px) * n / 2)
    bend = q * (q**2).sum(axis=1, keepdims=True) / corner**3
    keep, affine, distortion = good.reshape(-1).copy(), np.eye(2), 0.0
    middle, rms = np.zeros(2), 0.0
    ones, none = np.ones(len(q)), np.zeros_like(q)
    for _ in range(PASSES):
        bent = bend @ affine.T  # of the pass before: magnification and turn are known to a percent by then
        for_y = np.column_stack([ones, q, np.zeros(len(q)), none, bent[:, 0]])[keep]
        for_x = np.column_stack([np.zeros(len(q)), none, ones, q, bent[:, 1]])[keep]
        found = np.linalg.lstsq(np.vstack([for_y, for_x]), p[keep].T.reshape(-1), rcond=None)[0]
        middle, affine = found[[0, 3]], np.stack([found[1:3], found[4:6]])
        distortion = float(found[6])
        left = p - middle - (q + distortion * bend) @ affine.T
        away = np.abs(left).max(axis=1)
        rms = float(np.sqrt((left[keep] ** 2).mean()))
        sigma = 1.4826 * float(np.median(away[good.reshape(-1)]))
        keep = good.reshape(-1) & (away < max(OUTLIER * sigma, 1e-9))
    return CellMap(n, plain.pitch_px, middle, affine, distortion), int(keep.sum()), rms


def _blur(
    waves: list[ComplexArray],
    periods: list[int],
    whole: FloatArray,
    bright: NDArray[np.bool_],
    cells: CellMap,
) -> float:
    """Blur (px): what the stripes' contrast lacks beside a cell's own width, mean of both axes."""
    squares = []
    for wave, period, size in zip(waves, periods, cells.cell_size_px, strict=True):
        sharp = 2 / np.pi * np.sinc(size / period)
        contrast = float(np.median(np.abs(wave[bright]) / whole[bright]))
        squares.append(np.log(sharp / contrast) * period**2 / (2 * np.pi**2))
    return float(np.sqrt(max(np.mean(squares), 0.0)))


def _crosstalk(probing: Probing, cells: CellMap, columns: slice, off: FloatArray, sign: int) -> FloatArray:
    """Detectors' crosstalk [n, n] (tridiagonal, 1 on the diagonal): every third row of cells lit in turn."""
    n, shape = cells.n, probing.panel.shape_px
    row = cells.inner_pixels(shape, ROW_SHARE)
    row[:, : columns.start] = row[:, columns.stop :] = -1
    out = np.eye(n)
    for first in range(3):
        frame = np.where((row >= 0) & (row % 3 == first), probing.panel.n_levels - 1, 0)
        probing.show(frame.astype(np.uint16))
        light = sign * (probing.one_hot(rounds=ROUNDS) - off).sum(axis=1)
        for source in range(first, n, 3):
            for other in (source - 1, source + 1):
                if 0 <= other < n and light[source] > 0:
                    out[other, source] = light[other] / light[source]
    return out


def _zoom(cells: CellMap) -> float:
    return float(np.sqrt(np.abs(np.linalg.det(cells.affine))))
