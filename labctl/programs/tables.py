"""Digital knobs are quantised too: gain, leak and bias tables as DAC codes, and what they came out as."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labctl.devices import Coercion, GainScale, LoopSpec, ProgramError
from labctl.programs.placement import PlacedWeights
from labctl.programs.program import LoopSegment
from labctl.programs.rounding import Codes, to_codes
from labctl.programs.trims import RowTrims

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class CodedTables:
    """A segment's tables in codes, and the values they stand for (network units).

    gain_codes, gain [C, n]; leak_codes, leak [n]; gain_range [n] (0 = state scale, 1 = hidden scale);
    bias_codes [C, n], of the table alone: rows u get the injection at run time. A bias b of row i is set as
    bias_ratio[i] b - bias_offset[i] (`RowTrims`; 1 and 0 without).
    """

    gain_codes: Codes
    leak_codes: Codes
    gain_range: Codes
    bias_codes: Codes
    gain: FloatArray
    leak: FloatArray
    coercions: tuple[Coercion, ...]
    bias_ratio: FloatArray
    bias_offset: FloatArray

    def bias_to_set(self, bias: FloatArray, rows: slice) -> FloatArray:
        """What to give rows `rows` [B, r] so that `bias` acts on them."""
        return bias * self.bias_ratio[rows] - self.bias_offset[rows]

    def bias_acting(self, bias_set: NDArray[np.floating], rows: slice) -> FloatArray:
        """What acts on the rows where `bias_set` [B, r] was given."""
        return np.asarray((bias_set + self.bias_offset[rows]) / self.bias_ratio[rows])


def encode_tables(
    segment: LoopSegment,
    weights: PlacedWeights,
    spec: LoopSpec,
    trims: RowTrims | None = None,
    *,
    full_scale_units: float = 1.0,
) -> CodedTables:
    """Quantise gain (as gain * scale_out) and leak; values out of range go to the end and are reported.

    `full_scale_units` is the photocurrent that a weight fraction of 1 gives (a measured panel record's; 1 by
    design): what the light gives less, the gain gives more. `trims` are the machine's row errors, taken out
    of every table. Raises ProgramError for a negative gain or a leak outside 0 .. 1: no code means that.
    """
    placement = weights.placement
    gain_range = np.ones(spec.n_channels, np.int64)
    gain_range[placement.state] = 0
    if not np.isfinite(segment.gain).all() or segment.gain.min() < 0:
        raise ProgramError(f"a row gain is {np.nanmin(segment.gain):.4g}; allowed: 0 or more, finite")
    if not np.isfinite(segment.leak).all() or segment.leak.min() < 0 or segment.leak.max() > 1:
        worst = float(segment.leak[np.argmax(np.abs(segment.leak - 0.5))])
        raise ProgramError(f"a leak is {worst:.4g}; allowed: 0 to 1")
    n = spec.n_channels
    leak_to_set = segment.leak if trims is None else trims.leak_to_set(segment.leak)
    leak_codes = np.rint(leak_to_set * spec.max_leak_code).astype(np.int64)
    leak_set = leak_codes / spec.max_leak_code
    ratio, offset, gain_scale = np.ones(n), np.zeros(n), np.full(n, full_scale_units)
    if trims is not None:
        ratio, offset = trims.ratio(segment.leak, leak_set), trims.offset_units
        gain_scale = full_scale_units * trims.gain_scale / ratio
    wanted = segment.gain * weights.scale_out / gain_scale
    codes = np.where(gain_range == 0, spec.state_gain.code(wanted), spec.hidden_gain.code(wanted))
    applied = spec.gain_value(codes, gain_range)
    coercions = [
        note
        for name, rows, scale in (
            ("row gain u", gain_range == 0, spec.state_gain),
            ("row gain h", gain_range == 1, spec.hidden_gain),
        )
        if (note := _out_of_scale(name, wanted[:, rows], applied[:, rows], scale)) is not None
    ]
    hidden = np.ones(spec.n_channels, np.bool_)
    hidden[placement.state] = False
    bias = segment.bias * ratio - offset
    bias_codes, _, _ = to_codes(bias, spec.dac, "bias")
    _, _, note = to_codes(bias[:, hidden], spec.dac, "bias h")
    if note is not None:
        coercions.append(note)
    return CodedTables(
        gain_codes=codes,
        leak_codes=leak_codes,
        gain_range=gain_range,
        bias_codes=bias_codes,
        gain=applied * gain_scale / weights.scale_out,
        leak=leak_set if trims is None else np.where(segment.leak > 0, segment.leak, trims.comes(leak_set)),
        coercions=tuple(coercions),
        bias_ratio=ratio,
        bias_offset=offset,
    )


def _out_of_scale(field: str, wanted: FloatArray, applied: FloatArray, scale: GainScale) -> Coercion | None:
    out = (wanted > 0) & ((wanted < scale.low * 0.99) | (wanted > scale.high * 1.01))
    if not out.any():
        return None
    distance = np.where(out, np.abs(np.log(np.where(out, wanted / applied, 1.0))), 0.0)
    worst = np.unravel_index(int(distance.argmax()), distance.shape)
    return Coercion(field, float(wanted[worst]), float(applied[worst]), "gain x scale_out", int(out.sum()))
