"""Crosstalk between outputs, and the balance of the two signs.

Model: with the cells of output o alone open on one path, output o + d reads a share of what o reads: light
that spills over on the way, and detectors that see their neighbours. Estimator: every sixth output is opened
at full scale, the rest dark, all emitters on; the same with everything dark is subtracted; shares at d = -1,
1, 2, and the median farther off. Balance of a row: (plus + minus) / (plus - minus) of its readings, equal
weights asked of both paths. What the panel's record corrects is corrected, but for the detectors' view of
their neighbours, which is what is measured. Uncertainty: scatter of the probes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from labctl.devices import CalibrationRecord, DeviceFault, LoopElectronics, WeightModulator
from labctl.programs import by_cell, encode_frame
from labctl_calibration.panel_record import KIND as PANEL_KIND
from labctl_calibration.probing import Probing
from labctl_calibration.procedure import Devices, Measured, Plot, Procedure, Quantity, Tell, Upstream, require

FloatArray = NDArray[np.float64]
KIND = "crosstalk and balance"
EVERY = 6  # outputs from one that is open to the next
NEAR = (-1, 1, 2)  # neighbours whose light is looked at one by one
PROBES = 512  # of each frame: a period or more of what panels flicker by
DRIVE = 0.5  # of full emitter drive
LEAST_OWN = 0.2  # of the median, of an output's own cells
MOST_UNBALANCED = 10.0  # %, rms
MOST_CROSSTALK = 50.0  # % of the open output's light
DAY_S = 86400.0


@dataclass(frozen=True, eq=False)
class _Light:
    """What outputs read with one of EVERY open, and standard errors, path by path: of its own cells [2, n]
    (units), and as shares of that what its neighbours at NEAR read [2, n, 3], nan beyond the edge; far:
    shares of outputs half way to the next open one.
    """

    own: FloatArray
    own_sd: FloatArray
    share: FloatArray
    share_sd: FloatArray
    far: FloatArray

    @property
    def balance(self) -> tuple[FloatArray, FloatArray]:
        """(plus - minus) / (plus + minus) of each row [n], and its standard deviation."""
        (plus, minus), (plus_sd, minus_sd) = self.own, self.own_sd
        total = plus + minus
        return (plus - minus) / total, 2 * np.hypot(minus * plus_sd, plus * minus_sd) / total**2


def _measure(devices: Devices, upstream: Upstream, tell: Tell) -> Measured:
    light = _seen(devices, _uncorrected(by_cell(require(upstream, PANEL_KIND))), tell)
    _require_own_light(light, devices.get(LoopElectronics).name)
    balance, balance_sd = light.balance
    near = np.nan_to_num(light.share)
    rms, worst = float(np.sqrt((balance**2).mean())), int(np.abs(balance).argmax())
    where = np.unravel_index(int(near.argmax()), near.shape)
    channels = np.arange(len(balance), dtype=np.float64)
    next_to, far = 100 * float(np.nanmedian(light.share[:, :, :2])), light.far
    return Measured(
        kind=KIND,
        arrays={
            "neighbour_share": near,
            "neighbour_share_sd": np.nan_to_num(light.share_sd),
            "sign_balance": balance,
            "sign_balance_sd": balance_sd,
            "own_light_units": light.own,
        },
        quantities=(
            Quantity("crosstalk, largest", 100 * float(near[where]), 100 * float(light.share_sd[where]), "%",
                     high=MOST_CROSSTALK, words=f"of output {where[1]} in its neighbour"),
            Quantity("crosstalk, next output", next_to, np.nan, "%", words="median"),
            Quantity("crosstalk, far", 100 * float(np.median(far)), 100 * float(
                np.std(far) / np.sqrt(len(far))), "%", words=f"median of outputs {EVERY // 2} away"),
            Quantity("sign balance", 100 * rms, 100 * float(np.sqrt((balance_sd**2).mean() / len(balance))),
                     "%", high=MOST_UNBALANCED, words="rms of the rows; 0 where both paths give alike"),
            Quantity("sign balance, worst row", 100 * float(balance[worst]),
                     100 * float(balance_sd[worst]), "%", words=f"output {worst}"),
        ),
        settings={"probes": PROBES},
        findings=(
            f"an output's light in its neighbour: {next_to:.1f}% (median), "
            f"{100 * near[where]:.0f}% at most; the signs differ by {100 * rms:.1f}% rms",
        ),
        plots=(
            Plot("Crosstalk into the next output, positive path", channels, near[0, :, 1], "output channel",
                 "share"),
            Plot("Sign balance", channels, balance, "output channel", "balance", sd=balance_sd),
        ),
    )  # fmt: skip


def _seen(devices: Devices, panel: CalibrationRecord, tell: Tell) -> _Light:
    """Open one output of EVERY on each path in turn; the panel is dark in the end."""
    modulator = devices.get(WeightModulator)
    probing = Probing(modulator, devices.get(LoopElectronics))
    n = probing.spec.n_channels

    def seen(fractions: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Mean reading [n] and its standard error."""
        probing.show(encode_frame(fractions, modulator.spec, panel).levels)
        read = probing.probe(np.full((PROBES, n), DRIVE))
        return read.mean(axis=0), read.std(axis=0, ddof=1) / np.sqrt(PROBES)

    dark, dark_sd = seen(np.zeros((n, n)))
    own, own_sd = np.zeros((2, n)), np.zeros((2, n))
    share, share_sd = np.full((2, n, 3), np.nan), np.full((2, n, 3), np.nan)
    far: list[float] = []
    for path, sign in enumerate((1.0, -1.0)):
        for first in range(EVERY):
            tell("crosstalk", path * EVERY + first, 2 * EVERY)
            rows = np.arange(first, n, EVERY)
            fractions = np.zeros((n, n))
            fractions[rows] = sign
            read, read_sd = seen(fractions)
            light, error = sign * (read - dark), np.hypot(read_sd, dark_sd)
            own[path, rows], own_sd[path, rows] = light[rows], error[rows]
            for k, step in enumerate(NEAR):
                to = rows + step
                use = (to >= 0) & (to < n)
                share[path, rows[use], k] = light[to[use]] / light[rows[use]]
                share_sd[path, rows[use], k] = error[to[use]] / np.abs(light[rows[use]])
            away = (np.arange(n)[:, None] - rows[None]) % n
            distant = np.minimum(away, n - away).min(axis=1) >= EVERY // 2
            far += list(light[distant] / np.median(light[rows]))
    modulator.show(np.zeros(modulator.spec.shape_px, np.uint16))
    return _Light(own, own_sd, share, share_sd, np.array(far))


def _require_own_light(light: _Light, name: str) -> None:
    """DeviceFault where an output hardly reads its own cells."""
    own = light.own
    weak = np.argwhere(own < LEAST_OWN * np.median(own, axis=1, keepdims=True))
    if len(weak) or np.median(own) <= 0:
        path, row = (int(v) for v in (weak[0] if len(weak) else (0, 0)))
        raise DeviceFault(
            f"output {row} reads {own[path, row]:.3g} units of its own cells on the "
            f"{'positive' if path == 0 else 'negative'} path, the median {np.median(own[path]):.3g}; "
            f"allowed: {100 * LEAST_OWN:.0f}% of that or more; are the sign planes swapped?",
            device=name, operation="crosstalk",
        )  # fmt: skip


def _uncorrected(panel: CalibrationRecord) -> CalibrationRecord:
    """The panel's record as if detectors saw only their own outputs: frames by it leave their crosstalk."""
    if "neighbour_share" not in panel.arrays:
        return panel
    none = np.zeros_like(panel.array("neighbour_share"))
    return replace(panel, arrays={**panel.arrays, "neighbour_share": none})


def _duration_s(devices: Devices) -> float:
    panel, loop = devices.get(WeightModulator).spec, devices.get(LoopElectronics).spec
    frames = 2 * EVERY + 1
    return 1e-6 * ((frames + 1) * panel.settle_time_us + frames * PROBES * loop.window_us)


CROSSTALK = Procedure(
    name="crosstalk", kind=KIND, title="crosstalk and sign balance", needs=(PANEL_KIND,),
    device=LoopElectronics, roles=(WeightModulator, LoopElectronics), validity_s=7 * DAY_S,
    notices=("outputs that see their neighbours", "signs that are not alike", "swapped sign planes"),
    duration_s=_duration_s, measure=_measure, essential=False,
)  # fmt: skip
