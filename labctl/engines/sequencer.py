"""A chain of settles on the electronics' own sequencer: what it refuses, is given, and gives back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labctl.devices import (
    Coercion,
    LoopElectronics,
    LoopReadout,
    ProgramError,
    SettleCodes,
    UnsupportedFeature,
    chain_part,
    joined_chains,
)
from labctl.engines.ledgers import chain_ledgers
from labctl.engines.queues import queues_of
from labctl.engines.result import Batch, Ledger
from labctl.programs import (
    ChainUpdate,
    CodedTables,
    LoopSegment,
    encode_chain,
    injected,
    preset,
    to_codes,
)

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ChainSettle:
    """One settle of a chain: the injection [B, d] it had, its codes, where the bias was clipped [B, d], what
    was read, what was coerced, and its share of the ledger.
    """

    inject: FloatArray
    codes: SettleCodes
    bias_clipped: NDArray[np.bool_]
    readout: LoopReadout
    notes: tuple[Coercion, ...]
    ledger: Ledger


def require_sequencer(
    electronics: LoopElectronics, segments: Sequence[LoopSegment], *, camera: bool, trimmed: bool
) -> None:
    """UnsupportedFeature or ProgramError for a chain that this sequencer cannot run.

    camera: states are read by one; trimmed: rows have measured errors of their own.
    """

    def refuse(why: str) -> UnsupportedFeature:
        return UnsupportedFeature(why, device=electronics.name, operation="run a chain")

    chain = electronics.spec.chain
    if camera:
        raise refuse(
            "states read by camera come to the host after each settle; allowed: stepping by the host"
        )
    if chain is None:
        raise refuse("the electronics have no sequencer; allowed: stepping by the host")
    if len(segments) > chain.depth:
        raise ProgramError(
            f"{electronics.name}: the chain has {len(segments)} settles; allowed: 1 to "
            f"{chain.depth}, what the sequencer holds"
        )
    if trimmed:
        raise refuse(
            "the sequencer gives every row the same injection, and the rows' measured errors differ; "
            "allowed: stepping by the host, or no compensation"
        )
    if len({segment.matrix for segment in segments}) > 1:
        raise refuse("the sequencer cannot change the panel's frame; allowed: a chain on one matrix")


def run_on_sequencer(
    electronics: LoopElectronics,
    segments: Sequence[LoopSegment],
    tables: Sequence[CodedTables],
    batch: Batch,
    updates: Sequence[ChainUpdate],
    *,
    state: slice,
    noise: FloatArray | None,
    frame_us: float,
) -> Iterator[ChainSettle]:
    """Run all of it, queue after queue, then give settle by settle; frame_us goes into the first's ledger."""
    spec = electronics.spec
    start_codes, _, start_note = to_codes(batch.start, spec.dac, "start")
    chain = encode_chain(
        segments, tables, updates, spec, state, inject=batch.inject, start_codes=start_codes,
        labels=batch.labels, sample_id=batch.sample_id, first_step=batch.step_id, noise=noise,
    )  # fmt: skip
    queues = queues_of(len(start_codes), spec.max_queue)
    ran = joined_chains([electronics.run_chain(chain_part(chain, part)) for part in queues])
    ledgers = chain_ledgers(spec, chain, ran.settles, len(queues), frame_us)
    for k, (segment, coded) in enumerate(zip(segments, tables, strict=True)):
        inject, bias, note = injected(chain, k, ran.register[k], spec, segment.inject_scale)
        codes = SettleCodes(
            bias=bias,
            gain=coded.gain_codes if batch.labels is None else coded.gain_codes[batch.labels],
            leak=coded.leak_codes[None],
            gain_range=coded.gain_range,
            start=ran.start[k],
            step_id=batch.step_id + k,
            sample_id=batch.sample_id,
        )
        if k:
            before = ran.settles[k - 1].counts * spec.adc.units_per_code
            start_note = preset(chain, k, before, ran.register[k - 1], spec)
        notes = tuple(n for n in (note, start_note) if n is not None)
        yield ChainSettle(inject, codes, ran.bias_clipped[k], ran.settles[k], notes, ledgers[k])
