"""A plan: every chain of a run, compiled and checked before anything is shown or written."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING

import numpy as np
from labctl_calibration.kept_maps import KeptMaps
from numpy.typing import NDArray

from labctl.devices import Coercion, ConfigError, ProgramError, Scalar
from labctl.engines import Batch, DigitalEngine, OpticalHostLoopEngine, OpticalLoopEngine, SecondStarts
from labctl.models.datasets import ToySet
from labctl.procedures.drawn import check_inception
from labctl.procedures.ledger_recipe import LedgerRecipe
from labctl.procedures.models_of import Subject, Tell, subject_of
from labctl.procedures.recipe import (
    DiffuseRecipe,
    GenerateRecipe,
    LoopRecipe,
    MachineRecipe,
    Protocol,
    SampleRecipe,
    ScanRecipe,
    TourRecipe,
    load_protocol,
)
from labctl.procedures.scanning import scan_parts
from labctl.programs import CodedTables, LoopProgram, encode_tables
from labctl.rig import Rig
from labctl.sampling import (
    Ask,
    HostMachine,
    LoopMachine,
    LoopNetwork,
    Observer,
    Sampler,
    SettleSeen,
    asks_of,
    compile_program,
    parts_of,
    run_chain,
    scheme,
    sigmas,
    start_noise,
)

if TYPE_CHECKING:
    from labctl.models.picture_sets import PictureSet

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
NOISE_MARGIN = 2.0  # sigma_min must be at least so many times the measured state noise
NOISE_POINTS, NOISE_REPEATS = 16, 16
FEW_REPEATS = 4  # where every iterate is an exposure
TRANSIENT_POINTS = 128  # enough for a 95th percentile that a sample on a ridge between modes cannot set


@dataclass(frozen=True, eq=False)
class Chain:
    """One panel of a run, ready to go. `name` is its panel; `row` and `series` its place in a scan.

    order: the channel of every row, maps: what is known of its frame, where the bench was brought up and the
    network adapted to it. forecast: of its quality, for the run file.
    """

    name: str
    title: str
    recipe: SampleRecipe
    subject: Subject
    sampler: Sampler
    program: LoopProgram
    tables: tuple[CodedTables, ...] | None
    x_start: FloatArray
    labels: IntArray | None
    sample_id: IntArray
    reference: FloatArray | None
    pictures: PictureSet | None
    row: float | None = None
    series: str = ""
    order: IntArray | None = None
    maps: KeptMaps | None = None
    forecast: Mapping[str, Scalar] = field(default_factory=dict)

    @property
    def toy(self) -> ToySet | None:
        """The shipped two-dimensional set, where the network is of one."""
        return self.subject.source if isinstance(self.subject.source, ToySet) else None

    @cached_property
    def step_of_settle(self) -> tuple[int, ...]:
        """For each settle of the chain, the sampler step it belongs to (the final denoise is step N)."""
        ending = 1 if self.sampler.ending == "denoise" else 0
        per_step, extra = divmod(len(asks_of(self.sampler)) - ending, self.sampler.steps)
        each = [extra + per_step, *[per_step] * (self.sampler.steps - 1), ending]  # extra: a first slope
        steps = [step for step, count in enumerate(each) for _ in range(count)]
        return tuple(steps[ask] for ask in self._ask_of_settle)

    @cached_property
    def _ask_of_settle(self) -> tuple[int, ...]:
        """For each settle, which of the sampler's asks it serves: one alone, but for machines in sequence."""
        closed = itertools.accumulate((s.last for s in self.program.segments), initial=0)
        return tuple(closed)[:-1]

    def ask(self, settle: int) -> Ask:
        """What the sampler asked that this settle serves."""
        return asks_of(self.sampler)[self._ask_of_settle[settle]]

    def part(self, settle: int) -> LoopNetwork:
        """The network on the matrix of this settle: the whole one, or its part for machines in sequence."""
        parts = parts_of(self.subject.network, self.program.placement.n_channels)
        return parts[self.program.segments[settle].matrix]

    @cached_property
    def shown(self) -> IntArray:
        """The first sample of every class: whose pictures are kept for each step."""
        if self.labels is None:
            return self.sample_id[:1]
        return np.unique(self.labels, return_index=True)[1].astype(np.int64)

    @property
    def coercions(self) -> tuple[Coercion, ...]:
        """What the machine's gain tables cannot hold exactly enough to pass in silence."""
        return () if self.tables is None else tuple(c for t in self.tables for c in t.coercions)

    def step_us(self, rig: Rig) -> float:
        """Modelled device time of one settle of one sample."""
        return rig.settle_us(self.recipe.readout, self.recipe.exposure_us)

    def device_us(self, rig: Rig) -> float:
        """Modelled device time of the whole chain and batch: settles, and frames shown; 0 on the host."""
        settles = self.step_us(rig) * len(self.program.segments) * self.recipe.samples
        return settles + self.program.frames * rig.frame_us


def chains_of(protocol: Protocol, rig: Rig, tell: Tell, *, dry: bool = False) -> list[Chain]:
    """Compile every chain of a protocol for a rig. Raises UserErrors; nothing has been shown yet.

    With `dry`, networks that the run would train or re-fit are only begun: of the right shape, not good.
    """
    _check_kind(protocol.name, _of_chains(protocol), rig)
    subjects: dict[str, Subject] = {}
    chains = []
    for job in _jobs(protocol):
        recipe = job.recipe
        _check_kind(job.name or protocol.name, recipe, rig)
        key = recipe.model_dump_json(
            include={"model", "data", "bits", "weight_scale", "train_iterations", "seed"}
        )
        if key not in subjects:
            subjects[key] = subject_of(recipe, tell, dry=dry)
        chains.append(_chain(job, subjects[key], rig))
    return chains


@dataclass(frozen=True)
class _Job:
    """A chain to be: its panel's name and title, its recipe, its place in a scan."""

    name: str
    title: str
    recipe: SampleRecipe
    row: float | None = None
    series: str = ""


def _jobs(protocol: Protocol) -> list[_Job]:
    recipe = _of_chains(protocol)
    if isinstance(recipe, TourRecipe):
        jobs = []
        for name in recipe.recipes:
            part = load_protocol(name, {"seed": recipe.seed, **recipe.overrides}).recipe
            if not isinstance(part, SampleRecipe) or isinstance(part, ScanRecipe):
                raise ConfigError(f"recipe {protocol.name}: recipes: {name!r} is no sampling recipe")
            jobs.append(_Job(name.removeprefix("sample_"), part.title, part))
        return jobs
    if isinstance(recipe, ScanRecipe):
        return [
            _Job(part.name, part.title, part.recipe, part.row, part.series)
            for part in scan_parts(recipe, SampleRecipe)
        ]
    return [_Job("", recipe.title, recipe)]


def _of_chains(protocol: Protocol) -> LoopRecipe:
    recipe = protocol.recipe
    if isinstance(recipe, LedgerRecipe):
        raise ConfigError(
            f"recipe {protocol.name} is a ledger, which runs on no rig; "
            "allowed: labctl.procedures.ledger(protocol), or labctl run without --rig"
        )
    if isinstance(recipe, GenerateRecipe | DiffuseRecipe):
        raise ConfigError(f"recipe {protocol.name} has no chains; allowed: a program on an oscillator board")
    return recipe


def check_law(name: str, recipe: MachineRecipe, rig: Rig) -> None:
    """ConfigError where a recipe and a rig are of different laws."""
    if recipe.law != rig.config.law:
        raise ConfigError(
            f"recipe {name} needs a rig of law {recipe.law!r}; rig {rig.name} is of law {rig.config.law!r}"
        )


def check_simulated(recipe: SampleRecipe | GenerateRecipe | DiffuseRecipe, rig: Rig) -> None:
    """ConfigError where a recipe scales or chooses what no twin makes."""
    if rig.config.world is not None:
        return
    for key, own in (("noise_scale", 1), ("mismatch", 1), ("board", 0)):
        if getattr(recipe, key, own) != own:
            raise ConfigError(
                f"{key} is {getattr(recipe, key)}; rig {rig.name} allows {own} only: it is not simulated"
            )


def _check_kind(name: str, recipe: LoopRecipe, rig: Rig) -> None:
    check_law(name, recipe, rig)
    if rig.config.engine not in recipe.engines:
        raise ConfigError(
            f"recipe {name} needs an engine of kind {' or '.join(recipe.engines)}; "
            f"rig {rig.name} is {rig.config.engine}"
        )


def _check_stepping(recipe: SampleRecipe, rig: Rig) -> None:
    spec = rig.loop_spec
    if recipe.stepping == "chain":
        if spec is None or spec.chain is None:
            raise ConfigError(f"stepping is 'chain', but rig {rig.name} has no sequencer; allowed: 'host'")
        if recipe.steps > spec.chain.depth:
            raise ConfigError(
                f"steps is {recipe.steps}, but the sequencer of rig {rig.name} holds {spec.chain.depth} "
                f"settles; allowed with stepping 'chain': 1 to {spec.chain.depth}"
            )
    if recipe.noise_credit and spec is None:
        raise ConfigError(f"noise_credit is true, but rig {rig.name} has no loop to measure; allowed: false")
    if recipe.second_starts and spec is None:
        raise ConfigError(
            f"second_starts is {recipe.second_starts}, but rig {rig.name} settles nothing; allowed: 0"
        )


def _check_matrices(recipe: SampleRecipe, matrices: int) -> None:
    """What needs one frame on display from first to last refuses machines in sequence."""
    refusals = (("stepping", "chain", "host"), ("readout", "camera", "adc"), ("noise_credit", True, False))
    for key, refused, allowed in refusals:
        if matrices > 1 and getattr(recipe, key) == refused:
            raise ConfigError(
                f"{key} is {refused!r}, but {recipe.model or recipe.data} is {matrices} machines in "
                f"sequence: the frame changes; allowed: {allowed!r}"
            )


def _chain(job: _Job, subject: Subject, rig: Rig) -> Chain:
    recipe, network = job.recipe, subject.network
    levels = sigmas(recipe.schedule, recipe.steps, recipe.sigma_max, recipe.sigma_min)
    sampler = Sampler(scheme(recipe.scheme), levels, recipe.eta, recipe.ends_with)
    spec = rig.loop_spec
    _check_stepping(recipe, rig)
    try:
        program = compile_program(
            network, sampler, rig.config.n_channels, tolerance=recipe.tolerance, sweeps=recipe.sweeps
        )
        tables = (
            None
            if spec is None
            else tuple(encode_tables(s, program.matrix_of(s), spec) for s in program.segments)
        )
    except ProgramError as error:
        raise ProgramError(f"{recipe.model or recipe.data}: {error}") from None
    _check_matrices(recipe, len(program.matrices))
    d = network.sizes[0]
    pictures = _pictures(subject)
    check_inception(recipe, pictures)
    sample_id = np.arange(recipe.samples)
    labels = sample_id * network.n_classes // recipe.samples if network.n_classes else None
    check_simulated(recipe, rig)
    rig.check_readout(recipe.readout, recipe.exposure_us)
    reference = None
    if subject.source is not None:
        rng = np.random.Generator(np.random.Philox(key=recipe.seed + 7919))
        reference = subject.source.draw(recipe.reference, rng)[0]
    return Chain(
        name=job.name,
        title=job.title,
        recipe=recipe,
        subject=subject,
        sampler=sampler,
        program=program,
        tables=tables,
        x_start=start_noise(sample_id, d, seed=recipe.seed, sigma_max=recipe.sigma_max),
        labels=labels,
        sample_id=sample_id,
        reference=reference,
        pictures=pictures,
        row=job.row,
        series=job.series,
    )


def _pictures(subject: Subject) -> PictureSet | None:
    notes = subject.card.get("notes")
    if not (isinstance(notes, dict) and "autoencoder" in notes):
        return None
    from labctl.models.picture_sets import picture_set_of  # decoders that no other recipe needs

    return picture_set_of(notes)


def check_state_noise(chain: Chain, rig: Rig) -> float:
    """Load the chain's matrix and measure the state noise; returns it in x units.

    0 where there is none to measure: on the host, or without an implicit settle.
    It is the standard deviation of x' after window and extrapolation, over repeats at typical points of the
    last settle; the largest of the d axes. Raises ConfigError where sigma_min is below twice that: the chain
    would end inside the noise.
    """
    engine = rig.engine
    if isinstance(engine, DigitalEngine):
        return 0.0
    if rig.world is not None:
        rig.set_noise_scale(chain.recipe.noise_scale)
    rig.set_readout(chain.recipe.readout, chain.recipe.exposure_us)
    loop = engine if isinstance(engine, OpticalLoopEngine) else None
    if loop is not None and chain.order is not None:
        loop.use_order(chain.order)
    engine.load(chain.program)
    implicit = [i for i, s in enumerate(chain.program.segments) if s.kind == "implicit"]
    if not implicit:
        return 0.0
    if loop is not None and loop.camera is not None:
        for index in implicit:
            batch = _typical(chain, index, TRANSIENT_POINTS)
            _, left = loop.settling(chain.program.segments[index], _preset(chain, index, batch))
            loop.camera.refuse_transient(left, loop.electronics.spec)
    segment, state = chain.program.segments[implicit[-1]], chain.program.placement.state
    repeats = FEW_REPEATS if loop is None else NOISE_REPEATS
    batch = _typical(chain, implicit[-1], NOISE_POINTS, repeats)
    z = engine.solve(segment, batch).z[:, state].reshape(NOISE_POINTS, repeats, -1)
    # the median point: one on a ridge between modes shows jumps, not noise
    spread = float(np.median(z.std(axis=1, ddof=1), axis=0).max()) / segment.inject_scale
    down, _ = chain.sampler.split(chain.sampler.steps - 1)
    rho = down / float(chain.sampler.sigmas[-2])
    amplified = spread * (1 + math.sqrt(rho) if chain.recipe.scheme == "implicit-midpoint" else 1.0)
    if chain.recipe.sigma_min < NOISE_MARGIN * amplified:
        where = f"{chain.name}: " if chain.name else ""
        raise ConfigError(
            f"{where}sigma_min is {chain.recipe.sigma_min:.4g}, but rig {rig.name} reads states with noise "
            f"{amplified:.4g}; allowed: {NOISE_MARGIN * amplified:.4g} or more, or noise_credit"
        )
    return amplified


def expected_us(chain: Chain, rig: Rig) -> float:
    """Modelled device time of a chain; where the host closes the loop, by the exposures that typical points
    of each settle are expected to take on the program as it was loaded.
    """
    engine = rig.engine
    if not isinstance(engine, OpticalHostLoopEngine):
        return chain.device_us(rig)
    each_us = 0.0
    for index, segment in enumerate(chain.program.segments):
        batch = _typical(chain, index, NOISE_POINTS)
        if segment.kind == "implicit":
            batch = _preset(chain, index, batch)
        each_us += engine.expected(segment, batch).duration_us / NOISE_POINTS
    return each_us * chain.recipe.samples + chain.program.frames * rig.frame_us


def _preset(chain: Chain, settle: int, batch: Batch) -> Batch:
    """The batch as a chain would start it: u at c_in x, where the injection is c = (1 - g) x (section 5)."""
    segment, ask = chain.program.segments[settle], chain.ask(settle)
    start = np.zeros_like(batch.start)
    start[:, chain.program.placement.state] = segment.inject_scale * batch.inject / (1 - ask.g)
    return replace(batch, start=start)


def _typical(chain: Chain, settle: int, points: int, repeats: int = 1) -> Batch:
    """Injections [points x repeats, d] whose root is a typical point of that settle, started there."""
    segment, ask = chain.program.segments[settle], chain.ask(settle)
    state = chain.program.placement.state
    labels = None if chain.labels is None else np.zeros(points, np.int64)
    host = HostMachine(chain.subject.network, labels=labels)
    first = chain.recipe.samples  # sample ids, and so draws, that no sample of the run uses
    drawn = start_noise(first + np.arange(points), state.stop - state.start, seed=0, sigma_max=ask.sigma)
    typical = host.denoise(drawn, ask.sigma)
    alone = HostMachine(chain.part(settle), labels=labels)  # the other parts stand in the injection
    injection = typical - ask.g * alone.denoise(typical, ask.sigma)
    start = np.zeros((points, chain.program.placement.n_channels))
    start[:, state] = segment.inject_scale * typical
    return Batch(
        np.repeat(injection, repeats, axis=0),
        np.repeat(start, repeats, axis=0),
        None if labels is None else np.repeat(labels, repeats),
        first + np.arange(points * repeats),
        settle,
    )


def run_sampler(chain: Chain, rig: Rig, seen: Callable[[SettleSeen], None], observe: Observer) -> FloatArray:
    """Samples [B, d] of a chain on its rig, stepped by the host or by the machine's own sequencer."""
    recipe, engine = chain.recipe, rig.engine
    if not isinstance(engine, OpticalLoopEngine):
        machine = LoopMachine(
            engine, chain.subject.network, chain.program, labels=chain.labels, sample_id=chain.sample_id,
            seen=seen,
        )  # fmt: skip
        return chain.sampler.run(
            machine, chain.x_start, sample_id=chain.sample_id, seed=recipe.seed, observe=observe
        )
    machine = LoopMachine(
        SecondStarts(engine, recipe.second_starts) if recipe.second_starts else engine,
        chain.subject.network, chain.program, labels=chain.labels, sample_id=chain.sample_id,
        audit=recipe.audit, seen=seen,
    )  # fmt: skip
    run = chain.sampler.run if recipe.stepping == "host" else partial(run_chain, chain.sampler)
    return run(machine, chain.x_start, sample_id=chain.sample_id, seed=recipe.seed, observe=observe)
