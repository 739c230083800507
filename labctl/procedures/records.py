"""From a plan and its results to the run log's plain records."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel

from labctl.engines import FixedPointResult
from labctl.procedures.crediting import credit_settings
from labctl.procedures.parts import Part
from labctl.procedures.plan import Chain
from labctl.procedures.recipe import Protocol, Scan, TourRecipe
from labctl.procedures.scanning import scan_plan
from labctl.rig import Rig
from labctl.runlog import (
    DeviceTime,
    Document,
    LayerSlice,
    MatrixRecord,
    PanelPlan,
    ProgramRecord,
    RunHeader,
    RunPlan,
    SegmentTables,
    StepLedger,
    StepRecord,
    Timing,
    as_json_card,
    device_records,
    software_versions,
)
from labctl.sampling import SettleSeen
from labctl.version import source_commit

FloatArray = NDArray[np.float64]


def header_of(protocol: Protocol, rig: Rig, parts: Sequence[Part], used_us: float) -> RunHeader:
    """All that is known before the first step. used_us: the twin's clock when the run came to it."""
    first = parts[0]
    spec, world = rig.loop_spec, rig.config.world
    timing = None
    if spec is not None:
        timing = Timing(
            profile=world.profile if world is not None else rig.name,
            tau_us=spec.tau_us,
            trip_us=spec.trip_us,
            wait_us=spec.wait_us,
            window_us=spec.window_us,
            step_us=spec.wait_us + spec.window_us,
            full_scale=spec.dac.range_units,
        )
    return RunHeader(
        title=protocol.recipe.title,
        protocol=Document(name=protocol.name, text=protocol.as_json(), format="json"),
        rig=Document(name=rig.name, text=rig.config.as_json(), format="json"),
        seed=protocol.recipe.seed,
        n_samples=sum(part.n_samples for part in parts),
        d=first.d,
        n_channels=rig.config.n_channels,
        n_classes=first.n_classes,
        versions=software_versions(),
        git_commit=source_commit(),
        numerics={
            "torch_threads": torch.get_num_threads(),
            "queue": spec.max_queue if spec is not None else 0,
            "engine": rig.config.engine,
            "rig_used_us": used_us,
            **({"records": " ".join(rig.record_ids)} if rig.record_ids else {}),
        },
        devices=device_records(rig.identities),
        network=as_json_card({**first.card, **_class_names(parts)}),
        timing=timing,
        operator=os.environ.get("USER"),
        overrides=rig.overrides,
        hostname=platform.node(),
    )


def _class_names(parts: Sequence[Part]) -> dict[str, Any]:
    """What the classes are called, where a part has any with names."""
    names = next((part.class_names for part in parts if part.class_names), ())
    return {"class_names": list(names)} if names else {}


def plan_of(protocol: Protocol, rig: Rig, parts: Sequence[Part]) -> RunPlan:
    """The shape of the run file."""
    recipe = protocol.recipe
    panels, watched = tuple(part.panel(rig) for part in parts), rig.config.watch is not None
    if isinstance(recipe, Scan):
        return RunPlan(panels=panels, scan=scan_plan(recipe, recipe.title), watched=watched)
    default = next((p.name for p in panels if p.name), None) if isinstance(recipe, TourRecipe) else None
    return RunPlan(panels=panels, default=default, watched=watched)


def chain_panel(chain: Chain, rig: Rig) -> PanelPlan:
    """A chain's place in the file."""
    recipe, placement = chain.recipe, chain.program.placement
    engine_audits = rig.loop_spec is not None
    count = min(recipe.audit, recipe.samples) if engine_audits else 0
    pictures, step_pictures, reference_pictures, reference_labels = None, None, None, None
    reference = chain.reference
    if chain.pictures is not None:
        pictures = (recipe.samples, 28, 28)
        step_pictures = (chain.sampler.steps + 1, len(chain.shown), 28, 28)
        if chain.pictures.real_pictures is not None:
            reference_pictures = as_bytes(chain.pictures.real_pictures)
            reference_labels = np.asarray(chain.pictures.real_labels, dtype=np.int64)
        reference = None
    elif reference is not None:
        reference = chain.subject.affine.restore(reference)
    weights = chain.program.weights
    names = ["u", *(f"h{i}" for i in range(1, len(placement.sizes)))]
    return PanelPlan(
        n_steps=len(chain.program.segments),
        n_samples=recipe.samples,
        d=placement.sizes[0],
        n_channels=placement.n_channels,
        name=chain.name,
        title=chain.title,
        program=ProgramRecord(
            weights=weights.weights,
            layers=tuple(
                LayerSlice(name, placement.block(i).start, placement.block(i).stop)
                for i, name in enumerate(names)
            ),
            segments=_tables(chain),
            codes=weights.codes,
            row_scale=weights.scale_out,
            bits=weights.bits,
            mask=placement.mask,
            further=[
                MatrixRecord(matrix.weights, matrix.codes, matrix.scale_out)
                for matrix in chain.program.matrices[1:]
            ],
            settings={"program_sha256": chain.program.hash, **credit_settings(chain.sampler)},
        ),
        x_start=chain.x_start,
        labels=chain.labels,
        audit=np.arange(count),
        reference=reference,
        reference_labels=reference_labels,
        pictures=pictures,
        step_pictures=step_pictures,
        reference_pictures=reference_pictures,
        own_mean=chain.subject.affine.mean,
        own_std=chain.subject.affine.std,
        settings=scalars_of(chain.recipe),
        forecast=chain.forecast,
    )


def scalars_of(recipe: BaseModel) -> dict[str, Any]:
    """The settings of a recipe that a panel keeps."""
    kept = recipe.model_dump(mode="json", exclude={"engines", "kind", "law", "about", "title", "rig"})
    return {key: value for key, value in kept.items() if isinstance(value, str | int | float | bool)}


def _tables(chain: Chain) -> SegmentTables:
    segments, sampler = chain.program.segments, chain.sampler
    steps = chain.step_of_settle
    after = [sampler.level(s + 1) if s < sampler.steps else 0.0 for s in steps]
    tables = chain.tables
    return SegmentTables(
        kind=[s.kind for s in segments],
        sigma=np.array([sampler.level(s) for s in steps]),
        sigma_next=np.array(after),
        leak=np.stack([s.leak for s in segments]),
        gain=np.stack([s.gain for s in segments]),
        bias=np.stack([s.bias for s in segments]),
        leak_applied=None if tables is None else np.stack([t.leak for t in tables]),
        gain_applied=None if tables is None else np.stack([t.gain for t in tables]),
        leak_codes=None if tables is None else np.stack([t.leak_codes for t in tables]),
        gain_codes=None if tables is None else np.stack([t.gain_codes for t in tables]),
        inject_scale=np.array([s.inject_scale for s in segments]),
        matrix=np.array([s.matrix for s in segments]),
    )


def step_record(chain: Chain, seen: SettleSeen, x: FloatArray, sampling_s: float, audited: int) -> StepRecord:
    """One settle as the log keeps it; x [B, d] is what the sampler held after it (network units)."""
    result = seen.result
    step = chain.step_of_settle[seen.index]
    sampler = chain.sampler
    return StepRecord(
        sigma=sampler.level(step),
        sigma_next=sampler.level(step + 1) if step < sampler.steps else 0.0,
        x=x,
        kind=seen.segment.kind,
        injection=seen.inject,
        injection_codes=result.applied.inject_codes,
        state=result.z,
        outcome=result.outcome,
        step_norm=result.step_norm,
        residual_norm=result.residual_norm,
        settle_time_us=_audited(result.settle_time_us, audited),
        transient=_audited(result.transient, audited),
        iterations=result.iterations,
        ledger=StepLedger(
            modelled=_device_time(result),
            engine_s=result.ledger.host_s,
            sampling_s=sampling_s,
            nfe=1,
            host_macs=result.ledger.host_macs,
        ),
        coercions=result.coercions,
    )


def _device_time(result: FixedPointResult) -> DeviceTime | None:
    ledger = result.ledger
    if ledger.device_us == 0:
        return None
    return DeviceTime(
        upload_us=ledger.upload_us, wait_us=ledger.wait_us, window_us=ledger.window_us, read_us=ledger.read_us
    )


def _audited(values: FloatArray, audited: int) -> FloatArray | None:
    return values if audited and len(values) == audited else None


def as_bytes(pictures: NDArray[Any]) -> NDArray[np.uint8]:
    """Pictures in 0..1 as the file keeps them."""
    return np.asarray(np.clip(np.rint(np.asarray(pictures, dtype=np.float64) * 255), 0, 255), dtype=np.uint8)
