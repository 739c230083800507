"""A chain of settles as the sequencer's tables and words: what carries it from one settle to the next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labctl.devices import ChainCodes, Coercion, LoopSpec, UnsupportedFeature
from labctl.programs.program import LoopSegment
from labctl.programs.rounding import to_codes
from labctl.programs.tables import CodedTables

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class ChainUpdate:
    """From settle z = c + g D(z) to the next: x' = e z + f c + n starts it, c' = p z + q c + w n is injected.

    `sigma_up` is the standard deviation of the fresh noise n (0: none).
    """

    e: float
    f: float
    p: float
    q: float
    w: float = 0.0
    sigma_up: float = 0.0


def encode_chain(
    segments: Sequence[LoopSegment],
    tables: Sequence[CodedTables],
    updates: Sequence[ChainUpdate],
    spec: LoopSpec,
    state: slice,
    *,
    inject: FloatArray,
    start_codes: IntArray,
    labels: IntArray | None,
    sample_id: IntArray,
    first_step: int,
    noise: FloatArray | None,
) -> ChainCodes:
    """Words for B samples: inject [B, d] is c_0, noise [K - 1, B, d] the fresh noise of each update.

    Register word = value on rows u, in DAC steps / 2^fraction_bits; on rows u stand s_k c_k and s_k x_k
    (s = inject_scale), so that every coefficient is multiplied by s_{k+1} / s_k.
    """
    if spec.chain is None:
        raise UnsupportedFeature("these electronics have no sequencer", device="loop", operation="chain")
    word = 2.0**spec.chain.fraction_bits / spec.dac.units_per_code
    factor = 2.0**spec.chain.coefficient_fraction_bits
    scale = np.array([segment.inject_scale for segment in segments])
    growth = scale[1:] / scale[:-1]

    def words(values: FloatArray) -> IntArray:
        return np.asarray(np.rint(values * word), dtype=np.int64)

    def factors(name: str) -> IntArray:
        exact = np.array([getattr(update, name) for update in updates]) * growth
        return np.asarray(np.rint(exact * factor), dtype=np.int64)

    def added(weight: FloatArray) -> IntArray | None:
        return None if noise is None else words(noise * (weight * scale[1:])[:, None, None])

    return ChainCodes(
        bias=np.stack([t.bias_codes for t in tables]),
        gain=np.stack([t.gain_codes for t in tables]),
        leak=np.stack([t.leak_codes for t in tables]),
        gain_range=np.stack([t.gain_range for t in tables]),
        rows=np.arange(state.start, state.stop),
        base=np.stack([words(segment.bias[:, state]) for segment in segments]),
        register=words(scale[0] * inject),
        start=start_codes,
        inject_state=factors("p"),
        inject_register=factors("q"),
        start_state=factors("e"),
        start_register=factors("f"),
        table=np.zeros(len(inject), np.int64) if labels is None else labels,
        step_ids=first_step + np.arange(len(segments)),
        sample_id=sample_id,
        inject_add=added(np.array([update.w for update in updates])),
        start_add=added(np.ones(len(updates))),
    )


def preset(
    chain: ChainCodes, k: int, state: FloatArray, register: IntArray, spec: LoopSpec
) -> Coercion | None:
    """The worst preset of settle k >= 1 that left the DAC's range, from what the settle before it read
    (state [B, n], network units) and its register [B, d]; None where all fit.
    """
    if spec.chain is None:
        raise UnsupportedFeature("these electronics have no sequencer", device="loop", operation="chain")
    factor, word = 2.0**-spec.chain.coefficient_fraction_bits, 2.0**-spec.chain.fraction_bits
    unit, wanted = spec.dac.units_per_code, state.copy()
    own = state[:, chain.rows] * (chain.start_state[k - 1] * factor)
    own += register * (chain.start_register[k - 1] * factor * word * unit)
    if chain.start_add is not None:
        own += chain.start_add[k - 1] * (word * unit)
    wanted[:, chain.rows] = own
    return to_codes(wanted, spec.dac, "start")[2]


def injected(
    chain: ChainCodes, k: int, register: IntArray, spec: LoopSpec, inject_scale: float
) -> tuple[FloatArray, IntArray, Coercion | None]:
    """What settle k was given, from the sequencer's register [B, d]: the injection c [B, d] in x units, the
    bias codes [B, n], and the worst bias that left the DAC's range.
    """
    if spec.chain is None:
        raise UnsupportedFeature("these electronics have no sequencer", device="loop", operation="chain")
    per_step = 2.0**spec.chain.fraction_bits
    wanted = np.rint((chain.base[k][chain.table] + register) / per_step)
    applied = np.clip(wanted, -spec.dac.max_code, spec.dac.max_code)
    bias: IntArray = chain.bias[k][chain.table]
    bias[:, chain.rows] = applied
    unit, note = spec.dac.units_per_code, None
    if (out := wanted != applied).any():
        worst = np.unravel_index(int(np.abs(wanted).argmax()), wanted.shape)
        note = Coercion(
            "bias", float(wanted[worst] * unit), float(applied[worst] * unit), "network units", int(out.sum())
        )
    return np.asarray(register * (unit / per_step / inject_scale), dtype=np.float64), bias, note
