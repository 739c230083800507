"""The golden sample: one small protocol, always the same, whose end tells whether the bench is what it was.

Protocol: the dense frame on display; `STARTS` fixed starts go through `STEPS` settles, each with a bias made
of the state before: b = KEEP z + c, as a chain of implicit steps does. The metric is the distance of the end
states to those that the records predict, % of full scale, rms; the golden vector is the mean end states
themselves, kept with every calibration. Uncertainty: scatter between repeats of the whole protocol.

Control limits come from the metric's history: median +- `SIGMAS` times its scatter (a median absolute
deviation, or what the single values state, whichever is larger).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from labctl.devices import LoopElectronics, WeightModulator
from labctl_calibration.known_answers import WORST_ANSWER
from labctl_calibration.optical.durations import taking
from labctl_calibration.optical.settles import DRAWS, POSED_NEEDS, Posed, posed
from labctl_calibration.procedure import (
    Devices,
    FloatArray,
    Measured,
    Plot,
    Procedure,
    Quantity,
    Tell,
    Upstream,
)
from labctl_calibration.repeats import standard_error
from labctl_calibration.store import Stored

KIND, METRIC = "golden sample", "golden distance"
STARTS, STEPS, REPEATS = 16, 4, 24
KEEP, BIAS_UNITS = 0.5, 1.5
SIGMAS = 3.0
FEWEST = 3  # values of a history from which limits can be told
MAD = 1.4826  # standard deviation of a normal, in median absolute deviations
DAY_S = 86400.0


@dataclass(frozen=True)
class Limits:
    """Lower and upper control limit of the metric, its median, and of how many values."""

    low: float
    high: float
    middle: float
    count: int

    def hold(self, value: float) -> bool:
        """Whether a value lies within."""
        return bool(self.low <= value <= self.high)


def control_limits(values: Sequence[float], sds: Sequence[float]) -> Limits | None:
    """Of a history of the metric; None of fewer than `FEWEST` values."""
    if len(values) < FEWEST:
        return None
    middle = float(np.median(values))
    spread = max(MAD * float(np.median(np.abs(np.asarray(values) - middle))), float(np.median(sds)))
    return Limits(middle - SIGMAS * spread, middle + SIGMAS * spread, middle, len(values))


def limits_of(stored: Sequence[Stored], device_serial: str) -> Limits | None:
    """From the golden samples of one device among records."""
    kept = [one for one in stored if one.record.kind == KIND and one.record.device_serial == device_serial]
    found = [q for one in kept if (q := one.about.quantity(METRIC)) is not None]
    return control_limits([q.value for q in found], [q.sd for q in found])


def _measure(devices: Devices, upstream: Upstream, tell: Tell) -> Measured:
    machine = posed(devices, upstream)
    z, predicted = _run(machine, tell)
    full = machine.electronics.spec.adc.range_units
    away = 100 * np.sqrt(((z - predicted) ** 2).mean(axis=(1, 2))) / full
    vector = z.mean(axis=0)
    scatter = z.std(axis=0, ddof=1)
    metric = float(away.mean())
    return Measured(
        kind=KIND,
        arrays={
            "golden_units": vector,
            "golden_units_sd": standard_error(z),
            "predicted_units": predicted,
        },
        quantities=(
            Quantity(METRIC, metric, float(standard_error(away)), "%",
                     high=3 * 100 * WORST_ANSWER, words="of full scale, rms, to what the records predict"),
            Quantity("golden repeatability", 100 * float(np.sqrt((scatter**2).mean())) / full,
                     100 * float(np.sqrt((scatter**2).mean() / (2 * scatter.size * (REPEATS - 1)))) / full,
                     "%", words="of full scale, rms, from one time to the next"),
        ),
        settings={"starts": STARTS, "steps": STEPS, "repeats": REPEATS, "gain": machine.gain},
        findings=(f"the golden sample ends {metric:.3f}% of full scale from what the records predict",),
        plots=(
            Plot("Golden sample", predicted.reshape(-1), vector.reshape(-1), "predicted (units)",
                 "measured (units)"),
        ),
    )  # fmt: skip


def _run(machine: Posed, tell: Tell) -> tuple[FloatArray, FloatArray]:
    """End states of the protocol in units: measured [REPEATS, STARTS, n], and by the records [STARTS, n]."""
    spec = machine.electronics.spec
    n = spec.n_channels
    rng = np.random.Generator(np.random.Philox(key=1212))
    constant = rng.uniform(-BIAS_UNITS, BIAS_UNITS, (STARTS, n))
    z, predicted = np.zeros((REPEATS, STARTS, n)), np.zeros((STARTS, n))
    for k in range(STEPS):
        tell("golden sample", k, STEPS)
        bias = np.rint((KEEP * z + constant) / spec.dac.units_per_code).astype(np.int64).reshape(-1, n)
        z = machine.settle(bias, draw=DRAWS + 4 + k).reshape(REPEATS, STARTS, n)
        predicted = machine.law(KEEP * predicted + constant).rest().numpy()
    return z, predicted


GOLDEN = Procedure(
    name="golden", kind=KIND, title="golden sample", needs=POSED_NEEDS,
    device=LoopElectronics, roles=(WeightModulator, LoopElectronics), validity_s=DAY_S,
    notices=("a bench that is not what it was", "a device that was swapped", "a row that died"),
    duration_s=taking(settles=STARTS * STEPS * REPEATS), measure=_measure, essential=False,
)  # fmt: skip
