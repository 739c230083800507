"""The energy ledger as a procedure: rows of machines and of this CPU, what claims would need, one file.

It runs on no rig: nothing in it is measured but the digital baseline's time, and what a run file brings.
So it writes a JSON document and not a run file: it has no samples and no steps.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from labctl.devices import ConfigError, RunLogError
from labctl.energy import (
    Account,
    Constants,
    Draws,
    Interval,
    OpticsWork,
    Posterior,
    Target,
    Value,
    claimed_machine,
    digital_account,
    interval,
    optics_account,
    oscillator_account,
    posterior,
    shipped_claims,
)
from labctl.energy.digital import DigitalWork
from labctl.procedures.baseline import (
    Measurement,
    denoiser_name,
    generator_name,
    measure_denoiser,
    measure_generator,
    processor,
)
from labctl.procedures.ledger_recipe import LedgerRecipe
from labctl.procedures.recipe import Protocol
from labctl.procedures.running import check_folder
from labctl.procedures.threads import one_thread
from labctl.runlog import PanelReader, RunReader, fresh_path, now_iso, software_versions

Say = Callable[[str], None]
SUFFIX = ".json"
FORMAT = 1


@dataclass(frozen=True, eq=False)
class LedgerRow:
    """One machine's image. kind: "oscillators", "optics" or "digital"; how: what was counted or run.

    account: items at the constants' own values. core_j, wall_j, latency_s: those totals with their intervals.
    """

    name: str
    kind: str
    how: str
    account: Account
    core_j: Interval
    wall_j: Interval
    latency_s: Interval


@dataclass(frozen=True)
class Ratio:
    """Digital energy over a machine's: core over core, wall over wall; share of the draws at 100 or more."""

    machine: str
    digital: str
    core: Interval
    wall: Interval
    core_share: float
    wall_share: float


@dataclass(frozen=True, eq=False)
class LedgerResult:
    """A ledger: its file and all that is in it."""

    file: Path
    title: str
    rows: tuple[LedgerRow, ...]
    ratios: tuple[Ratio, ...]
    posteriors: tuple[Posterior, ...]
    constants: Constants
    measured: tuple[Measurement, ...]
    processor: str
    draws: int


@dataclass(frozen=True)
class _Job:
    """A row to be: how its account follows from constants, and which digital job stands beside it."""

    name: str
    kind: str
    how: str
    of: Callable[[Mapping[str, Value]], Account]
    constants: Constants
    beside: str = ""
    size: int = 0


def ledger(protocol: Protocol, *, out: str | Path = "runs", say: Say | None = None) -> LedgerResult:
    """Make a ledger by its recipe and write it into the folder `out`. Raises UserError or RunLogError."""
    recipe = protocol.recipe
    if not isinstance(recipe, LedgerRecipe):
        raise ConfigError(f"recipe {protocol.name} is of kind {recipe.kind!r}; allowed here: ledger")
    say = say or _silent
    folder = Path(out)
    check_folder(folder)
    machines = _machines(recipe)
    with one_thread():
        measured = _measured(recipe, say)
    digital = _digital(recipe, measured)
    say("drawing the constants")
    cache: dict[int, Draws] = {}

    def draws_of(constants: Constants) -> Draws:
        key = id(constants)
        if key not in cache:
            cache[key] = constants.draws(recipe.draws, recipe.seed)
        return cache[key]

    rows = tuple(_row(job, draws_of(job.constants)) for job in (*machines, *digital))
    beside = {job.name: job for job in digital}
    pairs = [(job, beside[job.beside]) for job in machines if job.beside in beside]
    ratios = tuple(_ratio(job, other, draws_of(job.constants)) for job, other in pairs)
    say("holding the claims against the draws")
    posteriors = _posteriors(recipe, pairs, draws_of)
    result = LedgerResult(
        file=fresh_path(folder, protocol.name, SUFFIX),
        title=recipe.title,
        rows=rows,
        ratios=ratios,
        posteriors=posteriors,
        constants=recipe.constants_of({}),
        measured=measured,
        processor=processor(),
        draws=recipe.draws,
    )
    _write(result.file, document(result, protocol))
    return result


def _silent(what: str) -> None:
    """Tell nobody."""


def _machines(recipe: LedgerRecipe) -> list[_Job]:
    jobs = []
    shared = recipe.constants_of({})
    for row in recipe.oscillators:
        work = row.work(recipe.batch)
        jobs.append(
            _Job(
                row.name,
                "oscillators",
                f"{row.n} oscillators, {row.cells:,} directed cells of {row.bits} bits, {row.segments} "
                f"segments, {row.duration:g} units, {work.loaded:g} loads, batch {recipe.batch}",
                lambda values, work=work: oscillator_account(work, values),  # type: ignore[misc]
                recipe.constants_of(row.constants, row.name) if row.constants else shared,
                generator_name(row.parameters, row.visible) if recipe.digital else "",
                row.cells,
            )
        )
    chain = denoiser_name(recipe.denoisers[0]) if recipe.digital and recipe.denoisers else ""
    for lit in recipe.optics:
        own = recipe.constants_of(lit.constants, lit.name) if lit.constants else shared
        jobs.append(_optics(lit.name, lit.work(), own, chain, ""))
    if recipe.of:
        jobs += _of_file(recipe, shared)
    names = [job.name for job in jobs]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"of: row {name!r} stands in the recipe already; allowed: each name once")
    return jobs


def _optics(name: str, work: OpticsWork, constants: Constants, chain: str, clock: str) -> _Job:
    how = (
        f"{work.n} rows, {work.settles} settles of {work.step_s * 1e6:.1f} µs{clock}, "
        f"upload {work.upload_s * 1e3:.3g} ms a batch of {work.batch:,}"
    )
    return _Job(
        name, "optics", how, lambda values: optics_account(work, values), constants, chain, work.n
    )  # fmt: skip


def _of_file(recipe: LedgerRecipe, constants: Constants) -> list[_Job]:
    """A row a chain of a run file, with the file's own times; beside it its denoiser, if timed."""
    jobs = []
    with RunReader(recipe.of) as run:
        network = re.sub(r"-\d+bit$", "", str(run.header.network.get("name", "")))
        chain = denoiser_name(network) if recipe.digital and network in recipe.denoisers else ""
        for panel in run.panels.values():
            name = f"{run.path.stem}{', ' if panel.name else ''}{panel.name}"
            work, clock = work_of_panel(panel, f"of = {recipe.of!r}")
            jobs.append(_optics(name, work, constants, chain, f" ({clock})"))
    return jobs


def work_of_panel(panel: PanelReader, where: str) -> tuple[OpticsWork, str]:
    """What one image of a chain took, by the run's own ledger, and by whose clock: "measured" or "modelled".

    Raises ConfigError for a run that took no device time (one computed on the host), or that has no step yet.
    """
    if not panel.n_steps:
        raise ConfigError(f"{where}: no step of it is done; allowed: a run with steps")
    told, samples = panel.ledger, panel.n_samples
    for clock, total_us, parts in (
        ("measured", told.measured_total_us(), told.measured_us),
        ("modelled", told.modelled_total_us(), told.modelled_us),
    ):
        if math.isfinite(total_us) and total_us > 0:
            us = {part: float(np.nansum(values)) for part, values in parts.items()}
            work = OpticsWork(
                n=panel.n_channels,
                settles=panel.n_steps,
                step_s=(us["wait"] + us["window"]) * 1e-6 / samples / panel.n_steps,
                upload_s=us["upload"] * 1e-6,
                batch=samples,
                cable_s=us["read"] * 1e-6 / samples,
            )
            return work, clock
    raise ConfigError(f"{where}: it took no device time; allowed: a run of an optical rig or its twin")


def _measured(recipe: LedgerRecipe, say: Say) -> tuple[Measurement, ...]:
    if not recipe.digital:
        return ()
    found = []
    for parameters, visible in dict.fromkeys((row.parameters, row.visible) for row in recipe.oscillators):
        say(f"timing {generator_name(parameters, visible)}")
        found.append(measure_generator(parameters, visible, recipe.digital_batch))
    for network in recipe.denoisers:
        say(f"timing {denoiser_name(network)}")
        found.append(measure_denoiser(network, recipe.denoiser_steps, recipe.digital_batch))
    return tuple(found)


def _digital(recipe: LedgerRecipe, measured: tuple[Measurement, ...]) -> list[_Job]:
    constants = recipe.constants_of({})
    works = [(m.name, "this CPU: ", DigitalWork(m.what, m.cpu_s)) for m in measured]
    works += [(row.name, "measured elsewhere: ", row.work()) for row in recipe.measured]
    return [
        _Job(
            name,
            "digital",
            where + work.what,
            lambda values, work=work: digital_account(work, values),  # type: ignore[misc]
            constants,
        )
        for name, where, work in works
    ]


def _row(job: _Job, draws: Draws) -> LedgerRow:
    own, drawn = job.of(job.constants.values()), job.of(draws.values)
    return LedgerRow(
        job.name,
        job.kind,
        job.how,
        own,
        interval(own.core_total_j, drawn.core_total_j),
        interval(own.wall_total_j, drawn.wall_total_j),
        interval(own.latency_total_s, drawn.latency_total_s),
    )


def _core_ratio(job: _Job, other: _Job) -> Callable[[Mapping[str, Value]], Value]:
    return lambda values: other.of(values).core_total_j / job.of(values).core_total_j


def _wall_ratio(job: _Job, other: _Job) -> Callable[[Mapping[str, Value]], Value]:
    return lambda values: other.of(values).wall_total_j / job.of(values).wall_total_j


def _ratio(job: _Job, other: _Job, draws: Draws) -> Ratio:
    own, wanted = job.constants.values(), shipped_claims()["ais_ratio"].low
    found = []
    for of in (_core_ratio(job, other), _wall_ratio(job, other)):
        drawn = of(draws.values)
        found.append((interval(of(own), drawn), float(np.mean(np.atleast_1d(drawn) >= wanted))))
    (core, core_share), (wall, wall_share) = found
    return Ratio(job.name, other.name, core, wall, core_share, wall_share)


def _posteriors(
    recipe: LedgerRecipe, pairs: list[tuple[_Job, _Job]], draws_of: Callable[[Constants], Draws]
) -> tuple[Posterior, ...]:
    """23 uJ for the claimed machine; 100x for the largest row of each kind, core and wall plug."""
    claims, found = shipped_claims(), []
    if recipe.oscillators:
        image = claims["ais_image"]
        found.append(
            posterior(
                "23 µJ an image: core of the claimed machine",
                draws_of(recipe.constants_of({})),
                lambda values: oscillator_account(claimed_machine(values), values).core_total_j,
                Target(image.low, image.high, recipe.slack),
            )
        )
    for kind in ("oscillators", "optics"):
        of_kind = [pair for pair in pairs if pair[0].kind == kind]
        if not of_kind:
            continue
        job, other = max(of_kind, key=lambda pair: pair[0].size)
        target = Target(claims["ais_ratio" if kind == "oscillators" else "adm_ratio"].low)
        for what, of in (("core", _core_ratio), ("wall plug", _wall_ratio)):
            claim = f"100x, {what}: {job.name} against {other.name} on this CPU"
            found.append(posterior(claim, draws_of(job.constants), of(job, other), target))
    return tuple(found)


def document(result: LedgerResult, protocol: Protocol) -> dict[str, Any]:
    """All of a ledger as plain data: what was asked, every constant, every row."""
    return {
        "format": FORMAT,
        "kind": "labctl energy ledger",
        "made": now_iso(),
        "protocol": {"name": protocol.name, **protocol.recipe.model_dump(mode="json")},
        "versions": software_versions(),
        "this_cpu": result.processor,
        "draws": result.draws,
        "rows": [
            {
                "name": row.name,
                "kind": row.kind,
                "counted": row.how,
                "core_j": {**asdict(row.core_j), "items": dict(row.account.core_j)},
                "wall_j": {**asdict(row.wall_j), "items": dict(row.account.wall_j)},
                "latency_s": {**asdict(row.latency_s), "items": dict(row.account.latency_s)},
            }
            for row in result.rows
        ],
        "ratios": [asdict(ratio) for ratio in result.ratios],
        "claims": {name: claim.model_dump() for name, claim in shipped_claims().items()},
        "posteriors": [_told(one) for one in result.posteriors],
        "measured": [asdict(one) for one in result.measured],
        "constants": {name: constant.model_dump() for name, constant in result.constants.table.items()},
    }


def _told(found: Posterior) -> dict[str, Any]:
    """A posterior as plain data; what cannot be told is None."""
    content = {**asdict(found), "prior_share": found.prior_share}
    for key in ("floor", "explained", "at_own", "lowest", "highest"):
        content[key] = content[key] if math.isfinite(content[key]) else None
    return content


def _write(path: Path, content: dict[str, Any]) -> None:
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False), encoding="utf-8")
        os.replace(part, path)
    except OSError as error:
        raise RunLogError(f"{path}: cannot be written: {error.strerror or error}") from error
