"""A batch in queues of what the machine's sequencer holds."""

from __future__ import annotations

from dataclasses import replace

from labctl.devices import SettleCodes


def queues_of(batch: int, size: int) -> list[slice]:
    """Slices of a batch, `size` samples each but for the last."""
    return [slice(first, min(first + size, batch)) for first in range(0, batch, size)]


def queue_of(codes: SettleCodes, part: slice) -> SettleCodes:
    """The codes of some of the samples."""
    return replace(
        codes,
        bias=codes.bias[part],
        gain=codes.gain if len(codes.gain) == 1 else codes.gain[part],
        start=codes.start[part],
        sample_id=codes.sample_id[part],
    )
