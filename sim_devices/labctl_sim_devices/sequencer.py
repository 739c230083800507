"""Twin of the electronics' sequencer: registers and tables between two settles, in whole words."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from labctl.devices import ChainCodes, ChainReadout, LoopReadout, LoopSpec, SettleCodes

Codes = NDArray[np.int64]


class SequencerTwin:
    """Gives the codes of settle k and takes its read-out, K times.

    Sums are formed in double precision, whose 53 bits hold a register word and its rounding.
    """

    def __init__(self, spec: LoopSpec, codes: ChainCodes) -> None:
        if spec.chain is None:
            raise ValueError("the specification has no sequencer")
        self._spec, self._codes = spec, codes
        self._word = float(2**spec.chain.fraction_bits)  # register words of a DAC step
        self._factor = float(2**-spec.chain.coefficient_fraction_bits)
        self._max_word = spec.chain.max_word(spec.dac)
        self._register, self._start = codes.register, codes.start
        self._settles: list[LoopReadout] = []
        self._registers: list[Codes] = []
        self._starts: list[Codes] = []
        self._clipped: list[NDArray[np.bool_]] = []

    def settle_codes(self, k: int) -> SettleCodes:
        """What settle k is given."""
        c, top = self._codes, self._spec.dac.max_code
        wanted = np.rint((c.base[k][c.table] + self._register) / self._word)
        bias = c.bias[k][c.table]
        bias[:, c.rows] = np.clip(wanted, -top, top)
        self._registers.append(self._register)
        self._starts.append(self._start)
        self._clipped.append(np.abs(wanted) > top)
        return SettleCodes(
            bias=bias,
            gain=c.gain[k] if c.gain.shape[1] == 1 else c.gain[k][c.table],
            leak=c.leak[k][None],
            gain_range=c.gain_range[k],
            start=self._start,
            step_id=int(c.step_ids[k]),
            sample_id=c.sample_id,
        )

    def settled(self, readout: LoopReadout) -> None:
        """Take the window of the settle that was last given out, and work out the next one."""
        c, k, top = self._codes, len(self._settles), self._spec.dac.max_code
        self._settles.append(readout)
        if k == len(c.step_ids) - 1:
            return
        # In the order in which a host would do it: a mean of 40 counts often lies on a tie between two codes.
        steps = readout.counts * self._spec.adc.units_per_code * (1.0 / self._spec.dac.units_per_code)
        state = steps[:, c.rows] * self._word
        inject = self._sum(state, c.inject_state[k], c.inject_register[k], c.inject_add, k)
        start = self._sum(state, c.start_state[k], c.start_register[k], c.start_add, k)
        held = np.rint(steps)
        held[:, c.rows] = np.rint(start / self._word)
        self._start = np.clip(held, -top, top).astype(np.int64)
        self._register = np.clip(inject, -self._max_word, self._max_word).astype(np.int64)

    def readout(self) -> ChainReadout:
        """The sequencer's memory."""
        return ChainReadout(
            tuple(self._settles), np.stack(self._registers), np.stack(self._starts), np.stack(self._clipped)
        )

    def _sum(
        self, state: NDArray[np.float64], of_state: np.int64, of_register: np.int64, add: Codes | None, k: int
    ) -> NDArray[np.float64]:
        total = state * (of_state * self._factor) + self._register * (of_register * self._factor)
        return np.asarray(np.rint(total if add is None else total + add[k]))
