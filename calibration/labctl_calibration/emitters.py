"""Light over drive of every emitter, as each sign path sees it; dead and weak channels; a ranking.

With one path open, one emitter at a time leaves its bias phi = 0 by -1 .. 1. Outputs share the emitter's
curve, so their changes are summed: light(phi) - light(0) = slope (phi + quadratic phi^2 + cubic phi^3).
All other emitters shine at their bias meanwhile, and flicker with the panel: each pattern stands between two
of phi = 0, which take that out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labctl.devices import DeviceFault
from labctl_calibration.linearity import Linearity
from labctl_calibration.probing import Probing
from labctl_calibration.repeats import widened

FloatArray = NDArray[np.float64]
# neighbours in time share a pattern of phi = 0, and its noise: they are none in drive
DRIVES = (-1.0, 0.25, -0.5, 0.75, -0.25, 1.0, -0.75, 0.5)
REPEATS = 4
DEAD, WEAK = 0.05, 0.5  # of the median channel's light
MOST_DEAD = 0.25  # of the channels: with more a bench is to be repaired, not calibrated


@dataclass(frozen=True, eq=False)
class Emitters:
    """Of every input channel, [2, n] by sign path: slope_units (mean photocurrent a unit of phi, over the
    outputs, every cell on), quadratic, cubic with standard errors; dead, weak: their numbers; order [n]:
    all of them, best first. swing: photocurrent a unit of phi, between phi = -1 and 1, for a unit of that of
    the emitter alone at full drive. Inputs are counted along the panel; `names` are their drive channels'
    numbers (None: the same).
    """

    slope_units: FloatArray
    slope_error_units: FloatArray
    quadratic: FloatArray
    cubic: FloatArray
    quadratic_error: FloatArray
    cubic_error: FloatArray
    swing: FloatArray
    dead: NDArray[np.int64]
    weak: NDArray[np.int64]
    order: NDArray[np.int64]
    names: NDArray[np.int64] | None = None

    def named(self, inputs: NDArray[np.int64]) -> NDArray[np.int64]:
        """Drive channels of these inputs."""
        return inputs if self.names is None else np.sort(self.names[inputs])

    @property
    def found(self) -> str:
        """In words."""
        best, worst = self.order[:1], self.order[[len(self.order) - 1 - len(self.dead)]]
        light = self.slope_units.min(axis=0)
        share = 100 * float(light[worst[0]] / light[best[0]])
        dead, weak = (_channels(what, self.named(getattr(self, what))) for what in ("dead", "weak"))
        return (
            f"{dead}, {weak}; the best is {self.named(best)[0]}, the worst that lives is "
            f"{self.named(worst)[0]} with {share:.0f}% of its light"
        )


def measure_emitters(probing: Probing, linearity: Linearity, sides: tuple[int, int] = (0, 1)) -> Emitters:
    """Two frames, 64 patterns a channel on each; `sides` as in `measure_linearity`.

    Raises DeviceFault where too many channels are dead.
    """
    n, top = probing.spec.n_channels, probing.panel.n_levels - 1
    drives = np.array(DRIVES)
    drive = np.zeros((REPEATS, n, len(DRIVES), 2, n))  # each pattern, then phi = 0
    drive[:, np.arange(n), :, 0, np.arange(n)] = drives[None, None]
    drive = np.concatenate([np.zeros((1, n)), drive.reshape(-1, n)])
    design = np.stack([drives, drives**2, drives**3], axis=1)
    gram = np.linalg.inv(design.T @ design)
    spare = len(DRIVES) - design.shape[1]
    fitted, errors, alone = np.zeros((2, 3, n)), np.zeros((2, 3, n)), np.ones((2, n))
    for path, sign in ((0, 1), (1, -1)):
        probing.show_half(sides[path], top)
        seen = linearity.straightened(sign * probing.probe(drive, at="phi"), path).mean(axis=1)
        around = (seen[:-1:2] + seen[2::2]) / 2
        light = (seen[1::2] - around).reshape(REPEATS, n, len(DRIVES)).mean(axis=0)
        alone[path] = sign * probing.one_hot().mean(axis=0)
        fitted[path] = gram @ design.T @ light.T
        left = light.T - design @ fitted[path]
        scatter = widened(spare) * np.sqrt((left**2).sum(axis=0) / spare)
        errors[path] = np.sqrt(np.diag(gram))[:, None] * scatter
    slope = fitted[:, 0]
    weakest = slope.min(axis=0)
    median = float(np.median(weakest))
    dead = np.flatnonzero(~(weakest > DEAD * median)) if median > 0 else np.arange(n)
    if len(dead) > MOST_DEAD * n:
        raise DeviceFault(
            f"{len(dead)} of {n} input channels give no light: "
            f"{', '.join(map(str, np.sort(probing.wiring.channel_of_column[dead])[:12]))}"
            f"{' ...' if len(dead) > 12 else ''}; allowed: at most {int(MOST_DEAD * n)}",
            device=probing.electronics.name, operation="measure_emitters",
        )  # fmt: skip
    lives = np.setdiff1d(np.arange(n), dead)
    safe = np.where(np.isin(np.arange(n), lives), slope, np.inf)
    return Emitters(
        slope_units=slope,
        slope_error_units=errors[:, 0],
        quadratic=fitted[:, 1] / safe,
        cubic=fitted[:, 2] / safe,
        quadratic_error=errors[:, 1] / safe,
        cubic_error=errors[:, 2] / safe,
        swing=np.where(
            np.isfinite(safe), (fitted[:, 0] + fitted[:, 2]) / np.where(alone > 0, alone, 1.0), 1.0
        ),
        dead=dead,
        weak=lives[weakest[lives] < WEAK * median],
        order=np.argsort(-weakest, kind="stable"),
        names=probing.wiring.channel_of_column,
    )


def _channels(what: str, channels: NDArray[np.int64]) -> str:
    if not len(channels):
        return f"no {what} input channel"
    names = ", ".join(map(str, channels))
    return f"input channel{'' if len(channels) == 1 else 's'} {names} {what}"
