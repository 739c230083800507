"""What depends on the displayed weights, measured with the loop open: offset null and effective weights.

States ride on a pedestal b: the detectors see W s + b W 1. The offset b W 1 is measured with phi = 0 and
nulled before the gain; then one probe pattern a channel gives the columns of the effective matrix.

Emitters dim as they warm, within some tenths of a second of being driven, and with them the pedestal's light:
offsets that are nulled in cold light are wrong by as much as the warm one differs, for the whole run that
follows. On a bench that is calibrated the emitters are therefore held at the pedestal until its light stays.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from labctl.devices import CalibrationRecord, DeviceFault, LoopElectronics, LoopSpec, Scalar

FloatArray = NDArray[np.float64]

OFFSET_REPEATS = 256
WEIGHT_REPEATS = 64
HOLD_US = 100e3  # whole periods of mains of 50 and 60 Hz, which average out
STEADY_CODES = 1.0  # of the offset DAC: what a null is set in
FALLING = 0.8  # of the last hold's change: a change that is not below that is no warming
MOST_HOLDS, USUAL_HOLDS = 30, 9  # at most; of emitters that dim by a percent within 0.2 s


def calibrate_open_loop(electronics: LoopElectronics) -> CalibrationRecord:
    """Null the offsets as they are now and probe the matrix; about 60 ms of device time at 48 channels.

    The record holds `offset_units` [n] (photocurrent of a full-scale weight at phi = 1), `null_codes` [n] and
    `effective_fractions` [n, n] (rows are outputs). Raises DeviceFault where the light exceeds the range.
    """
    dark = _pedestal(electronics, OFFSET_REPEATS)
    return _measured(electronics, dark, {"offset_repeats": OFFSET_REPEATS})


def calibrate_steady(electronics: LoopElectronics) -> CalibrationRecord:
    """The same after the emitters were held at the pedestal until its light stays; about a second.

    The null is the last hold's, so that mains average out of it too. settings `steady_codes`: by how much the
    light still moved from one hold to the next, worst row; above STEADY_CODES where that fell no further, as
    with noise or light that goes on drifting.
    """
    repeats = hold_repeats(electronics.spec)
    dark, moved, last = _pedestal(electronics, repeats), np.inf, np.inf
    holds = 1
    while moved > STEADY_CODES and (moved < FALLING * last or np.isinf(last)) and holds < MOST_HOLDS:
        before, dark, last = dark, _pedestal(electronics, repeats), moved
        moved, holds = float(np.abs(dark - before).max()), holds + 1
    return _measured(electronics, dark, {"offset_repeats": repeats * holds, "steady_codes": moved})


def hold_repeats(spec: LoopSpec) -> int:
    """Windows of one hold."""
    return max(1, round(HOLD_US / spec.window_us))


def usual_us(spec: LoopSpec) -> float:
    """How long `calibrate_steady` usually takes."""
    return USUAL_HOLDS * HOLD_US + 2 * spec.n_channels * WEIGHT_REPEATS * spec.window_us


def _pedestal(electronics: LoopElectronics, repeats: int) -> FloatArray:
    """Its light without a null, in offset codes [n]."""
    spec = electronics.spec
    electronics.set_offset_null(np.zeros(spec.n_channels, np.int64))
    dark = electronics.probe(np.zeros((1, spec.n_channels), np.int64), repeats=repeats)
    if dark.clipped.any():
        raise DeviceFault(
            f"the pedestal's light exceeds the photocurrent range on rows {np.flatnonzero(dark.clipped[0])}; "
            f"allowed: {spec.offset_dac.range_units:g} full-scale weights",
            device=electronics.name, operation="calibrate_open_loop",
        )  # fmt: skip
    return np.asarray(dark.counts[0], np.float64)


def _measured(
    electronics: LoopElectronics, dark: FloatArray, settings: Mapping[str, Scalar]
) -> CalibrationRecord:
    """The null set to that light, and the matrix probed."""
    spec = electronics.spec
    n, unit = spec.n_channels, spec.offset_dac.units_per_code
    null_codes = np.rint(dark).astype(np.int64)
    electronics.set_offset_null(null_codes)
    patterns = np.vstack([np.eye(n, dtype=np.int64), -np.eye(n, dtype=np.int64)]) * spec.probe_dac.max_code
    seen = electronics.probe(patterns, repeats=WEIGHT_REPEATS).counts * unit
    fractions = (seen[:n] - seen[n:]).T / 2.0  # differences cancel what is left of the offset
    return CalibrationRecord(
        kind="open loop",
        device_serial=electronics.open().serial,
        taken_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        arrays={
            "offset_units": dark * unit,
            "null_codes": null_codes.astype(np.float64),
            "effective_fractions": fractions,
        },
        settings={**settings, "weight_repeats": WEIGHT_REPEATS},
    )
