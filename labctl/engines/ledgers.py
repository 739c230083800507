"""Where a settle's modelled time goes: the loop's own wait and window, and the cables on both sides."""

from __future__ import annotations

from collections.abc import Sequence

from labctl.devices import ChainCodes, LinkSpec, LoopReadout, LoopSpec, SettleCodes
from labctl.engines.result import Ledger

CODE_BYTES, WORD_BYTES = 2, 8  # of a code, and of a register or coefficient word, on the cable
WINDOW_BYTES = 16  # of a row: mean, two halves and spread, 4 bytes each


def step_ledger(
    spec: LoopSpec, codes: SettleCodes, readout: LoopReadout, queues: int, frame_us: float
) -> Ledger:
    """A settle that the host steps: every sample's codes go up, the windows of every row come down."""
    up = CODE_BYTES * (codes.bias.size + codes.gain.size + codes.leak.size + codes.start.size)
    queue = _queue(readout)
    return Ledger(
        upload_us=frame_us + _cable_us(spec.link, up, queue, queues),
        wait_us=queue.wait_us,
        window_us=queue.window_us,
        read_us=_cable_us(spec.link, WINDOW_BYTES * codes.bias.size, queue, queues),
        settles=queue.settles,
    )


def frames_ledger(link: LinkSpec, frame_bytes: int, readout: LoopReadout, queues: int) -> Ledger:
    """A camera's frames, one a settle of the queues that it was read beside: over the camera's own cable."""
    n_bytes = frame_bytes * len(readout.counts)
    return Ledger(read_us=_cable_us(link, n_bytes, _queue(readout), queues))


def chain_ledgers(
    spec: LoopSpec, chain: ChainCodes, readouts: Sequence[LoopReadout], queues: int, frame_us: float
) -> list[Ledger]:
    """One ledger a settle of a chain. All goes up once, before the first; the windows of the rows that carry
    a register come down once, after the last.
    """
    tables = chain.bias.size + chain.gain.size + chain.leak.size + chain.start.size
    words = chain.base.size + chain.register.size + 4 * chain.inject_state.size
    words += sum(0 if add is None else add.size for add in (chain.inject_add, chain.start_add))
    ledgers = [_queue(readout) for readout in readouts]
    whole = sum(ledgers, Ledger())
    down = WINDOW_BYTES * chain.register.size * len(readouts)
    up_us = frame_us + _cable_us(spec.link, CODE_BYTES * tables + WORD_BYTES * words, whole, queues)
    ledgers[0] = ledgers[0] + Ledger(upload_us=up_us)
    ledgers[-1] = ledgers[-1] + Ledger(read_us=_cable_us(spec.link, down, whole, queues))
    return ledgers


def _queue(readout: LoopReadout) -> Ledger:
    batch = len(readout.counts)
    return Ledger(wait_us=readout.wait_us * batch, window_us=readout.window_us * batch, settles=batch)


def _cable_us(link: LinkSpec, n_bytes: int, busy: Ledger, queues: int) -> float:
    return queues * link.beside_us(n_bytes / queues, (busy.wait_us + busy.window_us) / queues)
