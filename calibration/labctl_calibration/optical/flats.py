"""Input and output flats: how much light each emitter gives, and how much of it each output turns to current.

Model: slope[out, in] of a sign path with every cell open = f_in f_out (1 + cell), cell zero on average over
rows and over columns. Estimator: one-hot slopes at phi = +-1, round after round; in logarithms, means over
rows and columns of the live channels. Scales cannot be separated: both flats have mean logarithm zero (the
gauge), and what is over is the path's own slope. Uncertainty: scatter between rounds.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from labctl.devices import DeviceFault, LoopElectronics, WeightModulator
from labctl_calibration.optical.panel_procedures import EMITTERS
from labctl_calibration.probing import Probing
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
from labctl_calibration.repeats import standard_error

KIND = "flats"
ROUNDS = 24
DIMMEST = 0.2  # of the median: a channel that was live and gives less has died or faded meanwhile
DAY_S = 86400.0


def flats_of(slopes: FloatArray) -> tuple[FloatArray, FloatArray, float, FloatArray]:
    """(input flat, output flat, slope of the path, what cells differ by) of slopes [out, in] above zero."""
    logs = np.log(slopes)
    mean = float(logs.mean())
    inputs, outputs = logs.mean(axis=0) - mean, logs.mean(axis=1) - mean
    left = logs - mean - inputs - outputs[:, None]
    return np.exp(inputs), np.exp(outputs), float(np.exp(mean)), left


def _measure(devices: Devices, upstream: Upstream, tell: Tell) -> Measured:
    probing = Probing(devices.get(WeightModulator), devices.get(LoopElectronics))
    dead = require(upstream, EMITTERS).array("dead_channels") > 0
    n, top, lives = probing.spec.n_channels, probing.panel.n_levels - 1, np.flatnonzero(~dead)
    inputs, inputs_sd = np.ones((2, n)), np.zeros((2, n))
    outputs, outputs_sd = np.ones((2, n)), np.zeros((2, n))
    scale, cells = np.zeros(2), np.zeros(2)
    for path in (0, 1):
        tell("flats", path, 2)
        probing.show_half(path, top)
        seen = np.stack([probing.slopes() for _ in range(ROUNDS)])[:, :, lives]
        if np.median(seen) < 0:
            seen = -seen  # the path's own sign
        mean = seen.mean(axis=0)
        _require_light(probing, mean, lives)
        inputs[path, lives], outputs[path], scale[path], left = flats_of(mean)
        rounds = [flats_of(one) for one in seen.clip(1e-3 * np.median(mean))]  # noise is common to outputs
        inputs_sd[path, lives] = standard_error(np.stack([one[0] for one in rounds]))
        outputs_sd[path] = standard_error(np.stack([one[1] for one in rounds]))
        cells[path] = float(np.sqrt((left**2).mean()))
    probing.show_half(0, 0)
    channels = np.arange(n, dtype=np.float64)
    return Measured(
        kind=KIND,
        arrays={
            "input_flat": inputs,
            "input_flat_sd": inputs_sd,
            "output_flat": outputs,
            "output_flat_sd": outputs_sd,
            "path_slope_units": scale,
            "dead_channels": dead.astype(np.float64),
        },
        quantities=tuple(
            quantity
            for path, sign in enumerate(("positive", "negative"))
            for quantity in (
                Quantity(f"{sign} path, slope", float(scale[path]), np.nan, "units",
                         words="of a cell, geometric mean"),
                Quantity(f"{sign} path, inputs", 100 * float(inputs[path, lives].std()), np.nan, "%",
                         words="spread of the input flat"),
                Quantity(f"{sign} path, outputs", 100 * float(outputs[path].std()), np.nan, "%",
                         words="spread of the output flat"),
                Quantity(f"{sign} path, cells", 100 * float(cells[path]), np.nan, "%",
                         words="rms, beside both flats"),
            )
        ),
        settings={"rounds": ROUNDS},
        findings=(
            f"inputs are within {100 * inputs[:, lives].std():.0f}% of each other, outputs within "
            f"{100 * outputs.std():.0f}%, cells beside that within {100 * cells.max():.1f}% (rms)",
        ),
        plots=(
            Plot("Input flat, positive path", channels, inputs[0], "input channel", "of the mean",
                 sd=inputs_sd[0]),
            Plot("Output flat, positive path", channels, outputs[0], "output channel", "of the mean",
                 sd=outputs_sd[0]),
        ),
    )  # fmt: skip


def _require_light(probing: Probing, slopes: FloatArray, lives: NDArray[np.int64]) -> None:
    """DeviceFault where an input, an output or a cell of slopes [out, live inputs] gives next to nothing."""
    columns, rows = probing.wiring.channel_of_column, probing.wiring.channel_of_row

    def fault(what: str) -> DeviceFault:
        return DeviceFault(what, device=probing.electronics.name, operation="flats")

    by_input, by_output = slopes.mean(axis=0), slopes.mean(axis=1)
    weak = np.flatnonzero(by_input < DIMMEST * np.median(by_input))
    if len(weak):
        raise fault(
            f"input channel {columns[lives[weak[0]]]} was live and now gives "
            f"{100 * by_input[weak[0]] / np.median(by_input):.0f}% of the median's light; allowed: "
            f"{100 * DIMMEST:.0f}% or more; has it died?"
        )
    faint = np.flatnonzero(by_output < DIMMEST * np.median(by_output))
    if len(faint):
        raise fault(
            f"output {rows[faint[0]]} sees {100 * by_output[faint[0]] / np.median(by_output):.0f}% of "
            f"the median's light through open cells; allowed: {100 * DIMMEST:.0f}% or more"
        )
    if not slopes.min() > 0:
        row, column = np.unravel_index(int(slopes.argmin()), slopes.shape)
        raise fault(
            f"no light of input channel {columns[lives[column]]} reaches output {rows[row]} through its "
            "open cell; allowed: some"
        )


def _duration_s(devices: Devices) -> float:
    panel, loop = devices.get(WeightModulator).spec, devices.get(LoopElectronics).spec
    return 1e-6 * (3 * panel.settle_time_us + 4 * ROUNDS * loop.n_channels * loop.window_us)


FLATS = Procedure(
    name="flats", kind=KIND, title="input and output flats", needs=(EMITTERS,), device=LoopElectronics,
    roles=(WeightModulator, LoopElectronics), validity_s=7 * DAY_S,
    notices=("a channel that died meanwhile", "an output that sees no light"),
    duration_s=_duration_s, measure=_measure, essential=False,
)  # fmt: skip
