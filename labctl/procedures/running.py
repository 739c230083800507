"""Run a protocol on a rig: plan, check, settle step by step, log each step, leave everything safe."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from labctl.devices import Aborted, Outcome, RunLogError, Scalar, UserError
from labctl.engines import FixedPointResult, OpticalHostLoopEngine, OpticalLoopEngine
from labctl.models.metrics import energy_distance, mode_total_variation, sliced_wasserstein
from labctl.procedures.background import BackgroundLog
from labctl.procedures.compensating import compensated
from labctl.procedures.crediting import credit_metrics, credited, noise_of
from labctl.procedures.drawn import judge_pictures
from labctl.procedures.interrupts import uninterrupted
from labctl.procedures.plan import Chain, chains_of, check_state_noise, expected_us, run_sampler
from labctl.procedures.recipe import Protocol, ScanRecipe, load_protocol
from labctl.procedures.records import SCAN_UNITS, as_bytes, column_name, header_of, plan_of, step_record
from labctl.rig import Rig
from labctl.runlog import PanelWriter, RunHeader, RunPlan, RunWriter, fresh_path
from labctl.sampling import SettleSeen, StepSeen

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class SettleReport:
    """One settle, for whoever watches: counts by outcome, settle times of the audit share.

    settle_p95_us counts a sample that had not settled after 80 tau as infinite; nan where none was audited.
    """

    panel: str
    index: int
    of: int
    kind: str
    sigma: float
    samples: int
    outcomes: dict[str, int]
    settle_p95_us: float
    unsettled_share: float
    device_us: float
    host_s: float


class Watcher:
    """Told what happens; override what you want to see. Watching never changes a run."""

    def training(self, what: str, done: int, total: int) -> None:
        """A network is being trained or re-fitted."""

    def preparing(self, what: str, done: int, total: int) -> None:
        """Something before the first settle is being done: `what`, the `done`-th of `total`."""

    def expecting(self, device_us: float) -> None:
        """Every iterate is an exposure: what the bench is expected to take, told before the first settle."""

    def planned(self, chains: list[Chain], path: Path) -> None:
        """All chains are compiled and the file is open; `path` is the name it will have when whole."""

    def settled(self, report: SettleReport) -> None:
        """One settle of one panel is done and safe in the file."""

    def panel_done(self, panel: PanelResult) -> None:
        """One chain is done."""


@dataclass(frozen=True, eq=False)
class PanelResult:
    """One chain's result: samples [B, d] in own units, metrics, reports of every settle, pictures or None."""

    name: str
    samples: FloatArray
    metrics: dict[str, Scalar]
    settles: tuple[SettleReport, ...]
    pictures: NDArray[np.uint8] | None = None


@dataclass(frozen=True, eq=False)
class RunResult:
    """A finished run: its file and what it holds."""

    file: Path
    panels: tuple[PanelResult, ...]
    metrics: dict[str, Scalar] = field(default_factory=dict)

    @property
    def samples(self) -> FloatArray:
        """Samples of the only (or first) panel."""
        return self.panels[0].samples


def run(
    protocol: Protocol | str | Path,
    rig: Rig,
    *,
    out: str | Path = "runs",
    watcher: Watcher | None = None,
) -> RunResult:
    """Run a protocol on an open rig and write one NeXus file into the folder `out`.

    Raises UserError or RunLogError before the first step when the protocol makes no sense on this rig or the
    folder cannot be written; the rig stays open. From the first step on, any error closes the file marked
    failed and Ctrl-C closes it marked aborted, with every finished step in it; the rig is closed, which
    leaves it safe, and Ctrl-C raises Aborted.
    """
    watcher = watcher or Watcher()
    if not isinstance(protocol, Protocol):
        protocol = load_protocol(protocol)
    with one_thread():
        return _run(protocol, rig, Path(out), watcher)


@contextmanager
def one_thread() -> Iterator[None]:
    """Matrices of 48 rows gain little from a second thread, and wait for it long where a core is busy.

    The order of sums depends on threads too: runs with one are the same bits on machines of any size.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):  # numpy's own
            yield
    finally:
        torch.set_num_threads(before)


def _run(protocol: Protocol, rig: Rig, out: Path, watcher: Watcher) -> RunResult:
    try:
        _ = rig.engine  # a closed rig is refused now, not after a training
        used_us = 0.0 if rig.world is None else float(rig.world.now_us)
        check_folder(out)
        chains = compensated(chains_of(protocol, rig, watcher.training), rig, watcher.training)
        noises, device_us = [], 0.0
        for done, chain in enumerate(chains):
            watcher.preparing("state noise", done, len(chains))
            if chain.recipe.noise_credit:
                chains[done] = credited(chain, rig)
                noises.append(noise_of(chains[done].sampler)[-1])
            else:
                noises.append(check_state_noise(chain, rig))
            device_us += expected_us(chains[done], rig)
        if isinstance(rig.engine, OpticalHostLoopEngine):
            watcher.expecting(device_us)
        header, plan = header_of(protocol, rig, chains, used_us), plan_of(protocol, rig, chains)
    except (UserError, RunLogError):
        raise
    except BaseException as error:
        with uninterrupted():
            _make_safe(rig, error)
            if isinstance(error, KeyboardInterrupt):
                raise Aborted(
                    "stopped; before the first step: nothing was written, the rig is safe"
                ) from None
            raise
    return _recorded(protocol, rig, chains, noises, out, header, plan, watcher)


def _recorded(
    protocol: Protocol,
    rig: Rig,
    chains: list[Chain],
    noises: list[float],
    out: Path,
    header: RunHeader,
    plan: RunPlan,
    watcher: Watcher,
) -> RunResult:
    """Run the chains into a new file; however that ends, the rig is safe and then the file is whole."""
    writer: RunWriter | None = None
    try:
        with uninterrupted():
            writer = _created(out, protocol.name, header, plan)
        return _written(protocol, rig, chains, noises, writer, watcher)
    except BaseException as error:
        with uninterrupted():
            safe = _make_safe(rig, error)
            state = "complete" if writer and not writer.open else "whole and marked aborted"
            if writer is not None:
                writer.__exit__(type(error), error, None)
            if isinstance(error, KeyboardInterrupt) and writer is not None:
                raise Aborted(
                    f"stopped; the rig {'is safe' if safe else 'could not be closed'}; "
                    f"the file is {state}: {writer.path}"
                ) from None
            raise


def _written(
    protocol: Protocol,
    rig: Rig,
    chains: list[Chain],
    noises: list[float],
    writer: RunWriter,
    watcher: Watcher,
) -> RunResult:
    panels: list[PanelResult] = []
    metrics: dict[str, Scalar] = {}
    watcher.planned(chains, writer.path)
    rows: dict[float, dict[str, float]] = {}
    for chain, noise in zip(chains, noises, strict=True):
        result = _run_chain(chain, rig, writer.panel(chain.name), noise, watcher)
        panels.append(result)
        watcher.panel_done(result)
        if isinstance(protocol.recipe, ScanRecipe) and chain.row is not None:
            _scan_row(protocol.recipe, chain, result, rows, writer)
    with uninterrupted():
        file = writer.finish(metrics=metrics)
    return RunResult(file, tuple(panels), metrics)


def _created(out: Path, stem: str, header: RunHeader, plan: RunPlan) -> RunWriter:
    """A new run file; another process may take the name in the same moment, then the next one is tried."""
    while True:
        path = fresh_path(out, stem)
        try:
            return RunWriter.create(path, header, plan)
        except RunLogError:
            if fresh_path(out, stem) == path:  # still free: the name was not what stood in the way
                raise


def _make_safe(rig: Rig, error: BaseException) -> bool:
    """Close the rig after `error`; what goes wrong in that is noted on it, never put in its place."""
    try:
        rig.close()
    except Exception as problem:  # noqa: BLE001 - the first error is the one to report
        error.add_note(f"the rig could not be closed: {problem}")
        return False
    return True


def check_folder(out: Path) -> None:
    """Refuse a folder that cannot be made or written in, before anything long is begun."""
    place = next(p for p in (out.absolute(), *out.absolute().parents) if os.path.lexists(p))
    if not place.is_dir():
        raise RunLogError(f"{out}: {place} is not a folder; run files need one")
    if not os.access(place, os.W_OK | os.X_OK):
        raise RunLogError(f"{out}: no permission to write in {place}")


def _scan_row(
    recipe: ScanRecipe,
    chain: Chain,
    result: PanelResult,
    rows: dict[float, dict[str, float]],
    writer: RunWriter,
) -> None:
    """Collect a row's columns; write it once its last series value is in."""
    value = chain.row if chain.row is not None else float("nan")
    row = rows.setdefault(value, {recipe.scan: value})
    for key in SCAN_UNITS:
        if key in result.metrics:
            row[column_name(key, chain.series)] = float(result.metrics[key])
    if not recipe.series_values or chain.series == str(recipe.series_values[-1]):
        with uninterrupted():
            writer.scan_row(row)


def _run_chain(chain: Chain, rig: Rig, log: PanelWriter, noise: float, watcher: Watcher) -> PanelResult:
    if rig.world is not None:
        rig.set_noise_scale(chain.recipe.noise_scale)
    rig.set_readout(chain.recipe.readout, chain.recipe.exposure_us)
    if chain.order is not None and isinstance(rig.engine, OpticalLoopEngine):
        rig.engine.use_order(chain.order)
    rig.engine.load(chain.program)
    log.frame_shown(getattr(rig.engine, "frame_checksum", ""))
    pending: list[SettleSeen] = []
    reports: list[SettleReport] = []
    x_before, since = chain.x_start, time.perf_counter()
    audited = len(log.plan.audit) if log.plan.audit is not None else 0
    clean: list[FloatArray] = []

    def report(seen: SettleSeen) -> None:
        reports.append(_report(chain, seen))
        watcher.settled(reports[-1])

    with BackgroundLog(log) as background:

        def keep(step: StepSeen) -> None:
            nonlocal x_before, since
            elapsed = time.perf_counter() - since
            engine_s = sum(seen.result.ledger.host_s for seen in pending)
            for i, seen in enumerate(pending):
                last = i == len(pending) - 1
                x = step.x if last else x_before
                record = step_record(chain, seen, x, (elapsed - engine_s) if last else 0.0, audited)
                background.step(record, partial(report, seen))
            pending.clear()
            clean.append(step.denoised[chain.shown])
            x_before, since = step.x, time.perf_counter()

        samples = run_sampler(chain, rig, pending.append, keep)
    metrics = {
        **_metrics(chain, samples, reports, noise),
        **credit_metrics(chain.sampler),
        **rig.readout_summary(),
    }
    own = chain.subject.affine.restore(samples)
    pictures, step_pictures, judged = None, None, None
    if chain.pictures is not None and chain.labels is not None:
        kept, outside = chain.pictures.in_range(own)
        decoded = chain.pictures.decode(kept)
        pictures = as_bytes(decoded)
        judgement = judge_pictures(chain, chain.pictures, samples, decoded)
        metrics |= judgement.metrics
        judged = judgement.judged
        if outside:
            metrics["latents_out_of_range"] = outside
        steps, _ = chain.pictures.in_range(chain.subject.affine.restore(np.concatenate(clean)))
        step_pictures = as_bytes(chain.pictures.decode(steps)).reshape(len(clean), -1, *decoded.shape[1:])
    with uninterrupted():
        log.finish(
            own,
            metrics,
            pictures=pictures,
            step_pictures=step_pictures,
            labels=chain.labels,
            judged=judged,
        )
    return PanelResult(chain.name, own, metrics, tuple(reports), pictures)


def _report(chain: Chain, seen: SettleSeen) -> SettleReport:
    result: FixedPointResult = seen.result
    counts = np.bincount(result.outcome, minlength=len(Outcome))
    times = np.where(np.isnan(result.settle_time_us), np.inf, result.settle_time_us)
    return SettleReport(
        panel=chain.name,
        index=seen.index,
        of=len(chain.program.segments),
        kind=seen.segment.kind,
        sigma=seen.segment.sigma,
        samples=len(result.outcome),
        outcomes={Outcome(i).name: int(c) for i, c in enumerate(counts) if c},
        settle_p95_us=float(np.quantile(times, 0.95, method="higher")) if len(times) else float("nan"),
        unsettled_share=float(np.isinf(times).mean()) if len(times) else float("nan"),
        device_us=result.ledger.device_us,
        host_s=result.ledger.host_s,
    )


def _metrics(
    chain: Chain, samples: FloatArray, reports: list[SettleReport], noise: float
) -> dict[str, Scalar]:
    """What a run says of itself; distances in network units, E unbiased (it can be negative)."""
    total = sum(r.samples for r in reports)
    converged = sum(r.outcomes.get(Outcome.CONVERGED.name, 0) for r in reports)
    out: dict[str, Scalar] = {
        "converged_share": converged / total,
        "device_time_per_sample_us": sum(r.device_us for r in reports) / len(samples),
    }
    if noise:
        out["state_noise"] = noise
    if chain.recipe.second_starts:
        audited = min(chain.recipe.second_starts, len(samples)) * sum(r.kind == "implicit" for r in reports)
        found = sum(r.outcomes.get(Outcome.MULTISTABLE.name, 0) for r in reports)
        out["multistable_share"] = found / audited
    implicit = [r for r in reports if not np.isnan(r.settle_p95_us)]
    if implicit:
        out["settle_p95_us"] = max(r.settle_p95_us for r in implicit)
        out["unsettled_share"] = max(r.unsettled_share for r in implicit)
    if chain.reference is not None and len(samples) > 1:
        out["energy_distance"] = energy_distance(samples, chain.reference)
        common = min(len(samples), len(chain.reference))
        out["sliced_wasserstein"] = sliced_wasserstein(samples[:common], chain.reference[:common])
    toy = chain.toy
    if toy is not None and toy.centres is not None and toy.weights is not None:
        out["mode_total_variation"] = mode_total_variation(samples, toy.centres, toy.weights)
    return out
