"""A noise budget turned round: from parts in a settled state to the disturbances that make them.

The budget says what each source was in settled states around zero, every row at one gain. Through the same
linear loop that says how large the disturbance is, behind the gain or in front of it; other states and gains
then get what the loop makes of it there. What the budget does not keep is taken as equal in all rows (dark
and shot noise) or as light around zero (intensity, flicker). Sources that are only known to be below a bound
are left out, as in the budget's total.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from labctl.devices import CalibrationRecord, LoopSpec
from labctl.physics import FittedLoop, Stream
from labctl_calibration.frame_flicker import FrameFlicker
from labctl_calibration.noise_budget import WAIT_US, NoiseBudget, budget_of

DEVICE = "fitted twin"
WHITE_BEHIND, WHITE_BEFORE, OF_EMITTERS, READ = "electronics", ("detectors", "shot"), "intensity", "ADC codes"
LINES_BEFORE, LINES_BEHIND = "flicker", "mains"


@dataclass(frozen=True, eq=False)
class TwinNoise:
    """Standard deviations in units: behind and before the gain, white from sample to sample; emitters: what
    multiplies W and a draw an emitter; common: rms of the light's flicker, in what multiplies W's row sums;
    mains: rms behind the gain; read: of a reading. flicker_hz, mains_hz: lines, over samples sample_us apart.
    frame: the flicker of the one frame that this is asked of, where it was measured: instead of `common`.
    """

    behind: float
    before: float
    emitters: float
    common: float
    mains: float
    read: float
    flicker_hz: tuple[float, ...]
    mains_hz: tuple[float, ...]
    sample_us: float
    frame: FrameFlicker | None = None

    @classmethod
    def of(cls, record: CalibrationRecord, loop: FittedLoop, spec: LoopSpec) -> TwinNoise:
        """From a noise budget of the loop's frame."""
        budget = budget_of(record)
        n = spec.n_channels
        zero = torch.zeros(1, n, dtype=torch.float64)
        law = loop.law(zero, torch.full((n,), budget.gain, dtype=torch.float64), torch.ones(n).double())
        settled = torch.linalg.inv(law.curvature(zero))[0]
        through = settled * law.gain
        weights = loop.light.powers[0]

        def size(name: str, response: Tensor) -> float:
            """Of a disturbance that the loop turns into the budget's part; response [n, draws]."""
            source = next((s for s in budget.sources if s.name == name and s.measured), None)
            if source is None:
                return 0.0
            per_unit = float(response.square().sum(dim=1).mean().sqrt())
            return source.percent / 100 * spec.adc.range_units / per_unit

        read = next((s.percent for s in budget.sources if s.name == READ and s.measured), 0.0)
        row_sums = weights.sum(dim=1, keepdim=True)
        return cls(
            behind=size(WHITE_BEHIND, settled),
            before=sum(size(name, through) ** 2 for name in WHITE_BEFORE) ** 0.5,
            emitters=size(OF_EMITTERS, through @ weights),
            common=size(LINES_BEFORE, through @ row_sums),
            mains=size(LINES_BEHIND, settled.sum(dim=1, keepdim=True)),
            read=read / 100 * spec.adc.range_units,
            flicker_hz=_lines(budget, LINES_BEFORE),
            mains_hz=_lines(budget, LINES_BEHIND),
            sample_us=WAIT_US + spec.window_us,
        )

    def draw(self, ids: NDArray[np.int64], seed: int, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Disturbances behind and before the gain, and of the reading [B, n]; weights [n, n] as in `of`.

        White parts depend on seed and sample alone; lines go through the samples in order of their ids.
        """
        n = len(weights)

        def white(name: str, size: float) -> Tensor:
            return size * Stream(seed, DEVICE, name).normal(ids, n, dtype=torch.float64)

        if self.frame is None:
            swing = self.common * self._slow(ids, seed, LINES_BEFORE, self.flicker_hz) * weights.sum(dim=1)
        else:
            turns = self._turns(seed, LINES_BEFORE, len(self.frame.frequency_hz))
            swing = torch.from_numpy(self.frame.at(ids * self.sample_us, turns))
        mains = self.mains * self._slow(ids, seed, LINES_BEHIND, self.mains_hz)
        behind = white(WHITE_BEHIND, self.behind) + mains
        before = white("light", self.before) + white(OF_EMITTERS, self.emitters) @ weights.T
        return behind, before + swing, white(READ, self.read)

    def _slow(self, ids: NDArray[np.int64], seed: int, name: str, lines_hz: tuple[float, ...]) -> Tensor:
        """Sines of rms 1 in all [B, 1], with random phases; 0 without lines."""
        out = np.zeros(len(ids))
        for hz, turns in zip(lines_hz, self._turns(seed, name, len(lines_hz)), strict=True):
            out += np.sin(2 * np.pi * (hz * ids * self.sample_us * 1e-6 + turns))
        return torch.from_numpy(out * np.sqrt(2 / max(len(lines_hz), 1)))[:, None]

    @staticmethod
    def _turns(seed: int, name: str, lines: int) -> NDArray[np.float64]:
        """Where in their periods lines begin, by chance."""
        return np.random.Generator(np.random.Philox(key=Stream(seed, DEVICE, name).key()[0])).random(lines)


def _lines(budget: NoiseBudget, name: str) -> tuple[float, ...]:
    """Lines of a source: those of the budget's that its words name."""
    how = next((s.how for s in budget.sources if s.name == name and s.measured), "")
    named = {int(hz) for hz in re.findall(r"\d+", how.split(" Hz ")[0])} if " Hz " in how else set()
    return tuple(sorted({hz for hz in budget.lines_hz if round(hz) in named}))
