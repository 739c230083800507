"""Crosstalk between outputs, and the balance of the two signs.

Model: with the cells of output o alone open on one path, output o + d reads a share of what o reads: light
that spills over on the way, and detectors that see their neighbours. Estimator: every sixth output is opened
at full scale, the rest dark, all emitters on; the same with everything dark is subtracted; shares at d = -1,
1, 2, and the median farther off. Balance of a row: (plus + minus) / (plus - minus) of its readings, equal
weights asked of both paths. What the panel's record corrects is corrected, but for the detectors' view of
their neighbours, which is what is measured. Uncertainty: scatter of the probes.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from labctl.devices import CalibrationRecord, DeviceFault, LoopElectronics, WeightModulator
from labctl.programs import by_cell, encode_frame
from labctl_calibration.panel_record import KIND as PANEL_KIND
from labctl_calibration.probing import Probing
from labctl_calibration.procedure import Devices, Measured, Plot, Procedure, Quantity, Tell, Upstream, require

KIND = "crosstalk and balance"
EVERY = 6  # outputs from one that is open to the next
PROBES = 512  # of each frame: a period or more of what panels flicker by
DRIVE = 0.5  # of full emitter drive
MOST_UNBALANCED = 10.0  # %, rms
MOST_CROSSTALK = 50.0  # % of the open output's light
DAY_S = 86400.0


def _measure(devices: Devices, upstream: Upstream, tell: Tell) -> Measured:
    panel, electronics = _uncorrected(by_cell(require(upstream, PANEL_KIND))), devices.get(LoopElectronics)
    modulator = devices.get(WeightModulator)
    probing = Probing(modulator, electronics)
    n = probing.spec.n_channels

    def seen(fractions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
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
            for k, step in enumerate((-1, 1, 2)):
                to = rows + step
                use = (to >= 0) & (to < n)
                share[path, rows[use], k] = light[to[use]] / light[rows[use]]
                share_sd[path, rows[use], k] = error[to[use]] / np.abs(light[rows[use]])
            away = (np.arange(n)[:, None] - rows[None]) % n
            distant = np.minimum(away, n - away).min(axis=1) >= EVERY // 2
            far += list(light[distant] / np.median(light[rows]))
    modulator.show(np.zeros(modulator.spec.shape_px, np.uint16))
    weak = np.argwhere(own < 0.2 * np.median(own, axis=1, keepdims=True))
    if len(weak) or np.median(own) <= 0:
        path, row = (int(v) for v in (weak[0] if len(weak) else (0, 0)))
        raise DeviceFault(
            f"output {row} reads {own[path, row]:.3g} units of its own cells on the "
            f"{'positive' if path == 0 else 'negative'} path, the median {np.median(own[path]):.3g}; "
            "allowed: 20% of that or more; are the sign planes swapped?",
            device=electronics.name, operation="crosstalk",
        )  # fmt: skip
    balance = (own[0] - own[1]) / (own[0] + own[1])
    total = own[0] + own[1]
    balance_sd = 2 * np.hypot(own[1] * own_sd[0], own[0] * own_sd[1]) / total**2
    near = np.nan_to_num(share)
    rms = float(np.sqrt((balance**2).mean()))
    worst = int(np.abs(balance).argmax())
    where = np.unravel_index(int(near.argmax()), near.shape)
    channels = np.arange(n, dtype=np.float64)
    return Measured(
        kind=KIND,
        arrays={
            "neighbour_share": near,
            "neighbour_share_sd": np.nan_to_num(share_sd),
            "sign_balance": balance,
            "sign_balance_sd": balance_sd,
            "own_light_units": own,
        },
        quantities=(
            Quantity("crosstalk, largest", 100 * float(near[where]), 100 * float(share_sd[where]), "%",
                     high=MOST_CROSSTALK, words=f"of output {where[1]} in its neighbour"),
            Quantity("crosstalk, next output", 100 * float(np.nanmedian(share[:, :, :2])), np.nan, "%",
                     words="median"),
            Quantity("crosstalk, far", 100 * float(np.median(far)), 100 * float(
                np.std(far) / np.sqrt(len(far))), "%", words=f"median of outputs {EVERY // 2} away"),
            Quantity("sign balance", 100 * rms, 100 * float(np.sqrt((balance_sd**2).mean() / n)), "%",
                     high=MOST_UNBALANCED, words="rms of the rows; 0 where both paths give alike"),
            Quantity("sign balance, worst row", 100 * float(balance[worst]),
                     100 * float(balance_sd[worst]), "%", words=f"output {worst}"),
        ),
        settings={"probes": PROBES},
        findings=(
            f"an output's light in its neighbour: {100 * np.nanmedian(share[:, :, :2]):.1f}% (median), "
            f"{100 * near[where]:.0f}% at most; the signs differ by {100 * rms:.1f}% rms",
        ),
        plots=(
            Plot("Crosstalk into the next output, positive path", channels, near[0, :, 1], "output channel",
                 "share"),
            Plot("Sign balance", channels, balance, "output channel", "balance", sd=balance_sd),
        ),
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
