"""What every part of a run on an oscillator board is: a program, the card of its model, and its judge."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from labctl.devices import Coercion, Outcome, Scalar
from labctl.engines import Ledger, OscillatorEngine, OscillatorResult
from labctl.models.oscillators.checkpoint import OscillatorCard
from labctl.models.oscillators.scoring import PictureJudge
from labctl.procedures.board_program import image_energy, program_record, real_pictures
from labctl.procedures.recipe import DiffuseRecipe, GenerateRecipe
from labctl.procedures.records import as_bytes, scalars_of
from labctl.procedures.watching import SettleReport, counted
from labctl.programs import OscillatorProgram, board_image
from labctl.rig import Rig
from labctl.runlog import DeviceTime, PanelPlan, StepLedger

FloatArray = NDArray[np.float64]
SHOWN = 10  # samples whose pictures are kept for each read


@dataclass(frozen=True, eq=False, kw_only=True)
class BoardPart(ABC):
    """See `labctl.procedures.parts.Part`: a program of an oscillator board, for a batch of samples.

    A subclass says how it is played and read: `settles`, `word`, `expected_us` and `run`.
    """

    name: str = ""
    title: str
    recipe: GenerateRecipe | DiffuseRecipe
    model: OscillatorCard
    program: OscillatorProgram
    judge: PictureJudge
    row: float | None = None
    series: str = ""
    at_once: bool = False

    @property
    @abstractmethod
    def settles(self) -> int:
        """Reads of a sample."""

    @property
    def n_samples(self) -> int:
        """Pictures that it makes."""
        return self.recipe.samples

    @property
    def d(self) -> int:
        """Pixels of a picture."""
        return self.program.n_visible

    @property
    def n_classes(self) -> int:
        """Nothing on a board is told a class."""
        return 0

    @property
    def class_names(self) -> Sequence[str]:
        """None: see `n_classes`."""
        return ()

    @property
    def card(self) -> dict[str, Any]:
        """The model's card."""
        return dict(self.model.model_dump(mode="json"))

    @cached_property
    def duration(self) -> float:
        """Evolution of a sample from its release to the last read, units."""
        return float(self.program.duration.sum())

    def ready(self, rig: Rig) -> Self:
        """Load it; raises what the board cannot hold."""
        self.load(rig)
        return self

    def set_up(self, rig: Rig) -> None:
        """What the recipe asks of a twin."""
        if rig.world is not None:
            rig.set_noise_scale(self.recipe.noise_scale)

    def load(self, rig: Rig) -> OscillatorEngine:
        """Set the twin up and write the program into the board."""
        self.set_up(rig)
        rig.oscillators.load(self.program, beyond_averaging=self.recipe.beyond_averaging)
        return rig.oscillators

    def coercions(self, rig: Rig) -> tuple[Coercion, ...]:
        """What the board's converters apply differently; raises what it cannot hold."""
        beyond = self.recipe.beyond_averaging
        return board_image(self.program, rig.oscillators.spec, beyond_averaging=beyond)[1]

    def panel(self, rig: Rig) -> PanelPlan:
        """Its place in the file."""
        side, real, labels = self.model.side, *real_pictures(self.model)
        return PanelPlan(
            n_steps=self.settles,
            n_samples=self.n_samples,
            d=self.d,
            n_channels=self.program.topology.n,
            name=self.name,
            title=self.title,
            program=program_record(self.program, rig.oscillators),
            pictures=(self.n_samples, side, side),
            step_pictures=(self.settles, min(SHOWN, self.n_samples), side, side),
            reference_pictures=real,
            reference_labels=labels,
            settings=scalars_of(self.recipe),
        )

    def pictures(self, pixels: FloatArray) -> NDArray[np.uint8]:
        """Pixels [B, d] as the file keeps them."""
        return as_bytes(pixels).reshape(-1, self.model.side, self.model.side)

    def report(
        self, index: int, kind: str, sigma: float, outcome: NDArray[np.uint8], ledger: Ledger
    ) -> SettleReport:
        """What a watcher is told of a read; sigma nan where there is no noise level."""
        return SettleReport(
            panel=self.name,
            index=index,
            of=self.settles,
            kind=kind,
            sigma=sigma,
            samples=len(outcome),
            outcomes=counted(outcome),
            settle_p95_us=float("nan"),
            unsettled_share=float("nan"),
            device_us=ledger.device_us,
            host_s=ledger.host_s,
        )

    def scores(self, made: NDArray[np.uint8]) -> dict[str, Scalar]:
        """What the judge says of pictures; FD* is left out where there are too few for it."""
        return dict(self.judge.reference.measure(self.judge.classifier.features(made)).metrics())

    def of_runs(self, results: Sequence[OscillatorResult]) -> dict[str, Scalar]:
        """Device time of a sample, and the share whose board stayed locked in all of the runs."""
        locked = np.all([result.outcome == Outcome.TIME_ELAPSED for result in results], axis=0)
        return {
            "device_time_per_sample_us": sum(r.ledger.device_us for r in results) / self.n_samples,
            "locked_share": float(locked.mean()),
        }

    def energy(self, rig: Rig, *, anchor_writes: int = 0) -> dict[str, Scalar]:
        """Of one image; `anchor_writes` of a sample, as of `labctl.energy.OscillatorWork`."""
        return image_energy(
            self.program,
            rig.oscillators.spec,
            duration=self.duration,
            reads=self.settles,
            anchor_writes=anchor_writes,
            batch=self.n_samples,
        )


def step_ledger(ledger: Ledger, *, sampling_s: float, nfe: int) -> StepLedger:
    """What a read cost, as the file keeps it: a board has no window."""
    return StepLedger(
        modelled=DeviceTime(upload_us=ledger.upload_us, wait_us=ledger.wait_us, read_us=ledger.read_us),
        engine_s=ledger.host_s,
        sampling_s=sampling_s,
        nfe=nfe,
    )
