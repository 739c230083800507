"""Temperature coefficients: every oscillator's frequency over the temperatures that the board passes through.

Nothing here heats: the board warms up, or the room swings, and frequencies are counted beside the board's
thermometer. Model: w_i(T) = w_i + k_i (T - mean T). Estimator: least squares; uncertainty from the counts'
own, or from the residuals where these are larger. Where the temperature does not change enough, slope and
detuning cannot be told apart.
"""

from __future__ import annotations

import math

import numpy as np

from labctl.devices import OscillatorBoard
from labctl_calibration.oscillators.frequency import COUNT_VARIANCE, gate_of
from labctl_calibration.oscillators.frequency import KIND as FREQUENCY_KIND
from labctl_calibration.procedure import (
    Devices,
    Measured,
    Plot,
    Procedure,
    Quantity,
    Tell,
    Unidentifiable,
    Upstream,
    require,
)

KIND = "oscillator temperature"
SPAN_C = 1.0  # enough
LEAST_SPAN_C = 0.2
MOST_S = 300.0  # of waiting for it
COUNTS = 24
MAX_CONDITION = 100.0
COEFFICIENT = "temperature coefficient"


def measure_temperature(devices: Devices, upstream: Upstream, tell: Tell) -> Measured:
    """Count while the temperature changes; raises Unidentifiable where it does not within five minutes."""
    board = devices.get(OscillatorBoard)
    spec = board.spec
    trims = require(upstream, FREQUENCY_KIND).array("trim_codes").astype(np.int64)
    gate_us, wait_us = gate_of(board), spec.gate_range_us[1]
    waits = max(1, round(MOST_S * 1e6 / COUNTS / wait_us))
    per_count = 1 / (spec.f0_hz * gate_us * 1e-6 * spec.eps)
    expected = spec.f0_hz * gate_us * 1e-6
    rows, degrees = [], []
    for done in range(COUNTS):
        tell("waiting for the temperature to change", done, COUNTS)
        before = board.temperature_c()
        counted = board.count_frequency(gate_us, trims)
        degrees.append((before + board.temperature_c()) / 2)
        rows.append((counted.counts - expected) * per_count)
        if done >= COUNTS // 2 and np.ptp(degrees) >= SPAN_C:
            break
        for _ in range(waits):  # a gate is the only way to wait that a board has
            board.count_frequency(wait_us, trims)
    units, temperature = np.array(rows), np.array(degrees)
    away = temperature - temperature.mean()
    spread = float(np.sqrt(np.mean(away**2)))
    # columns 1 and (T - mean T) in units of the least span that is enough
    condition = LEAST_SPAN_C / spread * 10 if spread > 0 else math.inf
    if np.ptp(temperature) < LEAST_SPAN_C:
        raise Unidentifiable(
            ("detuning", "temperature coefficient"), max(condition, MAX_CONDITION), MAX_CONDITION,
            device=board.name, operation="measure_temperature",
        )  # fmt: skip
    square = float((away**2).sum())
    slope = away @ units / square
    left = units - units.mean(axis=0) - np.outer(away, slope)
    count = len(temperature)
    counted_sd = math.sqrt(COUNT_VARIANCE) * per_count
    scatter = np.sqrt((left**2).sum(axis=0) / (count - 2))
    # residuals of one oscillator are few: of all together, or its own where that is far larger
    noise = np.where(scatter > 2 * counted_sd, scatter, max(counted_sd, float(np.sqrt(np.mean(scatter**2)))))
    sd = noise / math.sqrt(square)
    middle = int(np.abs(slope - np.median(slope)).argmin())
    return Measured(
        kind=KIND,
        arrays={"units_per_c": slope, "units_per_c_sd": sd},
        quantities=(
            Quantity(COEFFICIENT, float(slope.mean()), float(np.sqrt((sd**2).mean() / len(sd))),
                     "units a degree", words="mean over oscillators"),
            Quantity("span", float(np.ptp(temperature)), 0.0, "°C", LEAST_SPAN_C, None),
            Quantity("worst", float(np.abs(slope).max()), float(sd.max()), "units a degree", 0.0, 0.1),
        ),
        residuals={"detuning_units": scatter},
        settings={"counts": count, "gate_us": gate_us, "temperature_c": float(temperature.mean())},
        raw={"temperature_c": temperature, "detuning_units": units},
        plots=(
            Plot(f"Oscillator {middle} over temperature", temperature, units[:, middle], "°C", "units",
                 np.full(count, noise[middle]), units[:, middle].mean() + away * slope[middle]),
        ),
    )  # fmt: skip


def _duration_s(devices: Devices) -> float:
    del devices
    return MOST_S


TEMPERATURE = Procedure(
    name="temperature",
    kind=KIND,
    title="Temperature coefficients",
    needs=(FREQUENCY_KIND,),
    device=OscillatorBoard,
    roles=(OscillatorBoard,),
    validity_s=90 * 86_400.0,
    notices=("a temperature that does not change",),
    duration_s=_duration_s,
    measure=measure_temperature,
    essential=False,
)
