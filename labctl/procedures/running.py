"""Run a protocol on a rig: plan, check, settle step by step, log each step, leave everything safe."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from labctl.devices import Aborted, Outcome, Scalar
from labctl.engines import FixedPointResult
from labctl.models.metrics import energy_distance, mode_total_variation, sliced_wasserstein
from labctl.procedures.plan import Chain, chains_of, check_state_noise, machine_of
from labctl.procedures.recipe import Protocol, ScanRecipe, load_protocol
from labctl.procedures.records import SCAN_UNITS, column_name, header_of, plan_of, step_record
from labctl.rig import Rig
from labctl.runlog import PanelWriter, RunWriter, fresh_path
from labctl.sampling import SettleSeen, StepSeen

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class SettleReport:
    """One settle, for whoever watches: counts by outcome, settle times of the audit share."""

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

    def planned(self, chains: list[Chain], path: Path) -> None:
        """All chains are compiled and the file is open."""

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

    Raises UserError before anything is shown when the protocol does not make sense on this rig. A device's
    fault closes the file marked failed; Ctrl-C closes it marked aborted, leaves the rig safe (closed) and
    raises Aborted.
    """
    watcher = watcher or Watcher()
    if not isinstance(protocol, Protocol):
        protocol = load_protocol(protocol)
    chains = chains_of(protocol, rig, watcher.training)
    noises = [check_state_noise(chain, rig) for chain in chains]
    path = fresh_path(out, protocol.name)
    header, plan = header_of(protocol, rig, chains), plan_of(protocol, rig, chains)
    panels: list[PanelResult] = []
    try:
        with RunWriter.create(path, header, plan) as writer:
            watcher.planned(chains, writer.path)
            rows: dict[float, dict[str, float]] = {}
            for chain, noise in zip(chains, noises, strict=True):
                result = _run_chain(chain, rig, writer.panel(chain.name), noise, watcher)
                panels.append(result)
                watcher.panel_done(result)
                if isinstance(protocol.recipe, ScanRecipe) and chain.row is not None:
                    _scan_row(protocol.recipe, chain, result, rows, writer)
            metrics: dict[str, Scalar] = {}
            file = writer.finish(metrics=metrics)
    except KeyboardInterrupt:
        rig.close()
        raise Aborted(f"stopped; the rig is safe and the file is whole: {path}") from None
    except BaseException:
        rig.close()
        raise
    return RunResult(file, tuple(panels), metrics)


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
        writer.scan_row(row)


def _run_chain(chain: Chain, rig: Rig, log: PanelWriter, noise: float, watcher: Watcher) -> PanelResult:
    if rig.world is not None:
        rig.set_noise_scale(chain.recipe.noise_scale)
    rig.engine.load(chain.program)
    log.frame_shown(getattr(rig.engine, "frame_checksum", ""))
    pending: list[SettleSeen] = []
    reports: list[SettleReport] = []
    x_before, since = chain.x_start, time.perf_counter()
    audited = len(log.plan.audit) if log.plan.audit is not None else 0

    def keep(step: StepSeen) -> None:
        nonlocal x_before, since
        elapsed = time.perf_counter() - since
        engine_s = sum(seen.result.ledger.host_s for seen in pending)
        for i, seen in enumerate(pending):
            last = i == len(pending) - 1
            x = step.x if last else x_before
            log.step(step_record(chain, seen, x, (elapsed - engine_s) if last else 0.0, audited))
            reports.append(_report(chain, seen))
            watcher.settled(reports[-1])
        pending.clear()
        x_before, since = step.x, time.perf_counter()

    machine = machine_of(chain, rig, pending.append)
    samples = chain.sampler.run(
        machine, chain.x_start, sample_id=chain.sample_id, seed=chain.recipe.seed, observe=keep
    )
    metrics = _metrics(chain, samples, reports, noise)
    own = chain.subject.affine.restore(samples)
    pictures = None
    if chain.garments is not None and chain.labels is not None:
        decoded = chain.garments.decode(samples)
        pictures = np.asarray(np.clip(np.rint(decoded * 255), 0, 255), dtype=np.uint8)
        metrics["class_agreement"] = float(chain.garments.class_agreement(decoded, chain.labels))
    log.finish(own, metrics, pictures=pictures, labels=chain.labels)
    return PanelResult(chain.name, own, metrics, tuple(reports), pictures)


def _report(chain: Chain, seen: SettleSeen) -> SettleReport:
    result: FixedPointResult = seen.result
    counts = np.bincount(result.outcome, minlength=len(Outcome))
    times = result.settle_time_us
    settled = times[~np.isnan(times)]
    return SettleReport(
        panel=chain.name,
        index=seen.index,
        of=len(chain.program.segments),
        kind=seen.segment.kind,
        sigma=seen.segment.sigma,
        samples=len(result.outcome),
        outcomes={Outcome(i).name: int(c) for i, c in enumerate(counts) if c},
        settle_p95_us=float(np.quantile(settled, 0.95)) if len(settled) else float("nan"),
        unsettled_share=float(np.isnan(times).mean()) if len(times) else float("nan"),
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
        "state_noise": noise,
    }
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
