"""A chain of diffusion steps as a part of a run: the noise it meets, its panel, its settles and samples."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from labctl.devices import Outcome, Scalar
from labctl.engines import FixedPointResult, OpticalLoopEngine
from labctl.models.metrics import energy_distance, mode_total_variation, sliced_wasserstein
from labctl.procedures.background import BackgroundLog
from labctl.procedures.crediting import credit_metrics, credited, noise_of
from labctl.procedures.drawn import judge_pictures
from labctl.procedures.interrupts import uninterrupted
from labctl.procedures.plan import Chain, check_state_noise, expected_us, run_sampler
from labctl.procedures.records import as_bytes, chain_panel, step_record
from labctl.procedures.watching import PanelResult, SettleReport, Watcher, counted
from labctl.rig import Rig
from labctl.runlog import PanelPlan, PanelWriter
from labctl.sampling import SettleSeen, StepSeen

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ChainPart:
    """See `labctl.procedures.parts.Part`. noise: of the state, x units; measured by `ready`."""

    chain: Chain
    noise: float = 0.0

    @property
    def name(self) -> str:
        """Its panel."""
        return self.chain.name

    @property
    def title(self) -> str:
        """For people."""
        return self.chain.title

    @property
    def row(self) -> float | None:
        """Its place in a scan."""
        return self.chain.row

    @property
    def series(self) -> str:
        """Which of a scan's series it belongs to."""
        return self.chain.series

    @property
    def n_samples(self) -> int:
        """Samples that it makes."""
        return len(self.chain.sample_id)

    @property
    def d(self) -> int:
        """Numbers of a sample."""
        return int(self.chain.x_start.shape[1])

    @property
    def settles(self) -> int:
        """Settles of a sample."""
        return len(self.chain.program.segments)

    @property
    def word(self) -> str:
        """What it reports."""
        return "settles"

    @property
    def at_once(self) -> bool:
        """Whether the machine steps it by itself."""
        return self.chain.recipe.stepping == "chain"

    @property
    def n_classes(self) -> int:
        """Classes of its network; 0 without."""
        return self.chain.subject.network.n_classes

    @property
    def class_names(self) -> Sequence[str]:
        """What they are called, where they have names."""
        return [] if self.chain.pictures is None else list(self.chain.pictures.class_names)

    @property
    def card(self) -> dict[str, Any]:
        """The network's card."""
        return dict(self.chain.subject.card)

    def ready(self, rig: Rig) -> Self:
        """Measure the state noise; with noise credit, plan the chain around it."""
        if self.chain.recipe.noise_credit:
            chain = credited(self.chain, rig)
            return type(self)(chain, noise_of(chain.sampler)[-1])
        return type(self)(self.chain, check_state_noise(self.chain, rig))

    def expected_us(self, rig: Rig) -> float:
        """Modelled device time, of the program as it was loaded."""
        return expected_us(self.chain, rig)

    def panel(self, rig: Rig) -> PanelPlan:
        """Its place in the file."""
        return chain_panel(self.chain, rig)

    def run(self, rig: Rig, log: PanelWriter, watcher: Watcher) -> PanelResult:
        """Settle after settle into the file."""
        return _run(self.chain, rig, log, self.noise, watcher)


def _run(chain: Chain, rig: Rig, log: PanelWriter, noise: float, watcher: Watcher) -> PanelResult:
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
        reports.append(settle_report(chain, seen))
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


def settle_report(chain: Chain, seen: SettleSeen) -> SettleReport:
    """What a watcher is told of one settle."""
    result: FixedPointResult = seen.result
    times = np.where(np.isnan(result.settle_time_us), np.inf, result.settle_time_us)
    return SettleReport(
        panel=chain.name,
        index=seen.index,
        of=len(chain.program.segments),
        kind=seen.segment.kind,
        sigma=seen.segment.sigma,
        samples=len(result.outcome),
        outcomes=counted(result.outcome),
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
