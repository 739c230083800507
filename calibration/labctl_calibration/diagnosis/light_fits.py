"""Hypotheses about the light: what each predicts of today's slopes, fitted, while emitters may wander."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from labctl_calibration.diagnosis.light_model import moved
from labctl_calibration.diagnosis.likelihood import beyond, misfit, of_places
from labctl_calibration.diagnosis.signs import OF_CHANGE, Signs
from labctl_calibration.drift.look import FloatArray

WANDER, COMMON = 0.04, 0.015  # relative sd of an emitter's light in health, and of all of them together
CELLS, MOST_CREEP = 0.02, 0.06  # the image's place in health: sd, and largest change
WARM_CELLS = 0.06  # sd of it where the bench is too warm
ROBUST = 5  # rounds of trusting what fits
OF_SEEN = 0.02  # by how much a change may be wrong that follows from the slopes themselves
DUST_CELLS = (1.5, 2.0, 2.6)


@dataclass(frozen=True, eq=False)
class LightFit:
    """misfit of the light, priors included; size and place of the fault, as far as the light says them."""

    misfit: float
    size: float = 0.0
    place: tuple[int, ...] = ()


class LightFits:
    """Fits of one examination's slopes."""

    def __init__(self, signs: Signs) -> None:
        self.signs, self.n = signs, len(signs)
        self._seen, self._before, self._sd = signs.slopes, signs.before, signs.light_sd
        model = signs.model
        cells = model.cells
        self._moves = [
            model.change(np.stack([moved(one, dy, dx) for one in cells]))
            for dy, dx in ((1, 0), (-1, 0), (0, 1), (0, -1))
        ]
        self._crept = self._creep()

    def score(
        self, predicted: FloatArray, *, common: float = 0.0, common_sd: float = COMMON, slack: float = OF_SEEN
    ) -> float:
        """Misfit of predicted slopes [n, n] where every emitter may be off by a little, and the image too.

        common: what all emitters are expected to be off by. slack: share of a predicted change that it may be
        wrong by.
        """
        crept, cost = self._crept
        still = self._score(predicted, common, common_sd, slack)
        return min(still, self._score(predicted + crept, common, common_sd, slack) + cost)

    def _score(self, predicted: FloatArray, common: float, common_sd: float, slack: float) -> float:
        weight, sd = 1 / self._sd**2, np.full(self.n, WANDER)
        own = (weight * predicted**2).sum(axis=0)
        cross = (weight * predicted * (self._seen - predicted)).sum(axis=0)
        mean = common
        for _ in range(4):
            scale = (cross + mean / sd**2) / (own + 1 / sd**2)
            shared = (scale / sd**2).sum() + common / common_sd**2
            mean = float(shared / ((1 / sd**2).sum() + 1 / common_sd**2))
        made = predicted * (1 + scale)
        allowed = np.hypot(self._sd, slack * (predicted - self._before))
        priors = float((((scale - mean) / sd) ** 2).sum()) + ((mean - common) / common_sd) ** 2
        wider = 2 * np.log(allowed / self._sd)
        return float((misfit(self._seen - made, allowed) + wider).sum()) + priors

    def amplitudes(self, changes: Sequence[FloatArray], trust: FloatArray | float = 1.0) -> FloatArray:
        """Least-squares amplitudes [k] of changes [n, n], every emitter free; trust: in each slope."""
        weight = np.sqrt(trust) / self._sd
        base = self._before * weight
        norm = np.maximum((base**2).sum(axis=0), 1e-12)

        def without(values: FloatArray) -> FloatArray:
            scaled = values * weight
            return np.asarray(scaled - base * ((base * scaled).sum(axis=0) / norm))

        design = np.stack([without(change).ravel() for change in changes], axis=1)
        seen = without(self._seen - self._before).ravel()
        square = design.T @ design
        square += np.eye(len(square)) * (1e-6 * np.trace(square) / len(square) + 1e-12)
        return np.asarray(np.linalg.solve(square, design.T @ seen))

    def _creep(self) -> tuple[FloatArray, float]:
        """By how much slopes differ because the image lies a little elsewhere, and the cost of that.

        Found once, robustly: a column or row that is wrong must not move the image.
        """
        best: tuple[float, FloatArray, float] = (np.inf, np.zeros_like(self._before), 0.0)
        for down in self._moves[:2]:
            for across in self._moves[2:]:
                trust: FloatArray | float = 1.0
                for _ in range(ROBUST):
                    by = np.clip(self.amplitudes([down, across], trust), 0.0, MOST_CREEP)
                    change = by[0] * down + by[1] * across
                    left = (self._seen - self._scaled(self._before + change, trust)) / self._sd
                    trust = 1 / (1 + (left / 2) ** 2)
                cost = float(((by / CELLS) ** 2).sum())
                fit = float(np.log1p(left**2).sum()) + cost
                if fit < best[0]:
                    best = fit, change, cost
        return best[1], best[2]

    def _scaled(self, predicted: FloatArray, trust: FloatArray | float) -> FloatArray:
        weight = trust / self._sd**2
        power = np.maximum((weight * predicted**2).sum(axis=0), 1e-12)
        return np.asarray(predicted * ((weight * predicted * self._seen).sum(axis=0) / power))

    # -- what may be ------------------------------------------------------------------------------------

    def healthy(self) -> LightFit:
        """Emitters that wander, an image that creeps a little."""
        return LightFit(self.score(self._before))

    def warm(self) -> LightFit:
        """Less light from all, and the image displaced."""
        best = np.inf
        for down in self._moves[:2]:
            for across in self._moves[2:]:
                y, x = np.clip(self.amplitudes([down, across]), 0.0, 3 * WARM_CELLS)
                placed = self._before + y * down + x * across
                cost = (y**2 + x**2) / WARM_CELLS**2
                fit = self._score(placed, -0.05, 0.03, OF_CHANGE) + float(cost)
                best = min(best, fit)
        return LightFit(best)

    def sag(self) -> LightFit:
        """Less light from all."""
        scale = float((self._seen * self._before / self._sd**2).sum() / (self._before**2 / self._sd**2).sum())
        lost = 1 - scale
        fit = self.score(self._before, common=-lost)
        return LightFit(fit + beyond(lost, 0.06, 0.3), lost)

    def dark(self) -> LightFit:
        """No light at all: nothing is predicted, so nothing is excused."""
        left = float(misfit(self._seen, self._sd).sum())
        scale = float(np.abs(self._seen).mean() / np.abs(self._before).mean())
        return LightFit(left + beyond(scale, 0.0, 0.02), 1 - scale)

    def one_emitter(self) -> LightFit:
        """One column fainter: the faintest against the others."""
        weight = 1 / self._sd**2
        own = (weight * self._before**2).sum(axis=0)
        live = own > 0.02 * np.median(own)
        scale = (weight * self._before * self._seen).sum(axis=0) / np.maximum(own, 1e-12)
        scale = np.where(live, scale / np.median(scale[live]) if np.median(scale[live]) > 0.1 else scale, 1.0)
        column = int(np.argmin(scale))
        lost = float(1 - scale[column])
        predicted = self._before.copy()
        predicted[:, column] *= 1 - lost
        return LightFit(self.score(predicted) + of_places(self.n), lost, (column,))

    def _swapped(self, axis: int) -> LightFit:
        left = ((self._seen - self._before) / self._sd) ** 2
        worst = np.argsort(-left.sum(axis=1 - axis))[:5]
        best = LightFit(np.inf)
        for i, a in enumerate(worst):
            for b in worst[i + 1 :]:
                order = np.arange(self.n)
                order[[a, b]] = b, a
                predicted = self._before[order] if axis == 0 else self._before[:, order]
                fit = self.score(predicted) + 2 * of_places(self.n)
                if fit < best.misfit:
                    best = LightFit(fit, 1.0, (int(min(a, b)), int(max(a, b))))
        return best

    def drives_swapped(self) -> LightFit:
        """Two columns exchanged."""
        return self._swapped(1)

    def detectors_swapped(self) -> LightFit:
        """Two rows exchanged."""
        return self._swapped(0)

    def shifted(self) -> LightFit:
        """The whole image moved along one axis, by up to a cell and a little."""
        best = LightFit(np.inf)
        for k, change in enumerate(self._moves):
            by = float(np.clip(self.amplitudes([change])[0], 0.0, 1.3))
            fit = self.score(self._before + by * change, slack=OF_CHANGE) + beyond(by, 0.2, 1.1)
            if fit < best.misfit:
                best = LightFit(fit + of_places(4), by, (k // 2, 1 if k % 2 else -1))
        return best

    def turned(self) -> LightFit:
        """The image turned in itself: cells move with their distance from the middle."""
        cells, n = self.signs.model.cells, self.n
        y, x = np.meshgrid(np.arange(n) - (n - 1) / 2, np.arange(n) - (n - 1) / 2, indexing="ij")
        best = LightFit(np.inf)
        for mrad in (-20, -16, -12, -8, 8, 12, 16, 20):
            turned = np.stack([_sampled(one, y + 1e-3 * mrad * x, x - 1e-3 * mrad * y) for one in cells])
            change = self.signs.model.change(turned)
            by = float(np.clip(self.amplitudes([change])[0], 0.0, 1.2))
            fit = self.score(self._before + by * change, slack=OF_CHANGE) + beyond(abs(by * mrad), 6.0, 22.0)
            if fit < best.misfit:
                best = LightFit(fit + of_places(4), by * mrad)
        return best

    def flipped(self) -> LightFit:
        """The image turned over: down, across, or both."""
        model = self.signs.model
        best = LightFit(np.inf)
        for k, axes in enumerate(((1,), (2,), (1, 2))):
            flipped = self._before + model.change(np.flip(model.cells, axes))
            fit = self.score(model.frame(np.flip(model.cells, axes)), slack=2 * OF_CHANGE)
            fit = min(fit, self.score(flipped, slack=2 * OF_CHANGE)) + of_places(3)
            if fit < best.misfit:
                best = LightFit(fit, 1.0, (k,))
        return best

    def defocused(self) -> LightFit:
        """Light of each cell spread over its neighbours, down and across."""
        down, across = self._moves[0] + self._moves[1], self._moves[2] + self._moves[3]
        a, b = self.amplitudes([down, across])
        even = beyond(float(np.log((max(a, 1e-3)) / max(b, 1e-3))), -0.8, 0.8)
        fit = self.score(self._before + max(a, 0.0) * down + max(b, 0.0) * across, slack=OF_CHANGE)
        return LightFit(fit + even + beyond(float(a + b) / 2, 0.03, 0.3), float(a + b) / 2)

    def crosstalk(self) -> LightFit:
        """More of each row in its neighbours: of what a detector reads, copied; or of its charge before that,
        which its own row then lacks.
        """
        cells = self.signs.model.cells
        wandered = moved(cells, 1, 0) + moved(cells, -1, 0) - 2 * cells
        wandered[:, [0, -1]] += cells[:, [0, -1]]  # beyond an edge there is nobody to take it
        copied = moved(self._before, 1, 0) + moved(self._before, -1, 0)
        best = LightFit(np.inf)
        for change, slack in ((copied, OF_SEEN), (self.signs.model.frame(wandered), OF_CHANGE)):
            more = float(self.amplitudes([change])[0])
            fit = self.score(self._before + more * change, slack=slack)
            fit += of_places(2) + beyond(more, 0.035, 0.2)
            if fit < best.misfit:
                best = LightFit(fit, more)
        return best

    def levels(self) -> LightFit:
        """Half-bright cells off against bright ones."""
        model = self.signs.model
        half = np.abs(self.signs.asked) < 0.75
        change = model.frame(model.cells * half)
        by = float(self.amplitudes([change])[0])
        scale = float((self._seen * self._before).sum() / (self._before**2).sum()) - 1
        fit = self.score(self._before + by * change, common=scale * 0.5, common_sd=0.08, slack=OF_CHANGE)
        return LightFit(fit + beyond(abs(by), 0.06, 0.6), by)

    def row(self) -> LightFit:
        """One row's gain."""
        weight = 1 / self._sd**2
        own = np.maximum((weight * self._before**2).sum(axis=1), 1e-12)
        scale = (weight * self._before * self._seen).sum(axis=1) / own
        scale = scale / max(float(np.median(scale)), 0.1)
        row = int(np.argmax(np.abs(np.log(np.clip(scale, 0.05, 20)))))
        predicted = self._before.copy()
        predicted[row] *= scale[row]
        size = float(abs(np.log(max(scale[row], 0.05))))
        fit = self.score(predicted) + of_places(self.n)
        return LightFit(fit + beyond(size, 0.1, 0.3), float(scale[row] - 1), (row,))

    def photodiode(self) -> LightFit:
        """A row that sees one sign path alone."""
        model = self.signs.model
        best = LightFit(np.inf)
        left = (((self._seen - self._before) / self._sd) ** 2).sum(axis=1)
        row = int(np.argmax(left))
        for path in (0, 1):
            predicted = self._before.copy()
            predicted[row] -= model.part(path, model.cells[path])[row]
            fit = self.score(predicted, slack=0.05) + of_places(2 * self.n)
            if fit < best.misfit:
                best = LightFit(fit, 1.0, (path, row))
        return best

    def panel_row(self) -> LightFit:
        """Cells of one output, or of two neighbours in part, all alike on both paths."""
        left = (((self._seen - self._before) / self._sd) ** 2).sum(axis=1)
        return min(
            (self._line((int(row),), down=True) for row in np.argsort(-left)[:3]), key=lambda fit: fit.misfit
        )

    def panel_column(self) -> LightFit:
        """Cells of one input on one path all alike."""
        left = (((self._seen - self._before) / self._sd) ** 2).sum(axis=0)
        columns = [int(column) for column in np.argsort(-left)[:3]]
        return min(
            (self._line((path, column), down=False) for path in (0, 1) for column in columns),
            key=lambda fit: fit.misfit,
        )

    def _line(self, place: tuple[int, ...], *, down: bool) -> LightFit:
        """A line of cells (`down`: a row on both paths, else a column of one) holds one level."""
        model, n, at = self.signs.model, self.n, place[-1]
        lines = [line for line in (at - 1, at, at + 1) if 0 <= line < n]
        lost, held = [], []
        for line in lines:
            mask = np.zeros((2, n, n))
            if down:
                mask[:, line] = 1.0
            else:
                mask[place[0], :, line] = 1.0
            lost.append(-model.frame(model.cells * mask))
            held.append(model.frame(mask))
        weight = 1 / self._sd
        design = np.stack([(one * weight).ravel() for one in (*lost, *held)], axis=1)
        seen = ((self._seen - self._before) * weight).ravel()
        square = design.T @ design
        square += np.eye(len(square)) * (1e-4 * np.trace(square) / len(square) + 1e-12)
        found = np.linalg.solve(square, design.T @ seen)
        part, level = found[: len(lines)], found[len(lines) :]
        predicted = self._before + np.tensordot(found, np.stack([*lost, *held]), axes=1)
        cover = float(part[lines.index(at)])
        cost = beyond(cover, 0.45, 1.1) + beyond(float(part.sum()), 0.7, 1.35)
        cost += beyond(float(level.sum()), 0.08, 1.4) + beyond(float(part.min()), -0.15, 1.1)
        fit = self.score(predicted, slack=0.05) + of_places(n if down else 2 * n) + 4.0 * len(lines)
        return LightFit(fit + cost, float(level.sum()), place)

    def dust(self) -> LightFit:
        """A round patch of one path fainter, its middle most."""
        model, n = self.signs.model, self.n
        left = (self._seen - self._before) / self._sd
        left = left - (self._before / self._sd) * (
            (left * self._before / self._sd).sum(axis=0)
            / np.maximum(((self._before / self._sd) ** 2).sum(axis=0), 1e-12)
        )
        best: tuple[float, LightFit] = (0.0, LightFit(np.inf))
        for path in (0, 1):
            own = model.part(path, model.cells[path]) / self._sd
            for radius in DUST_CELLS:
                kernel = np.exp(-0.5 * (np.arange(-n, n + 1) / radius) ** 2)
                cross, power = _spread(own * left, kernel), _spread(own**2, kernel**2)
                depth = -cross / np.maximum(power, 1e-9)
                gain = np.where((depth > 0.1) & (power > 0.05 * np.median(power)), cross**2 / power, 0.0)
                at = np.unravel_index(int(np.argmax(gain)), gain.shape)
                if gain[at] <= best[0]:
                    continue
                y, x = np.meshgrid(np.arange(n) - at[0], np.arange(n) - at[1], indexing="ij")
                blob = np.exp(-(y**2 + x**2) / (2 * radius**2))
                shadow = np.zeros((2, n, n))
                shadow[path] = blob * model.cells[path]
                fit = self.score(self._before - float(depth[at]) * model.frame(shadow), slack=OF_CHANGE)
                fit += of_places(2 * n * n) + beyond(float(depth[at]), 0.3, 1.0)
                found = LightFit(fit, float(depth[at]), (path, int(at[0]), int(at[1])))
                best = float(gain[at]), found
        return best[1]


def _sampled(cells: FloatArray, y: FloatArray, x: FloatArray) -> FloatArray:
    """Cells [n, n] at places from the middle, straight between them; dark beyond the field."""
    n = len(cells)
    y, x = y + (n - 1) / 2, x + (n - 1) / 2
    low_y, low_x = np.floor(y).astype(int), np.floor(x).astype(int)
    out = np.zeros_like(cells)
    for dy in (0, 1):
        for dx in (0, 1):
            at_y, at_x = low_y + dy, low_x + dx
            inside = (at_y >= 0) & (at_y < n) & (at_x >= 0) & (at_x < n)
            share = (1 - np.abs(y - at_y)) * (1 - np.abs(x - at_x))
            out += np.where(inside, share * cells[np.clip(at_y, 0, n - 1), np.clip(at_x, 0, n - 1)], 0.0)
    return out


def _spread(values: FloatArray, kernel: FloatArray) -> FloatArray:
    """values [n, n] correlated with a separable kernel [2 n + 1]."""
    n = len(values)
    band = np.stack([kernel[n - k : 2 * n - k] for k in range(n)])
    return np.asarray(band @ values @ band.T)


Rule = Callable[[LightFits], LightFit]
