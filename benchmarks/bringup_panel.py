"""Bring-up of the panel on drawn benches with every fault on: registration, wrong mountings, weights as shown.

Each unit is brought up through its interfaces; then the record is scored against the bench's truth, which no
device reveals. A frame of random 4-bit codes on three tenths of the cells is made by the measured record and
by the data sheet's, and the effective weights (live channels) are compared with what was asked: "reached" are
the cells whose record says that they can.

    python benchmarks/bringup_panel.py [--units 20] [--mountings 5]

results/bringup_panel.md holds the last run.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping

import common
import numpy as np
import torch
from labctl_calibration import nominal_panel_record
from labctl_calibration.panel_bringup import PanelBringUp, bring_up_panel
from labctl_calibration.probing import Probing
from labctl_calibration.registration import Registration, register
from labctl_sim_devices import ElectronicsTwin, OpticalBench, PanelTwin, load_profile

from labctl.devices import CalibrationRecord, Identity, ModulatorSpec, Scalar, ShowReceipt, WeightModulator
from labctl.programs import encode_frame

FloatArray = np.ndarray[tuple[int, ...], np.dtype[np.float64]]
BAR_PX = 0.05


def opened(unit: int) -> tuple[OpticalBench, PanelTwin, ElectronicsTwin]:
    """A drawn bench with its panel and electronics, open."""
    bench = OpticalBench(load_profile("unit"), seed=unit, unit_seed=unit)
    panel, electronics = PanelTwin("panel", bench), ElectronicsTwin("electronics", bench)
    panel.open()
    electronics.open()
    return bench, panel, electronics


def slopes(bench: OpticalBench) -> FloatArray:
    """Photocurrent per unit of phi [out, in], of the frame on display."""
    law, n = bench.truth().law, bench.profile.n_channels
    steps = torch.eye(n, dtype=torch.float64)
    seen = law.difference(law.pedestal + torch.cat([steps, -steps])).numpy()
    return np.asarray((seen[:n] - seen[n:]).T / 2)


def placement_error_px(
    bench: OpticalBench, found: Registration, moved: Callable[[FloatArray], FloatArray] = np.asarray
) -> float:
    """Root mean square distance of found cells from where they are; `moved`: where a mounting takes them."""
    off = [
        path.cells.centres() - moved(bench.optics.placement(k, bench.now_us).centre_px)
        for k, path in enumerate(found.paths)
    ]
    return float(np.sqrt(np.mean(np.square(off))))


def weight_errors(
    bench: OpticalBench, panel: PanelTwin, found: PanelBringUp, record: CalibrationRecord
) -> tuple[float, float, float]:
    """(rms error of the reached live cells, rms of structural zeros, share reached) in fractions."""
    n, rng = bench.profile.n_channels, np.random.default_rng(7)
    codes = rng.integers(-7, 8, (n, n)) / 7 * (rng.random((n, n)) < 0.3)
    frame = encode_frame(codes, panel.spec, record)
    panel.show(frame.levels)
    seen = slopes(bench)
    if "full_scale_units" in record.arrays:
        seen = seen / found.levels.full_scale_units
    else:  # the best one number, since nothing says what a full-scale weight gives
        seen = seen * (seen * codes).sum() / (seen * seen).sum()
    live = ~np.isin(np.arange(n), found.emitters.dead)[None, :].repeat(n, axis=0)
    reached = live & (np.abs(frame.realised - codes) < 0.01)
    error = seen - codes
    zeros = live & (codes == 0)
    return (
        float(np.sqrt(np.mean(error[reached] ** 2))),
        float(np.sqrt(np.mean(error[zeros] ** 2))),
        float(reached.sum() / live.sum()),
    )


class Mounted(WeightModulator):
    """A panel that shows what `change` makes of each frame."""

    def __init__(self, panel: PanelTwin, change: Callable[[np.ndarray], np.ndarray]) -> None:
        super().__init__(panel.name)
        self._panel, self._change = panel, change

    @property
    def spec(self) -> ModulatorSpec:
        return self._panel.spec

    def _do_open(self) -> Identity:
        return self._panel.open()

    def _do_close(self) -> None:
        self._panel.close()

    def _do_snapshot(self) -> Mapping[str, Scalar]:
        return self._panel.snapshot()

    def _do_show(self, levels: np.ndarray, wait: bool) -> ShowReceipt:
        return self._panel.show(self._change(levels), wait=wait)

    def _do_shown(self) -> np.ndarray:
        return self._change(self._panel.shown())


def _swap(frame: np.ndarray) -> np.ndarray:
    return np.roll(frame, frame.shape[1] // 2, axis=1)


MOUNTINGS: dict[str, tuple[Callable[[np.ndarray], np.ndarray], Callable[[np.ndarray], np.ndarray]]] = {
    "as designed": (np.asarray, np.asarray),
    "upside down": (lambda f: f[::-1], lambda p: np.stack([1080 - p[..., 0], p[..., 1]], -1)),
    "mirrored left to right (so swapped)": (
        lambda f: f[:, ::-1],
        lambda p: np.stack([p[..., 0], 1920 - p[..., 1]], -1),
    ),
    "turned by 180 degrees (so swapped)": (
        lambda f: f[::-1, ::-1],
        lambda p: np.stack([1080 - p[..., 0], 1920 - p[..., 1]], -1),
    ),
    "sign planes swapped": (_swap, lambda p: np.stack([p[..., 0], (p[..., 1] + 960) % 1920], -1)),
    "one column right": (lambda f: np.roll(f, -20, 1), lambda p: p + np.array([0, 20])),
    "one column left": (lambda f: np.roll(f, 20, 1), lambda p: p - np.array([0, 20])),
    "one row down": (lambda f: np.roll(f, -22, 0), lambda p: p + np.array([22, 0])),
    "one row up": (lambda f: np.roll(f, 22, 0), lambda p: p - np.array([22, 0])),
}


def said_of(found: Registration) -> tuple[bool, tuple[bool, bool], tuple[int, int]]:
    """(swapped, mirrored, whole cells off) as the registration says."""
    shift = np.rint(found.paths[0].shift_px / found.paths[0].cells.pitch_px).astype(int)
    return found.swapped, found.paths[0].mirrored, (int(shift[0]), int(shift[1]))


SAYS = {
    "as designed": (False, (False, False), (0, 0)),
    "upside down": (False, (True, False), (0, 0)),
    "mirrored left to right (so swapped)": (True, (False, True), (0, 0)),
    "turned by 180 degrees (so swapped)": (True, (True, True), (0, 0)),
    "sign planes swapped": (True, (False, False), (0, 0)),
    "one column right": (False, (False, False), (0, 1)),
    "one column left": (False, (False, False), (0, -1)),
    "one row down": (False, (False, False), (1, 0)),
    "one row up": (False, (False, False), (-1, 0)),
}


def mountings(units: int) -> Iterator[str]:
    """Rows of the page: each wrong mounting, on how many units it was told right, the worst placement (px)."""
    for name, (change, moved) in MOUNTINGS.items():
        right, worst = 0, 0.0
        for unit in range(1, units + 1):
            bench, panel, electronics = opened(unit)
            mounted: WeightModulator = Mounted(panel, change)
            mounted.open()
            found = register(Probing(mounted, electronics))
            right += said_of(found) == SAYS[name]
            worst = max(worst, placement_error_px(bench, found, moved))
        yield f"| {name} | {right} of {units} | {worst:.4f} |"


def main() -> None:
    """Measure, print, write the page."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--units", type=int, default=20)
    parser.add_argument("--mountings", type=int, default=5)
    asked = parser.parse_args()
    lines = [__doc__ or "", ""]
    rows, used, example = [], None, ()
    for unit in range(1, asked.units + 1):
        bench, panel, electronics = opened(unit)
        found = bring_up_panel(panel, electronics)
        place = placement_error_px(bench, found.registration)
        measured = weight_errors(bench, panel, found, found.record)
        sheet = nominal_panel_record(panel.spec, bench.profile.n_channels, "sheet")
        nominal = weight_errors(bench, panel, found, sheet)
        true_dead = np.flatnonzero(bench.unit.input_efficiency.max(axis=0) == 0).tolist()
        rows.append((place, *measured, nominal[0], nominal[1], found.emitters.dead.tolist() == true_dead,
                     len(bench.damage.events), found.levels.full_scale_units))  # fmt: skip
        used, example = found.used, found.findings
        print(f"unit {unit}: {place:.4f} px, weights {measured[0]:.4f} ({nominal[0]:.3f} before)", flush=True)
    table = np.array(rows, np.float64)
    names = (
        f"registration, px rms (bar {BAR_PX})", "weights that the record calls reached, rms",
        "structural zeros, rms", "share of live cells reached", "weights by the data sheet's record, rms",
        "structural zeros by the data sheet's record, rms", "dead channel found", "damage events",
        "full scale, units",
    )  # fmt: skip
    lines += [f"{asked.units} units, every term on.", "", "| | mean | least | most |", "|---|---|---|---|"]
    for name, column in zip(names, table.T, strict=True):
        lines.append(f"| {name} | {column.mean():.4f} | {column.min():.4f} | {column.max():.4f} |")
    if used is not None:
        lines += ["", f"A bring-up takes {used.frames} frames, {used.probes} probes, {used.modelled_s:.2f} s of the "
                  "devices' (modelled) time.", "", "What the last unit's says:", ""]  # fmt: skip
        lines += [f"- {said}" for said in example]
    lines += ["", "| mounting | found | worst registration, px rms |", "|---|---|---|"]
    for row in mountings(asked.mountings):
        print(row, flush=True)
        lines.append(row)
    text = "\n".join(lines) + "\n"
    print(text)
    (common.RESULTS / "bringup_panel.md").write_text(text)


if __name__ == "__main__":
    main()
