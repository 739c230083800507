"""The fitted twin of an oscillator board: its law, noise and reads as its records have them, differentiable.

Programs are given in the units that codes stand for; couplings then get each cell's gain, offset, bows and
lag, injections their gain and turn, detunings the oscillator's own and what the supply takes from it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from labctl.devices import BoardSpec, CalibrationRecord
from labctl.models.oscillators.board_law import edges_of
from labctl.physics import Stream
from labctl.physics.oscillators import Inject, LaggedLaw, OscillatorLaw, PhaseNoise, evolve, settle_lagged
from labctl_calibration.oscillators.diffusion import KIND as DIFFUSION_KIND
from labctl_calibration.oscillators.errors import stated_errors
from labctl_calibration.oscillators.fitted import KINDS as BOARD_KINDS
from labctl_calibration.oscillators.fitted import FittedBoard
from labctl_calibration.oscillators.settling import KIND as SETTLING_KIND
from labctl_calibration.procedure import require

KINDS = (*BOARD_KINDS, DIFFUSION_KIND, SETTLING_KIND)
DEVICE = "fitted board"


class FittedBoardTwin(torch.nn.Module):
    """Phases theta [B, n] that a board's oscillators end at, as the records predict them; float64.

    `noisy` adds phase noise (the mean of the oscillators' D) and that of the reads. record_ids: what it is
    made of; overridden: why it is used although its agreement is not in order.
    """

    def __init__(
        self,
        spec: BoardSpec,
        records: Mapping[str, CalibrationRecord],
        record_ids: tuple[str, ...] = (),
    ) -> None:
        """records by kind: all of `KINDS`. Raises what `FittedBoard.of` does."""
        super().__init__()
        self.spec, self.record_ids = spec, record_ids
        self.noisy, self.overridden = False, ""
        self.fitted = FittedBoard.of(spec, records)
        self.edges = edges_of(spec.topology)
        self.errors = stated_errors(records)  # what the records leave uncertain, for trainings
        self.diffusion = float(
            np.maximum(require(records, DIFFUSION_KIND).array("diffusion_rad2_per_unit"), 0.0).mean()
        )

    def forward(
        self,
        law: OscillatorLaw,
        scale_units: Sequence[float],
        start: Tensor,
        *,
        duration: float | Sequence[float],
        steps: int,
        inject: Inject | None = None,
        sample_id: NDArray[np.int64] | None = None,
        seed: int = 0,
    ) -> Tensor:
        """theta [B, n] from start [B, n] after all segments of a program's law; rad, unwrapped.

        scale_units [K]: of a coupling at full scale. inject: (a, b) [B, n] beside the law's own, as set.
        `steps` of each segment. sample_id [B] and seed decide the draws of a noisy twin.
        """
        ids = np.arange(len(start), dtype=np.int64) if sample_id is None else sample_id
        noise = PhaseNoise(self.diffusion, Stream(seed, DEVICE, "phases"), ids) if self.noisy else None
        end = evolve(
            self.edges, self.on_board(law, scale_units), start.double(), duration=duration, steps=steps,
            noise=noise, inject=self.injected(inject),
        )  # fmt: skip
        if not self.noisy:
            return end
        paths = self.fitted.paths
        own = Stream(seed, DEVICE, "reads").normal(ids, self.spec.n, dtype=torch.float64)
        common = Stream(seed, DEVICE, "reference").normal(ids, 1, dtype=torch.float64)
        return end + torch.from_numpy(paths.noise_rad) * own + paths.common_rad * common

    def rest(
        self,
        law: OscillatorLaw,
        scale_units: float,
        start: Tensor,
        *,
        duration: float,
        steps: int,
        inject: Inject | None = None,
    ) -> Tensor:
        """Where one segment comes to rest [B, n], without noise, by the implicit function's gradient."""
        return settle_lagged(
            self.edges, self.on_board(law, (scale_units,)), start.double(), duration=duration, steps=steps,
            inject=self.injected(inject),
        )  # fmt: skip

    def on_board(self, law: OscillatorLaw, scale_units: Sequence[float]) -> LaggedLaw:
        """What a law as set becomes on the board; differentiable in its tables."""
        fitted = self.fitted
        scale = torch.as_tensor(scale_units, dtype=torch.float64)[:, None]
        asked = law.coupling.double()
        share = torch.where(scale > 0, asked / torch.where(scale > 0, scale, 1.0), 0.0)
        gain, offset, even, odd = torch.from_numpy(fitted.cells).T
        bow = 1 - share**2
        couplings = gain * asked + offset + even * bow + odd * share * bow
        lag = torch.from_numpy(fitted.lag_rad)
        load = couplings.abs().sum(dim=1, keepdim=True) / self.spec.n
        own = torch.from_numpy(fitted.detuning) - torch.from_numpy(fitted.supply) * load
        a, b = self._turned(law.in_phase.double(), law.quadrature.double())
        prompt = OscillatorLaw(
            couplings * torch.cos(lag), a, b, torch.from_numpy(fitted.anchor_gain) * law.second.double(),
            own + torch.from_numpy(fitted.trim_gain) * law.detuning.double(),
        )  # fmt: skip
        return LaggedLaw(prompt, couplings * torch.sin(lag))

    def injected(self, inject: Inject | None) -> Inject | None:
        """(a, b) [B, n] as they reach the oscillators, of what was set."""
        return None if inject is None else self._turned(inject[0].double(), inject[1].double())

    def _turned(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        gain, phase = (
            torch.from_numpy(np.array(v)) for v in (self.fitted.anchor_gain, self.fitted.anchor_phase_rad)
        )
        cos, sin = torch.cos(phase), torch.sin(phase)
        return gain * (a * cos + b * sin), gain * (b * cos - a * sin)
