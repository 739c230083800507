"""A generator on an oscillator board as a part of a run: its phases, its pictures, what stands beside."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from labctl.devices import Coercion, ProgramError
from labctl.engines import Ledger, OscillatorEngine, OscillatorResult
from labctl.models.oscillators.control_set import ControlSet, controls_beside
from labctl.procedures.board_compensating import fitted_codes, require_one_board
from labctl.procedures.board_part import SHOWN, BoardPart, step_ledger
from labctl.procedures.board_program import check_wiring, judge_of
from labctl.procedures.coding import coded_generator
from labctl.procedures.interrupts import uninterrupted
from labctl.procedures.plan import check_law, check_simulated
from labctl.procedures.recipe import GenerateRecipe, GenerateScanRecipe, Protocol
from labctl.procedures.scanning import scan_parts
from labctl.procedures.watching import PanelResult, SettleReport, Watcher
from labctl.rig import Rig
from labctl.runlog import ControlRecord, PanelPlan, PanelWriter, StepRecord

MISMATCHED = ("detuning", "coupling_gain", "coupling_offset")  # terms of a twin that `mismatch` scales
NOTE = "note"  # the setting that says in words what a panel's program is
KIND_OF = {"segments": "segment", "end": "program"}  # what a read closes


@dataclass(frozen=True, eq=False, kw_only=True)
class Generation(BoardPart):
    """One program, run for a batch of samples at once.

    note: how its codes came about, "" as the card says; clipped: what that coerced. controls: what stands
    beside.
    """

    recipe: GenerateRecipe
    note: str = ""
    clipped: tuple[Coercion, ...] = ()
    controls: ControlSet | None = None
    at_once: bool = True

    @property
    def settles(self) -> int:
        """Reads: at the end of each segment, or of the program."""
        return self.program.segments if self.recipe.reads == "segments" else 1

    @property
    def kind(self) -> str:
        """What a read closes: a segment, or the whole program."""
        return KIND_OF[self.recipe.reads]

    @property
    def word(self) -> str:
        """What is reported."""
        return f"{self.kind}s"

    def ready(self, rig: Rig) -> Self:
        """Load it; of a scan, where each is loaded in its turn, check it. Raises what no board can hold."""
        if self.row is None:
            return super().ready(rig)
        require_one_board(self.recipe, rig, scanned=True)
        self.set_up(rig)
        self.coercions(rig)
        return self

    def set_up(self, rig: Rig) -> None:
        """What the recipe asks of a twin: its noise, which of the population, and how far off its cells."""
        super().set_up(rig)
        if rig.world is not None:
            rig.draw_board(self.recipe.board)
            rig.scale_faults(MISMATCHED, self.recipe.mismatch)

    def expected_us(self, rig: Rig) -> float:
        """Modelled evolution and set-up; the cable is not in it."""
        spec = rig.oscillators.spec
        each = spec.setup_us + self.duration * spec.unit_us
        return self.n_samples * (each + self.settles * spec.read_us)

    def load(self, rig: Rig) -> OscillatorEngine:
        """Set the twin up and write the program into the board, in its own codes where it was measured."""
        require_one_board(self.recipe, rig, scanned=self.row is not None)
        self.set_up(rig)
        beyond = self.recipe.beyond_averaging
        fitted = fitted_codes(self.program, rig, beyond_averaging=beyond)
        rig.oscillators.load(self.program, beyond_averaging=beyond, fitted=fitted)
        return rig.oscillators

    def coercions(self, rig: Rig) -> tuple[Coercion, ...]:
        """What coding clipped, and what the board's converters apply differently."""
        fitted = fitted_codes(self.program, rig, beyond_averaging=self.recipe.beyond_averaging)
        return (*self.clipped, *(super().coercions(rig) if fitted is None else fitted.coercions))

    def panel(self, rig: Rig) -> PanelPlan:
        """Its place in the file, with what stands beside."""
        plan = super().panel(rig)
        note = {NOTE: self.note} if self.note else {}
        return replace(plan, controls=_beside(self.controls), settings={**plan.settings, **note})

    def run(self, rig: Rig, log: PanelWriter, watcher: Watcher) -> PanelResult:
        """Release the whole batch, read, write every read down as a step.

        The recipe's seed goes to a twin with the samples' numbers; a real board draws for itself.
        """
        engine = self.load(rig)
        result = engine.run(
            np.arange(self.n_samples), step_id=self.recipe.seed, read_at=engine.ends[-self.settles :].tolist()
        )
        reports: list[SettleReport] = []
        pixels = np.empty(0)
        shown = []
        for k, share in enumerate(_shares(result)):
            since = time.perf_counter()
            pixels = engine.pixels(result, k)
            shown.append(self.pictures(pixels[:SHOWN]))
            with uninterrupted():
                log.step(
                    StepRecord(
                        sigma=float("nan"),
                        sigma_next=float("nan"),
                        kind=self.kind,
                        x=pixels,
                        state=result.phases[:, k],
                        outcome=result.outcome,
                        ledger=step_ledger(share, sampling_s=time.perf_counter() - since, nfe=0),
                        coercions=(*self.clipped, *result.coercions) if k == 0 else (),
                    )
                )
            reports.append(self.report(k, self.kind, float("nan"), result.outcome, share))
            watcher.settled(reports[-1])
        made = self.pictures(pixels)
        metrics = {**self.of_runs([result]), **self.scores(made), **self.energy(rig)}
        with uninterrupted():
            log.finish(pixels, metrics, pictures=made, step_pictures=np.stack(shown))
        return PanelResult(self.name, pixels, metrics, tuple(reports), made)


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
    return [replace(made, controls=controls_beside(made.model))]


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
    return Generation(
        title=recipe.title,
        recipe=recipe,
        model=coded.card,
        program=coded.program,
        judge=judge_of(coded.card),
        note=coded.note,
        clipped=coded.coercions,
    )


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
                "trained_as": controls.card.generator.name,
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
