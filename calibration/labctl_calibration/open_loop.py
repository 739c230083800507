"""What depends on the displayed weights, measured with the loop open: offset null and effective weights.

States ride on a pedestal b: the detectors see W s + b W 1. The offset b W 1 is measured with phi = 0 and
nulled before the gain; then one probe pattern a channel gives the columns of the effective matrix.
"""

from __future__ import annotations

import datetime

import numpy as np

from labctl.devices import CalibrationRecord, DeviceFault, LoopElectronics

OFFSET_REPEATS = 256
WEIGHT_REPEATS = 64


def calibrate_open_loop(electronics: LoopElectronics) -> CalibrationRecord:
    """Null the offsets and probe the matrix; about 60 ms of device time at 48 channels.

    The record holds `offset_units` [n] (photocurrent of a full-scale weight at phi = 1), `null_codes` [n] and
    `effective_fractions` [n, n] (rows are outputs). Raises DeviceFault where the light exceeds the range.
    """
    spec = electronics.spec
    n, unit = spec.n_channels, spec.offset_dac.units_per_code
    electronics.set_offset_null(np.zeros(n, np.int64))
    dark = electronics.probe(np.zeros((1, n), np.int64), repeats=OFFSET_REPEATS)
    if dark.clipped.any():
        raise DeviceFault(
            f"the pedestal's light exceeds the photocurrent range on rows {np.flatnonzero(dark.clipped[0])}; "
            f"allowed: {spec.offset_dac.range_units:g} full-scale weights",
            device=electronics.name, operation="calibrate_open_loop",
        )  # fmt: skip
    null_codes = np.rint(dark.counts[0]).astype(np.int64)
    electronics.set_offset_null(null_codes)
    amplitude = spec.probe_dac.max_code
    patterns = np.vstack([np.eye(n, dtype=np.int64), -np.eye(n, dtype=np.int64)]) * amplitude
    seen = electronics.probe(patterns, repeats=WEIGHT_REPEATS).counts * unit
    fractions = (seen[:n] - seen[n:]).T / 2.0  # differences cancel what is left of the offset
    return CalibrationRecord(
        kind="open loop",
        device_serial=electronics.open().serial,
        taken_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        arrays={
            "offset_units": dark.counts[0] * unit,
            "null_codes": null_codes.astype(np.float64),
            "effective_fractions": fractions,
        },
        settings={"offset_repeats": OFFSET_REPEATS, "weight_repeats": WEIGHT_REPEATS},
    )
