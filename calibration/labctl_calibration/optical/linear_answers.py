"""Known answers of the linear machine: small biases, whose fixed points a matrix equation gives.

Model: about the rest point z0, where phi has slope D, the loop answers a small bias b with
(L - G P D)^-1 b: leaks L and gains G of the rows' record, weights P of the effective weights' record.
Estimator: half the difference of the states under +b and -b, mean over repeats: offsets and the curve's even
part drop out. Twice: against the matrix equation, which tests the records; and by superposition, the answer
to a + b against those to a and to b, which needs no record. Uncertainty: scatter between repeats.
"""

from __future__ import annotations

import numpy as np
import torch

from labctl.devices import DeviceFault, LoopElectronics, WeightModulator
from labctl_calibration.optical.durations import taking
from labctl_calibration.optical.settles import DRAWS, POSED_NEEDS, posed
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

KIND = "linear answers"
PAIRS, REPEATS = 16, 24  # pairs of biases a, b; each gives three patterns: a, b, a + b
BIAS_UNITS = 0.12
WAIT_TAU = 40.0
WORST = 5.0  # % of the answers
DAY_S = 86400.0


def _measure(devices: Devices, upstream: Upstream, tell: Tell) -> Measured:
    machine = posed(devices, upstream)
    electronics = machine.electronics
    spec, n = electronics.spec, electronics.spec.n_channels
    rng = np.random.Generator(np.random.Philox(key=1109))
    a, b = np.rint(rng.uniform(-1, 1, (2, PAIRS, n)) * BIAS_UNITS / 2 / spec.dac.units_per_code)
    patterns = np.stack([a, b, a + b]).reshape(-1, n)
    asked = np.concatenate([patterns, -patterns]).astype(np.int64)
    z = machine.settle(np.tile(asked, (REPEATS, 1)), draw=DRAWS + 3, wait_us=WAIT_TAU * spec.tau_us)
    z = z.reshape(REPEATS, 2, 3, PAIRS, n)
    answers = (z[:, 0] - z[:, 1]) / 2  # [REPEATS, 3, PAIRS, n]
    mean, sd = answers.mean(axis=0), standard_error(answers)
    size = float(np.sqrt((mean**2).mean()))
    still = np.flatnonzero(np.sqrt((mean**2).mean(axis=(0, 1))) < 0.1 * size)
    if len(still):
        raise DeviceFault(
            f"row {still[0]} does not answer small biases: "
            f"{np.sqrt((mean[:, :, still[0]] ** 2).mean()):.3g} units rms, all rows {size:.3g}; allowed: a "
            "tenth of that or more; has it died?",
            device=electronics.name, operation="linear answers",
        )  # fmt: skip
    rest = z.mean(axis=(0, 1, 2, 3))
    inner = machine.law(np.zeros((1, n))).curvature(torch.from_numpy(rest[None]))[0].numpy()
    condition = float(np.linalg.cond(inner))
    solved = np.linalg.solve(inner, (patterns * spec.dac.units_per_code).T).T
    predicted = np.asarray(solved.reshape(3, PAIRS, n), np.float64)
    missed, missed_sd = _relative(mean - predicted, sd, size)
    superposed, superposed_sd = _relative(mean[2] - mean[0] - mean[1], np.sqrt((sd**2).sum(axis=0)), size)
    return Measured(
        kind=KIND,
        arrays={"answer_units": mean, "answer_units_sd": sd, "predicted_units": predicted},
        quantities=(
            Quantity("linear answers missed by", missed, missed_sd, "%", high=WORST,
                     words="of the answers, rms, against the records"),
            Quantity("superposition missed by", superposed, superposed_sd, "%", high=WORST,
                     words="of the answers, rms, against themselves"),
        ),
        settings={"settles": len(asked) * REPEATS, "gain": machine.gain, "condition_number": condition},
        findings=(
            f"small biases are answered within {missed:.2g}% of the linear equations, and add up within "
            f"{superposed:.2g}%",
        ),
        plots=(
            Plot("Linear answers", predicted.reshape(-1), mean.reshape(-1), "predicted (units)",
                 "measured (units)"),
        ),
    )  # fmt: skip


def _relative(missed: FloatArray, sd: FloatArray, size: float) -> tuple[float, float]:
    """rms of what is missed less what its scatter explains, % of `size`; and its standard error."""
    square, noise = float((missed**2).mean()), float((sd**2).mean())
    error = float(np.sqrt((2 * sd**4 + 4 * sd**2 * np.maximum(missed**2 - sd**2, 0)).sum()) / sd.size)
    root = float(np.sqrt(max(square - noise, 0.0)))
    return 100 * root / size, 100 * error / (2 * max(root, np.sqrt(noise))) / size


LINEAR_ANSWERS = Procedure(
    name="linear-answers", kind=KIND, title="linear known answers", needs=POSED_NEEDS,
    device=LoopElectronics, roles=(WeightModulator, LoopElectronics), validity_s=DAY_S,
    notices=("records that do not describe this bench", "a device that was swapped", "a row that died",
             "a loop that does not add up"),
    duration_s=taking(settles=6 * PAIRS * REPEATS), measure=_measure, essential=False,
)  # fmt: skip
