"""A generator on an oscillator board as a part of a run: its phases, its pictures, what stands beside."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from labctl.devices import Coercion, Outcome, ProgramError, Scalar
from labctl.engines import Ledger, OscillatorEngine, OscillatorResult
from labctl.models.oscillators.control_set import ControlSet, controls_beside
from labctl.models.oscillators.scoring import PictureJudge
from labctl.procedures.board_program import (
    check_wiring,
    image_energy,
    judge_of,
    program_record,
    real_pictures,
)
from labctl.procedures.coding import CodedGenerator, coded_generator
from labctl.procedures.interrupts import uninterrupted
from labctl.procedures.plan import check_law, check_simulated
from labctl.procedures.recipe import GenerateRecipe, GenerateScanRecipe, Protocol
from labctl.procedures.records import as_bytes, scalars_of
from labctl.procedures.scanning import scan_parts
from labctl.procedures.watching import PanelResult, SettleReport, Watcher
from labctl.programs import OscillatorProgram, board_image
from labctl.rig import Rig
from labctl.runlog import ControlRecord, DeviceTime, PanelPlan, PanelWriter, StepLedger, StepRecord

FloatArray = NDArray[np.float64]
MISMATCHED = ("detuning", "coupling_gain", "coupling_offset")  # terms of a twin that `mismatch` scales
NOTE = "note"  # the setting that says in words what a panel's program is
KIND_OF = {"segments": "segment", "end": "program"}  # what a read closes
SHOWN = 10  # samples whose pictures are kept for each read


@dataclass(frozen=True, eq=False)
class Generation:
    """See `labctl.procedures.parts.Part`: one program, run for a batch of samples at once."""

    name: str
    title: str
    recipe: GenerateRecipe
    coded: CodedGenerator
    judge: PictureJudge
    controls: ControlSet | None = None
    row: float | None = None
    series: str = ""
    at_once: bool = True

    @property
    def program(self) -> OscillatorProgram:
        """What the board plays."""
        return self.coded.program

    @property
    def n_samples(self) -> int:
        """Pictures that it makes."""
        return self.recipe.samples

    @property
    def d(self) -> int:
        """Pixels of a picture."""
        return len(self.program.visible)

    @property
    def settles(self) -> int:
        """Reads: at the end of each segment, or of the program."""
        return self.program.segments if self.recipe.reads == "segments" else 1

    @property
    def word(self) -> str:
        """What is reported: every segment, or the whole program."""
        return f"{KIND_OF[self.recipe.reads]}s"

    @property
    def n_classes(self) -> int:
        """A generator is not told a class."""
        return 0

    @property
    def class_names(self) -> Sequence[str]:
        """None: see `n_classes`."""
        return ()

    @property
    def card(self) -> dict[str, Any]:
        """The generator's card."""
        return dict(self.coded.card.model_dump(mode="json"))

    def ready(self, rig: Rig) -> Self:
        """Load it; of a scan, where each is loaded in its turn, check it. Raises what no board can hold."""
        if self.row is None:
            self._load(rig)
        else:
            self._set_up(rig)
            self.coercions(rig)
        return self

    def _set_up(self, rig: Rig) -> None:
        """What the recipe asks of a twin."""
        if rig.world is not None:
            rig.set_noise_scale(self.recipe.noise_scale)
            rig.draw_board(self.recipe.board)
            rig.scale_faults(MISMATCHED, self.recipe.mismatch)

    def _load(self, rig: Rig) -> OscillatorEngine:
        self._set_up(rig)
        rig.oscillators.load(self.program, beyond_averaging=self.recipe.beyond_averaging)
        return rig.oscillators

    def expected_us(self, rig: Rig) -> float:
        """Modelled evolution and set-up; the cable is not in it."""
        spec = rig.oscillators.spec
        each = spec.setup_us + float(self.program.duration.sum()) * spec.unit_us
        return self.n_samples * (each + self.settles * spec.read_us)

    def coercions(self, rig: Rig) -> tuple[Coercion, ...]:
        """What the board's converters apply differently; raises what it cannot hold."""
        spec, beyond = rig.oscillators.spec, self.recipe.beyond_averaging
        return (*self.coded.coercions, *board_image(self.program, spec, beyond_averaging=beyond)[1])

    def panel(self, rig: Rig) -> PanelPlan:
        """Its place in the file."""
        side, real, labels = self.coded.card.side, *real_pictures(self.coded.card)
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
            controls=_beside(self.controls),
            settings={**scalars_of(self.recipe), **({NOTE: self.coded.note} if self.coded.note else {})},
        )

    def run(self, rig: Rig, log: PanelWriter, watcher: Watcher) -> PanelResult:
        """Release the whole batch, read, write every read down as a step.

        The recipe's seed goes to a twin with the samples' numbers; a real board draws for itself.
        """
        engine = self._load(rig)
        result = engine.run(
            np.arange(self.n_samples), step_id=self.recipe.seed, read_at=engine.ends[-self.settles :].tolist()
        )
        reports: list[SettleReport] = []
        pixels = np.empty(0)
        shown = []
        for k, share in enumerate(_shares(result)):
            since = time.perf_counter()
            pixels = engine.pixels(result, k)
            shown.append(self._pictures(pixels[:SHOWN]))
            with uninterrupted():
                log.step(
                    StepRecord(
                        sigma=float("nan"),
                        sigma_next=float("nan"),
                        kind=KIND_OF[self.recipe.reads],
                        x=pixels,
                        state=result.phases[:, k],
                        outcome=result.outcome,
                        ledger=StepLedger(
                            modelled=DeviceTime(
                                upload_us=share.upload_us, wait_us=share.wait_us, read_us=share.read_us
                            ),
                            engine_s=share.host_s,
                            sampling_s=time.perf_counter() - since,
                            nfe=0,
                        ),
                        coercions=(*self.coded.coercions, *result.coercions) if k == 0 else (),
                    )
                )
            reports.append(self._report(k, result, share))
            watcher.settled(reports[-1])
        made = self._pictures(pixels)
        metrics = self._metrics(engine, result, made)
        with uninterrupted():
            log.finish(pixels, metrics, pictures=made, step_pictures=np.stack(shown))
        return PanelResult(self.name, pixels, metrics, tuple(reports), made)

    def _pictures(self, pixels: FloatArray) -> NDArray[np.uint8]:
        side = self.coded.card.side
        return as_bytes(pixels).reshape(-1, side, side)

    def _report(self, k: int, result: OscillatorResult, share: Ledger) -> SettleReport:
        counts = np.bincount(result.outcome, minlength=len(Outcome))
        return SettleReport(
            panel=self.name,
            index=k,
            of=self.settles,
            kind=KIND_OF[self.recipe.reads],
            sigma=float("nan"),
            samples=len(result.outcome),
            outcomes={Outcome(i).name: int(c) for i, c in enumerate(counts) if c},
            settle_p95_us=float("nan"),
            unsettled_share=float("nan"),
            device_us=share.device_us,
            host_s=share.host_s,
        )

    def _metrics(
        self, engine: OscillatorEngine, result: OscillatorResult, made: NDArray[np.uint8]
    ) -> dict[str, Scalar]:
        scores = self.judge.reference.measure(self.judge.classifier.features(made))
        out: dict[str, Scalar] = {
            "device_time_per_sample_us": result.ledger.device_us / len(made),
            "locked_share": float((result.outcome == Outcome.TIME_ELAPSED).mean()),
        }
        if np.isfinite(scores.frechet_star):
            out["frechet_star"] = scores.frechet_star
        return out | {"density": scores.density, "coverage": scores.coverage, **self._energy(engine)}

    def _energy(self, engine: OscillatorEngine) -> dict[str, Scalar]:
        return image_energy(
            self.program, engine.spec, duration=float(self.program.duration.sum()), reads=self.settles,
            batch=self.n_samples,
        )  # fmt: skip


def generations_of(protocol: Protocol, recipe: GenerateRecipe, rig: Rig) -> list[Generation]:
    """What a recipe runs on a board, one part for each value of a scan. Raises UserErrors; nothing has been
    loaded yet.
    """
    check_law(protocol.name, recipe, rig)
    if isinstance(recipe, GenerateScanRecipe):
        return [
            replace(
                _generation(part.recipe, rig),
                name=part.name,
                title=part.title,
                row=part.row,
                series=part.series,
            )
            for part in scan_parts(recipe, GenerateRecipe)
        ]
    made = _generation(recipe, rig)
    return [replace(made, controls=controls_beside(made.coded.card))]


def _generation(recipe: GenerateRecipe, rig: Rig) -> Generation:
    check_simulated(recipe, rig)
    coded = coded_generator(recipe)
    spec = rig.oscillators.spec
    check_wiring(recipe.model, coded.program, rig)
    if coded.program.bits > spec.coupling_bits:
        raise ProgramError(
            f"bits is {coded.program.bits}, but the cells of rig {rig.name} have {spec.coupling_bits}; "
            f"allowed: 1 to {spec.coupling_bits}, or a rig of finer cells (oscillator-fine)"
        )
    return Generation("", recipe.title, recipe, coded, judge_of(coded.card))


def _beside(controls: ControlSet | None) -> tuple[ControlRecord, ...]:
    if controls is None:
        return ()
    return tuple(
        ControlRecord(
            name=one.name,
            what=one.what,
            figures={
                "frechet_star": one.frechet_star,
                "density": one.density,
                "coverage": one.coverage,
                "judged_pictures": controls.card.judged_pictures,
            },
            pictures=controls.pictures[one.name],
        )
        for one in controls.card.controls
    )


def _shares(result: OscillatorResult) -> list[Ledger]:
    """What each of the reads costs: evolution by duration, the load in the first, reads alike."""
    whole, reads = result.ledger, len(result.read_at)
    parts = np.diff(result.read_at, prepend=0.0) / result.read_at[-1]
    return [
        Ledger(
            upload_us=whole.upload_us if k == 0 else 0.0,
            wait_us=whole.wait_us * float(part),
            read_us=whole.read_us / reads,
            host_s=whole.host_s / reads,
            settles=whole.settles if k == reads - 1 else 0,
        )
        for k, part in enumerate(parts)
    ]
