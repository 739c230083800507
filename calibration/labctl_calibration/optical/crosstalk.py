"""Crosstalk between outputs, and the balance of the two signs.

Model: with the cells of output o alone open on one path, output o + d reads a share of what o reads: light
that spills over on the way, and detectors that see their neighbours. Estimator: every sixth output is opened
at full scale, the rest dark, all emitters on; the same with everything dark is subtracted; shares at d = -1,
1, 2, and the median farther off. Balance of a row: (plus + minus) / (plus - minus) of its readings, equal
weights asked of both paths. What the panel's record corrects is corrected, but for the detectors' view of
their neighbours, which is what is measured. The two paths take turns, and all frames go round again: what
flickers and drifts from frame to frame is in the scatter between rounds, which is the uncertainty.
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
from labctl_calibration.repeats import standard_error

FloatArray = NDArray[np.float64]
KIND = "crosstalk and balance"
EVERY = 6  # outputs from one that is open to the next
NEAR = (-1, 1, 2)  # neighbours whose light is looked at one by one
ROUNDS = 4
PROBES = 512  # of each frame and round: a period or more of what panels flicker by
DRIVE = 0.5  # of full emitter drive
LEAST_OWN = 0.2  # of the median, of an output's own cells
MOST_UNBALANCED = 10.0  # %, rms
MOST_CROSSTALK = 50.0  # % of the open output's light
DAY_S = 86400.0


@dataclass(frozen=True, eq=False)
class _Light:
    """What outputs read with one of EVERY open, round by round and path by path: own, of their own cells
    [R, 2, n] (units); share, of that what neighbours at NEAR read [R, 2, n, 3], nan beyond the edge; far, of
    that what outputs half way to the next open one read, of all rounds.
    """

    own: FloatArray
    share: FloatArray
    far: FloatArray

    @property
    def balance(self) -> FloatArray:
        """(plus - minus) / (plus + minus) of each row [R, n]."""
        plus, minus = self.own[:, 0], self.own[:, 1]
        return np.asarray((plus - minus) / (plus + minus))


def _measure(devices: Devices, upstream: Upstream, tell: Tell) -> Measured:
    light = _seen(devices, _uncorrected(by_cell(require(upstream, PANEL_KIND))), tell)
    _require_own_light(light, devices.get(LoopElectronics).name)
    balance, balance_sd = light.balance.mean(axis=0), standard_error(light.balance)
    share, share_sd = light.share.mean(axis=0), np.nan_to_num(standard_error(light.share))
    near = np.nan_to_num(share)
    rms, worst = float(np.sqrt((balance**2).mean())), int(np.abs(balance).argmax())
    where = np.unravel_index(int(near.argmax()), near.shape)
    channels = np.arange(len(balance), dtype=np.float64)
    next_to, far = 100 * float(np.nanmedian(share[:, :, :2])), light.far
    return Measured(
        kind=KIND,
        arrays={
            "neighbour_share": near,
            "neighbour_share_sd": share_sd,
            "sign_balance": balance,
            "sign_balance_sd": balance_sd,
            "own_light_units": light.own.mean(axis=0),
        },
        quantities=(
            Quantity("crosstalk, largest", 100 * float(near[where]), 100 * float(share_sd[where]), "%",
                     high=MOST_CROSSTALK, words=f"of output {where[1]} in its neighbour"),
            Quantity("crosstalk, next output", next_to, np.nan, "%", words="median"),
            Quantity("crosstalk, far", 100 * float(np.median(far)), 100 * float(
                np.std(far) / np.sqrt(len(far))), "%", words=f"median of outputs {EVERY // 2} away"),
            Quantity("sign balance", 100 * rms, 100 * float(np.sqrt((balance_sd**2).mean() / len(balance))),
                     "%", high=MOST_UNBALANCED, words="rms of the rows; 0 where both paths give alike"),
            Quantity("sign balance, worst row", 100 * float(balance[worst]),
                     100 * float(balance_sd[worst]), "%", words=f"output {worst}"),
        ),
        settings={"rounds": ROUNDS, "probes": PROBES},
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

    def seen(rows: NDArray[np.int64], sign: float) -> FloatArray:
        """Mean reading [n] with the cells of these outputs open."""
        fractions = np.zeros((n, n))
        fractions[rows] = sign
        probing.show(encode_frame(fractions, modulator.spec, panel).levels)
        return np.asarray(probing.probe(np.full((PROBES, n), DRIVE)).mean(axis=0))

    own, share = np.zeros((ROUNDS, 2, n)), np.full((ROUNDS, 2, n, len(NEAR)), np.nan)
    far: list[float] = []
    for k in range(ROUNDS):
        tell("crosstalk", k, ROUNDS)
        dark = seen(np.arange(0), 0.0)
        for first in range(EVERY):
            rows = np.arange(first, n, EVERY)
            away = (np.arange(n)[:, None] - rows[None]) % n
            distant = np.minimum(away, n - away).min(axis=1) >= EVERY // 2
            for path, sign in enumerate((1.0, -1.0)):
                light = sign * (seen(rows, sign) - dark)
                own[k, path, rows] = light[rows]
                far += list(light[distant] / np.median(light[rows]))
                for at, step in enumerate(NEAR):
                    to = rows + step
                    use = (to >= 0) & (to < n)
                    share[k, path, rows[use], at] = light[to[use]] / light[rows[use]]
    modulator.show(np.zeros(modulator.spec.shape_px, np.uint16))
    return _Light(own, share, np.array(far))


def _require_own_light(light: _Light, name: str) -> None:
    """DeviceFault where an output hardly reads its own cells."""
    own = light.own.mean(axis=0)
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
    frames = ROUNDS * (2 * EVERY + 1)
    return 1e-6 * ((frames + 1) * panel.settle_time_us + frames * PROBES * loop.window_us)


CROSSTALK = Procedure(
    name="crosstalk", kind=KIND, title="crosstalk and sign balance", needs=(PANEL_KIND,),
    device=LoopElectronics, roles=(WeightModulator, LoopElectronics), validity_s=7 * DAY_S,
    notices=("outputs that see their neighbours", "signs that are not alike", "swapped sign planes"),
    duration_s=_duration_s, measure=_measure, essential=False,
)  # fmt: skip
