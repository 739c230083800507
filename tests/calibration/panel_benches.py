"""Benches for the panel's bring-up, and a modulator between host and panel that mounts it wrongly."""

from __future__ import annotations

import functools

import numpy as np
import torch
from labctl_calibration.panel_bringup import PanelBringUp, bring_up_panel
from labctl_sim_devices import ElectronicsTwin, OpticalBench, PanelTwin, load_profile

from labctl.devices import WeightModulator

N = 48


class MountedWrongly(WeightModulator):
    """Shows what `change` makes of each frame: a panel mirrored, swapped, blank."""

    def __init__(self, panel, change):
        super().__init__(panel.name)
        self._panel, self._change = panel, change

    @property
    def spec(self):
        return self._panel.spec

    def _do_open(self):
        return self._panel.open()

    def _do_close(self):
        self._panel.close()

    def _do_snapshot(self):
        return self._panel.snapshot()

    def _do_show(self, levels, wait):
        return self._panel.show(self._change(levels), wait=wait)

    def _do_shown(self):
        return self._change(self._panel.shown())


def opened(unit_seed, *, profile="unit", change=None, noise_scale=1.0, **overrides):
    """(bench, modulator, electronics), open."""
    bench = OpticalBench(
        load_profile(profile, overrides), seed=unit_seed, unit_seed=unit_seed, noise_scale=noise_scale
    )
    panel, electronics = PanelTwin("panel", bench), ElectronicsTwin("electronics", bench)
    modulator = panel if change is None else MountedWrongly(panel, change)
    modulator.open()
    electronics.open()
    return bench, modulator, electronics


def brought_up(unit_seed, **how) -> tuple[OpticalBench, WeightModulator, PanelBringUp]:
    """With what was told on the way, and what the bench was like right after, in `bench.told`."""
    bench, modulator, electronics = opened(unit_seed, **how)
    said = []
    found = bring_up_panel(modulator, electronics, tell=lambda *what: said.append(what))
    bench.told = {
        "said": said,
        "frames": bench.frames_shown,
        "time_s": bench.now_us * 1e-6,
        "dark": not modulator.shown().any(),
    }
    return bench, modulator, found


once = functools.cache(brought_up)


def placement_error_px(bench, registration, turned=lambda places: places):
    """rms over both axes of all cells of both paths against the bench's truth; `turned` maps true places."""
    off = [
        path.cells.centres() - turned(bench.optics.placement(k, bench.now_us).centre_px)
        for k, path in enumerate(registration.paths)
    ]
    return float(np.sqrt(np.mean(np.square(off))))


def true_slopes(bench):
    """Photocurrent per unit of phi [out, in] between phi = -1 and 1, of the frame on display."""
    law, n = bench.truth().law, bench.profile.n_channels
    steps = torch.eye(n, dtype=torch.float64)
    seen = law.difference(law.pedestal + torch.cat([steps, -steps])).numpy()
    return (seen[:n] - seen[n:]).T / 2
