"""A chain of settles that the electronics' own sequencer runs: the host speaks before and after, not between.

Each sample carries a register v [r], the injection of its rows `rows` in DAC steps / 2^fraction_bits. For
settle k, with w the mean of the window in DAC steps,

    bias_k[rows] = round(base_k + v),  elsewhere the table's bias
    v'           = inject_state w + inject_register v + inject_add
    start'[rows] = round(start_state w + start_register v + start_add),  elsewhere w itself

so that injection and preset of the next settle are element-wise sums of what was read and what was injected
(conventions, section 5). Sums are rounded to the register's grid; what leaves a converter's range stays at
its end and is reported.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labctl.devices.errors import DeviceValueError
from labctl.devices.specs import LoopSpec
from labctl.devices.values import LoopReadout, joined_readouts

Codes = NDArray[np.int64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class ChainCodes:
    """K settles for B samples of C classes, r rows with a register, n channels.

    bias, gain [K, C, n], leak [K, n], gain_range [K, n]: the tables of `SettleCodes`. rows [r]; base
    [K, C, r] and register [B, r] in register words; start [B, n] presets of the first settle. The four
    coefficients [K - 1] are words of 2^-coefficient_fraction_bits. inject_add and start_add [K - 1, B, r]
    are register words (noise drawn by the host), or None. table [B] is each sample's class, step_ids [K].
    """

    bias: Codes
    gain: Codes
    leak: Codes
    gain_range: Codes
    rows: Codes
    base: Codes
    register: Codes
    start: Codes
    inject_state: Codes
    inject_register: Codes
    start_state: Codes
    start_register: Codes
    table: Codes
    step_ids: Codes
    sample_id: Codes
    inject_add: Codes | None = None
    start_add: Codes | None = None


@dataclass(frozen=True)
class ChainReadout:
    """What the sequencer's memory holds afterwards: the windows, registers [K, B, r] and presets [K, B, n]
    of every settle, and where a bias left the DAC's range [K, B, r].
    """

    settles: tuple[LoopReadout, ...]
    register: Codes
    start: Codes
    bias_clipped: Flags


Check = Callable[[str, ArrayLike, tuple[int | None, ...], int, int], Codes]


def checked_chain(codes: ChainCodes, spec: LoopSpec, check: Check, device: str) -> ChainCodes:
    """The codes as copies, every one inside its range; DeviceValueError names the first that is not.

    `check(field, codes, shape, low, high)` does that for one table.
    """
    chain, n = spec.chain, spec.n_channels
    if chain is None:
        raise DeviceValueError("has no sequencer; allowed: settle", device=device, operation="run_chain")
    steps, batch = len(codes.step_ids), len(codes.register)
    for what, size, most in (("chain", steps, chain.depth), ("queue", batch, spec.max_queue)):
        if not 1 <= size <= most:
            raise DeviceValueError(
                f"the {what} holds {size}; allowed: 1 to {most}", device=device, operation="run_chain"
            )
    classes, r = np.shape(codes.bias)[1], np.size(codes.rows)
    dac, word, factor = spec.dac.max_code, chain.max_word(spec.dac), chain.max_coefficient
    gain = max(spec.state_gain.max_code, spec.hidden_gain.max_code)

    def adds(field: str, given: Codes | None) -> Codes | None:
        return None if given is None else check(field, given, (steps - 1, batch, r), -word, word)

    def factors(field: str, given: Codes) -> Codes:
        if steps == 1 and not np.size(given):
            return np.empty(0, np.int64)
        return check(field, given, (steps - 1,), -factor, factor)

    return ChainCodes(
        bias=check("bias", codes.bias, (steps, classes, n), -dac, dac),
        gain=check("gain", codes.gain, (steps, classes, n), 0, gain),
        leak=check("leak", codes.leak, (steps, n), 0, spec.max_leak_code),
        gain_range=check("gain_range", codes.gain_range, (steps, n), 0, 1),
        rows=check("rows", codes.rows, (None,), 0, n - 1),
        base=check("base", codes.base, (steps, classes, r), -word, word),
        register=check("register", codes.register, (batch, r), -word, word),
        start=check("start", codes.start, (batch, n), -dac, dac),
        inject_state=factors("inject_state", codes.inject_state),
        inject_register=factors("inject_register", codes.inject_register),
        start_state=factors("start_state", codes.start_state),
        start_register=factors("start_register", codes.start_register),
        table=check("table", codes.table, (batch,), 0, classes - 1),
        step_ids=check("step_ids", codes.step_ids, (steps,), 0, 2**32 - 1),
        sample_id=check("sample_id", codes.sample_id, (batch,), 0, 2**32 - 1),
        inject_add=adds("inject_add", codes.inject_add),
        start_add=adds("start_add", codes.start_add),
    )


def chain_part(codes: ChainCodes, part: slice) -> ChainCodes:
    """The same chain for some of its samples."""
    return replace(
        codes,
        register=codes.register[part],
        start=codes.start[part],
        table=codes.table[part],
        sample_id=codes.sample_id[part],
        inject_add=None if codes.inject_add is None else codes.inject_add[:, part],
        start_add=None if codes.start_add is None else codes.start_add[:, part],
    )


def joined_chains(parts: Sequence[ChainReadout]) -> ChainReadout:
    """Read-outs of successive queues as one."""
    if len(parts) == 1:
        return parts[0]
    steps = range(len(parts[0].settles))
    return ChainReadout(
        tuple(joined_readouts([part.settles[k] for part in parts]) for k in steps),
        np.concatenate([part.register for part in parts], axis=1),
        np.concatenate([part.start for part in parts], axis=1),
        np.concatenate([part.bias_clipped for part in parts], axis=1),
    )
