"""The fitted twin against its machine on probes that no record has seen.

Random biases, gains and leaks, a knob a row, on the dense frame; then the same on a frame that was never
probed, as training meets it. Model: the twin's state of rest. Estimator: see `labctl_calibration.agreement`,
of what the light adds to the states: what biases do by themselves would make any share look good.
Settle times of biases that were not used to fix the time constant, against the twin's.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from labctl.devices import LoopElectronics, LoopSpec, SettleCodes, WeightModulator
from labctl.physics import FittedLaw
from labctl.programs import encode_frame
from labctl_calibration.agreement import GATE, SETTLE_WITHIN, Agreement, agreement
from labctl_calibration.closed_loop import BIAS_UNITS, CLEAR_OF_RANGE, LOOP_GAIN, STEP_ID
from labctl_calibration.open_loop import calibrate_steady
from labctl_calibration.optical.dense import pose
from labctl_calibration.optical.durations import taking
from labctl_calibration.optical.twin import KINDS, FittedTwin
from labctl_calibration.panel_record import KIND as PANEL_KIND
from labctl_calibration.procedure import (
    Devices,
    FloatArray,
    Measured,
    Plot,
    Procedure,
    Quantity,
    Tell,
    Upstream,
    require,
)
from labctl_calibration.settling import BAND, REDRAWS, REPEATS, WAIT_TAU, settling_of, settling_patterns

KIND = "fitted twin (agreement)"
SHARE, SHARE_UNSEEN, SETTLE_RATIO = (
    "variance predicted",
    "of a frame never probed",
    "settle time, of predicted",
)
PROBES = 512
SEED, SETTLE_SEED, FRAME_SEED = 909, 910, 911
SETTLE_PATTERNS = 48
GAINS, LEAKS = (1 / 3, 1.0), (0.6, 1.0)  # of half the gain of oscillation, and of full leak
ZEROS = 0.5  # share of the unseen frame's weights, as networks leave them
DAY_S = 86400.0


def measure_agreement(devices: Devices, upstream: Upstream, tell: Tell) -> Measured:
    """Probe, predict, compare; DeviceFault where too few probes stay clear of the converter's range."""
    modulator, electronics = devices.get(WeightModulator), devices.get(LoopElectronics)
    panel, n = require(upstream, PANEL_KIND), electronics.spec.n_channels
    pose(devices, panel)
    twin = FittedTwin(electronics.spec, modulator.spec, upstream)
    found, signal = _probed(electronics, twin, twin.loop.light.powers[0].numpy(), None)
    ratio, ratio_sd, seen_us, predicted_us = _settled(electronics, twin)
    devices.posed = ""  # from here on another frame is shown
    rng = np.random.Generator(np.random.Philox(key=FRAME_SEED + n))
    weights = rng.uniform(-1, 1, (n, n)) * (rng.random((n, n)) >= ZEROS)
    modulator.show(encode_frame(weights, modulator.spec, panel).levels)
    calibrate_steady(electronics)
    unseen, _ = _probed(electronics, twin, weights, torch.from_numpy(weights))
    worst = float(found.channels.min())
    return Measured(
        kind=KIND,
        arrays={"share": found.channels, "share_unseen": unseen.channels},
        quantities=(
            Quantity(SHARE, 100 * found.share, 100 * found.sd, "%", low=100 * GATE,
                     words="of what light adds, live channels, held-out probes, noise subtracted"),
            Quantity("of the worst channel", 100 * worst, np.nan, "%"),
            Quantity(SHARE_UNSEEN, 100 * unseen.share, 100 * unseen.sd, "%", low=100 * GATE,
                     words="what training on weights of one's own rests on"),
            Quantity(SETTLE_RATIO, ratio, ratio_sd, "", 1 - SETTLE_WITHIN, 1 + SETTLE_WITHIN,
                     words="p95 of biases not used to fix the time constant"),
            Quantity("time constant", twin.tau_us, np.nan, "µs"),
        ),
        settings={"probes": PROBES, "settle_patterns": SETTLE_PATTERNS},
        findings=(
            f"the fitted twin predicts {100 * found.share:.2f}% of the variance of held-out probes, "
            f"{100 * unseen.share:.2f}% on a frame never probed; settle times are {ratio:.3f} of predicted",
        ),
        plots=(
            Plot("Held-out probes", *signal, "predicted light (units)", "measured (units)"),
            Plot("Settle times", predicted_us, seen_us, "predicted (us)", "measured (us)"),
        ),
    )  # fmt: skip


def _probed(
    electronics: LoopElectronics, twin: FittedTwin, weights: FloatArray, shown: torch.Tensor | None
) -> tuple[Agreement, tuple[FloatArray, FloatArray]]:
    """Agreement over live channels; predicted and measured values, one a probe, for a plot."""
    spec = electronics.spec
    codes = held_out(spec, weights * twin.full_scale_units)
    runs = run_twice(electronics, codes)
    law = law_of(twin, codes, shown)
    predicted = law.rest().detach().numpy()
    alone = (law.bias / law.leak).numpy()  # states without light, which are no feat to predict
    limit = CLEAR_OF_RANGE * spec.adc.range_units
    inside = np.all([np.abs(z).max(axis=1) < limit for z in (*runs, predicted)], axis=0)
    first, second, predicted = ((z - alone)[inside][:, twin.live] for z in (*runs, predicted))
    at = np.arange(len(first)), np.arange(len(first)) % first.shape[1]
    return agreement(first, second, predicted), (predicted[at], first[at])


def law_of(twin: FittedTwin, codes: SettleCodes, shown: torch.Tensor | None = None) -> FittedLaw:
    """The twin's law with the knobs as they were set; shown [n, n] are the fractions of another frame."""
    spec = twin.spec
    bias, gain, leak = (
        torch.from_numpy(values)
        for values in (
            codes.bias * spec.dac.units_per_code,
            spec.hidden_gain.value(codes.gain),
            codes.leak / spec.max_leak_code,
        )
    )
    return twin.as_set(bias, gain, leak, shown)


def held_out(spec: LoopSpec, weights: FloatArray, seed: int = SEED) -> SettleCodes:
    """Random knobs of every row; weights [n, n] in the units of a probe."""
    shape = (PROBES, spec.n_channels)
    rng = np.random.Generator(np.random.Philox(key=seed))
    slowest = float(np.abs(np.linalg.eigvals(weights)).max())
    half = LOOP_GAIN * LEAKS[0] / max(slowest, 1e-3)
    bias = rng.uniform(-BIAS_UNITS, BIAS_UNITS, shape) * rng.uniform(0.1, 1.0, (PROBES, 1)) * LEAKS[0]
    return SettleCodes(
        bias=np.rint(bias / spec.dac.units_per_code).astype(np.int64),
        gain=spec.hidden_gain.code(half * rng.uniform(*GAINS, shape)),
        leak=np.rint(rng.uniform(*LEAKS, shape) * spec.max_leak_code).astype(np.int64),
        gain_range=np.ones(shape[1], np.int64),
        start=np.zeros(shape, np.int64),
        step_id=STEP_ID + 9,
        sample_id=np.arange(PROBES),
    )


def run_twice(electronics: LoopElectronics, codes: SettleCodes) -> tuple[FloatArray, FloatArray]:
    """States [P, n] (units) of all probes, and of all of them once more."""
    spec = electronics.spec
    again = replace(codes, sample_id=codes.sample_id + len(codes.sample_id))
    first, second = (
        electronics.settle(one, wait_us=WAIT_TAU * spec.tau_us).counts * spec.adc.units_per_code
        for one in (codes, again)
    )
    return first, second


def _settled(electronics: LoopElectronics, twin: FittedTwin) -> tuple[float, float, FloatArray, FloatArray]:
    """Measured over predicted p95 of settle times with its standard error, and both [P] (us)."""
    spec = electronics.spec
    light = twin.loop.light.powers[0].numpy() * twin.full_scale_units
    bias, code = settling_patterns(spec, light, seed=SETTLE_SEED, count=SETTLE_PATTERNS)
    seen = settling_of(electronics, bias, code, STEP_ID + 10).settle_us
    law = twin.as_set(
        torch.from_numpy(bias * spec.dac.units_per_code), torch.from_numpy(spec.hidden_gain.value(code)), 1.0
    )
    predicted = twin.settle_us(law, BAND * spec.adc.range_units)
    both = np.isfinite(seen) & np.isfinite(predicted)
    seen, predicted = seen[both], predicted[both]

    def ratio(keep: NDArray[np.int64]) -> float:
        return float(np.quantile(seen[keep], 0.95) / np.quantile(predicted[keep], 0.95))

    rng = np.random.Generator(np.random.Philox(key=SETTLE_SEED + 1))
    drawn = [ratio(rng.integers(0, len(seen), len(seen))) for _ in range(REDRAWS)]
    return ratio(np.arange(len(seen))), float(np.std(drawn, ddof=1)), seen, predicted


def _duration_s(devices: Devices) -> float:
    wait_us = WAIT_TAU * devices.get(LoopElectronics).spec.tau_us
    settles = 4 * PROBES + SETTLE_PATTERNS * REPEATS
    return taking(frames=1, settles=settles, wait_us=wait_us, nulls=1)(devices)


AGREEMENT = Procedure(
    name="twin", kind=KIND, title="the fitted twin", needs=KINDS, device=LoopElectronics,
    roles=(WeightModulator, LoopElectronics), validity_s=DAY_S,
    notices=("records that predict something else than this bench does",),
    duration_s=_duration_s, measure=measure_agreement, essential=False,
)  # fmt: skip
