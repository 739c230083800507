"""A diffusion chain of equilibria on an oscillator board as a part of a run: level by level, its pictures."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from labctl.devices import ProgramError, Scalar
from labctl.engines import OscillatorEngine, OscillatorResult
from labctl.models.checkpoint import shipped_cards
from labctl.models.oscillators.board_law import edges_of, law_of
from labctl.models.oscillators.chain_checkpoint import CHAIN_KIND, LoadedChain, load_chain
from labctl.models.oscillators.diffuser import Diffuser, HostSettler, chain_program_of, signed, unsigned
from labctl.physics.oscillators import OscillatorLaw, Rest, rest_of
from labctl.procedures.board_part import SHOWN, BoardPart, step_ledger
from labctl.procedures.board_program import check_bits, check_known, check_wiring, data_of, judge_of
from labctl.procedures.interrupts import uninterrupted
from labctl.procedures.plan import check_law, check_simulated
from labctl.procedures.recipe import DiffuseRecipe, Protocol
from labctl.procedures.watching import PanelResult, Watcher
from labctl.rig import Rig
from labctl.runlog import PanelPlan, PanelWriter, StepRecord
from labctl.sampling import AnchoredChain, EquilibriumMachine, RestSeen, Sampler, StepSeen, scheme
from labctl.sampling.gaussian import WienerMachine

FloatArray = NDArray[np.float64]
SETTLE = "equilibrium"  # the kind of each step
_CHUNK = 1000  # samples whose Hessians are looked at together


@dataclass(frozen=True, eq=False, kw_only=True)
class Diffusion(BoardPart):
    """One chain, run level by level for a batch of samples."""

    recipe: DiffuseRecipe
    diffuser: Diffuser

    @property
    def chain(self) -> AnchoredChain:
        """Levels and anchors."""
        return self.diffuser.chain

    @property
    def settles(self) -> int:
        """Equilibria of a sample."""
        return self.chain.levels

    @property
    def word(self) -> str:
        """What is reported."""
        return "settles"

    @cached_property
    def duration(self) -> float:
        """Evolution of a sample through all levels, units."""
        return float(self.program.duration[self.chain.segments].sum())

    def expected_us(self, rig: Rig) -> float:
        """Modelled evolution, set-ups and reads; the cable is not in it."""
        spec = rig.oscillators.spec
        each = self.settles * (spec.setup_us + spec.read_us) + self.duration * spec.unit_us
        return self.n_samples * each

    def panel(self, rig: Rig) -> PanelPlan:
        """Its place in the file: samples are pixels, x is what anchors hold."""
        return replace(
            super().panel(rig),
            x_start=self._start(),
            own_mean=[0.5] * self.d,
            own_std=[0.5] * self.d,
            anchored=True,
        )

    def _start(self) -> FloatArray:
        return self.chain.start(np.arange(self.n_samples), seed=self.recipe.seed)

    def run(self, rig: Rig, log: PanelWriter, watcher: Watcher) -> PanelResult:
        """Settle, read and anchor anew, level after level; every level is a step of the file.

        The recipe's seed draws the starts on the host; a twin's own draws are numbered by sample and level.
        """
        ids = np.arange(self.n_samples)
        board = _Board(self.load(rig), ids)
        rests: list[RestSeen] = []
        machine = EquilibriumMachine(self.chain, board, seen=rests.append)
        law, reports, shown = law_of(self.program), [], []
        held: list[Rest] = []
        since = time.perf_counter()

        def keep(step: StepSeen) -> None:
            nonlocal since
            result, seen = board.results[-1], rests[-1]
            rest = self._rest(law, seen)
            held.append(rest)
            with uninterrupted():
                log.step(self._record(step, result, rest, time.perf_counter() - since))
            shown.append(self.pictures(unsigned(step.denoised[:SHOWN])))
            reports.append(self.report(step.step, SETTLE, step.sigma, result.outcome, result.ledger))
            watcher.settled(reports[-1])
            since = time.perf_counter()

        x = self.chain.sampler().run(
            machine, self._start(), sample_id=ids, seed=self.recipe.seed, observe=keep
        )
        pixels = unsigned(x)
        made = self.pictures(pixels)
        metrics = self._metrics(rig, made, board.results, held)
        with uninterrupted():
            log.finish(pixels, metrics, pictures=made, step_pictures=np.stack(shown))
        return PanelResult(self.name, pixels, metrics, tuple(reports), made)

    def _rest(self, law: OscillatorLaw, seen: RestSeen) -> Rest:
        """What the law that was asked for says of the phases as read; a board's own law may differ."""
        edges, segment = edges_of(self.program.topology), int(self.chain.segments[seen.level])
        parts = []
        for first in range(0, len(seen.phases), _CHUNK):
            phases, a, b = (
                torch.as_tensor(table[first : first + _CHUNK].astype(np.float32))
                for table in (seen.phases, *seen.anchors)
            )
            parts.append(rest_of(edges, law, segment, phases, (a, b)))
        return Rest(
            *(torch.cat([getattr(part, name) for part in parts]) for name in Rest.__dataclass_fields__)
        )

    def _record(self, step: StepSeen, result: OscillatorResult, rest: Rest, elapsed_s: float) -> StepRecord:
        ledger = result.ledger
        return StepRecord(
            sigma=step.sigma,
            sigma_next=step.sigma_next,
            kind=SETTLE,
            x=step.x,
            state=result.phases[:, -1],
            outcome=result.outcome,
            residual_norm=rest.residual.numpy(),
            locking_load=rest.load.numpy(),
            locking_distance_rad=rest.distance_rad.numpy(),
            slowest_rate=rest.slowest.numpy(),
            ledger=step_ledger(ledger, sampling_s=max(elapsed_s - ledger.host_s, 0.0), nfe=1),
            coercions=result.coercions if step.step == 0 else (),
        )

    def _metrics(
        self, rig: Rig, made: NDArray[np.uint8], results: list[OscillatorResult], held: list[Rest]
    ) -> dict[str, Scalar]:
        out: dict[str, Scalar] = {
            **self.of_runs(results),
            "rest_residual_p95": max(float(np.quantile(rest.residual, 0.95)) for rest in held),
            "locking_load": max(float(rest.load.max()) for rest in held),
            "slowest_rate": min(float(rest.slowest.min()) for rest in held),
            **self.scores(made),
        }
        if self.recipe.controls:
            for name, x in self._controls().items():
                found = self.scores(self.pictures(unsigned(x)))
                if "frechet_star" in found:
                    out[f"frechet_star_{name}"] = found["frechet_star"]
        return out | self.energy(rig, anchor_writes=self.settles)

    def _controls(self) -> dict[str, FloatArray]:
        """x [B, d] of the same starts: by a linear denoiser on the same levels, explicit and implicit, where
        the set is at hand; and by the anchors and injections alone, on the host.
        """
        ids, start, sampler = np.arange(self.n_samples), self._start(), self.chain.sampler()
        data, out = data_of(self.model), {}
        if data is not None:
            wiener = WienerMachine.of(signed(data.train_pictures))
            explicit = Sampler(scheme("ddim"), sampler.sigmas)
            for name, how in (("wiener", explicit), ("wiener_implicit", sampler)):
                out[name] = how.run(wiener, start, sample_id=ids, seed=self.recipe.seed)
        alone = self.diffuser.uncoupled()
        settler = HostSettler(edges_of(alone.topology), alone.law, alone.shape.duration, alone.shape.steps)
        out["uncoupled"] = sampler.run(
            EquilibriumMachine(self.chain, settler), start, sample_id=ids, seed=self.recipe.seed
        )
        return out


@dataclass(eq=False)
class _Board:
    """A board that lets one queue of samples come to rest, level by level; remembers what came back."""

    engine: OscillatorEngine
    sample_id: NDArray[np.int64]
    results: list[OscillatorResult] = field(default_factory=list)

    def rest(
        self, level: int, segment: int, start: FloatArray, anchors: tuple[FloatArray, FloatArray]
    ) -> FloatArray:
        """Phases [B, n] as read at the segment's end."""
        result = self.engine.run(
            self.sample_id, step_id=level, segments=[segment], anchors=anchors, start_rad=start
        )
        self.results.append(result)
        return result.phases[:, -1]


def diffusions_of(protocol: Protocol, recipe: DiffuseRecipe, rig: Rig) -> list[Diffusion]:
    """What a recipe runs on a board. Raises UserErrors; nothing has been loaded yet."""
    check_law(protocol.name, recipe, rig)
    check_simulated(recipe, rig)
    loaded = _loaded(recipe)
    program, spec = chain_program_of(loaded.diffuser), rig.oscillators.spec
    check_wiring(recipe.model, program, rig)
    if program.segments > spec.depth:
        raise ProgramError(
            f"{recipe.model} has {program.segments} levels with parameters of their own; rig {rig.name} "
            f"holds {spec.depth} segments; allowed: a chain of so many, or one of shared parameters"
        )
    judge = judge_of(loaded.card)
    if not recipe.couplings:
        codes = replace(program.coupling, codes=np.zeros_like(program.coupling.codes))
        program = replace(program, coupling=codes)
    return [
        Diffusion(
            title=recipe.title,
            recipe=recipe,
            model=loaded.card,
            program=program,
            judge=judge,
            diffuser=loaded.diffuser,
        )
    ]


def _loaded(recipe: DiffuseRecipe) -> LoadedChain:
    zoo = shipped_cards(CHAIN_KIND)
    coded = f"{recipe.model}-{recipe.bits}bit"
    name = coded if coded in zoo else recipe.model
    check_known(name, zoo, "chain")
    loaded = load_chain(name)
    check_bits(loaded.card, recipe.bits)
    return loaded
