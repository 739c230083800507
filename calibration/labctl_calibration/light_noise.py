"""Noise of light and detectors, from probes with the loop open: in the dark, over levels of light, in time.

Variances from one window to the next, at several levels on each half of the panel: shot noise is in
proportion to light, intensity noise of the emitters to the squares of what each gives.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labctl.devices import LoopElectronics, WeightModulator
from labctl_calibration.probing import Probing, half
from labctl_calibration.series import find_lines, scatter, scatter_of_blocks, without_lines

FloatArray = NDArray[np.float64]
WINDOWS = 1024  # probes at each level of light
LEVELS = (0.25, 0.5, 0.75, 1.0)  # of full emitter drive
SHORT = 64  # probes of a mean
STEADY = 4096  # probes of steady light: a spectrum down to 100 Hz at usual windows


@dataclass(frozen=True, eq=False)
class LightNoise:
    """What open-loop probes say, photocurrents in units: dark [n] and dark_blocks [BLOCKS, n], variances of a
    window; (value, error) of what a unit of light adds (shot) and of the relative variance of an emitter's
    light (intensity); rms of flicker relative to the light, its error and lines. Of the frame on display at
    phi = 0: total_units [n], light of both paths; pedestal, the drive in units of phi.
    """

    dark: FloatArray
    dark_blocks: FloatArray
    shot: tuple[float, float]
    intensity: tuple[float, float]
    flicker: float
    flicker_error: float
    flicker_hz: FloatArray
    total_units: FloatArray
    pedestal: float


def measure_light_noise(modulator: WeightModulator, electronics: LoopElectronics) -> LightNoise:
    """Levels of light on each half of the panel, steady light on one, then each half of the frame alone."""
    frame = modulator.shown()
    probing = Probing.by_channel(modulator, electronics)  # nothing is nulled from here on
    n, top = probing.spec.n_channels, probing.panel.n_levels - 1
    dark = probing.probe(np.zeros((WINDOWS, n)))
    level, window_us = dark.mean(axis=0), probing.spec.window_us
    probing.show_half(0, top)
    steady = probing.probe(np.full((STEADY, n), LEVELS[0]))  # dim: bright detectors compress what flickers
    mean = steady.mean(axis=0) - level
    lines = find_lines(steady, window_us)
    relative = lines.amplitude / mean  # alike in all rows, but for the error
    flicker = float(np.sqrt((np.abs(relative.mean(axis=1)) ** 2).sum() / 2))
    flicker_error = float(np.sqrt(np.mean(scatter(lines.rest) / mean**2) / STEADY))
    light, squares, variance = [np.zeros(n)], [np.zeros(n)], [scatter(dark)]
    for path in (0, 1):
        probing.show_half(path, top)
        alone = ((probing.one_hot() - level[:, None]) ** 2).sum(axis=1)
        for share in LEVELS:
            seen = probing.probe(np.full((WINDOWS, n), share))
            light.append(np.abs(seen.mean(axis=0) - level))
            squares.append(share**2 * alone)
            # flicker is in proportion to light, so that its slope would pass for intensity noise
            variance.append(scatter(without_lines(seen, window_us, lines.frequency_hz)))
    probing.show_half(0, top)
    full = probing.probe(np.ones((SHORT, n))).mean(axis=0) - level
    rest = probing.probe(np.zeros((SHORT, n)), at="phi").mean(axis=0) - level
    pedestal = float(np.median(rest / full))
    total = np.zeros(n)
    for path in (0, 1):
        shown, columns = np.zeros_like(frame), half(probing.panel, path)
        shown[:, columns] = frame[:, columns]
        probing.show(shown)
        total += np.abs(probing.probe(np.zeros((SHORT, n)), at="phi").mean(axis=0) - level)
    modulator.show(frame)
    shot, intensity = _rises(np.stack(light), np.stack(squares), np.stack(variance))
    return LightNoise(
        scatter(dark), scatter_of_blocks(dark), shot, intensity, flicker, flicker_error, lines.frequency_hz,
        total, pedestal,
    )  # fmt: skip


def _rises(
    light: FloatArray, squares: FloatArray, variance: FloatArray
) -> tuple[tuple[float, float], tuple[float, float]]:
    """What variances [K, n] rise by with light and with the squares of its parts: (value, error) of each.

    Every row has a dark variance of its own; estimates of a variance have errors in proportion to it.
    """
    rows = light.shape[1]
    design = np.concatenate(
        [
            np.tile(np.eye(rows), (len(light), 1)),
            light.reshape(-1, 1),
            squares.reshape(-1, 1),
        ],
        axis=1,
    )
    wanted = variance.reshape(-1)
    weight = 1 / (wanted * np.sqrt(3 / WINDOWS))
    for _ in range(2):  # by the fitted values: an estimate that is low by chance must not weigh more
        scaled = design * weight[:, None]
        covariance = np.linalg.inv(scaled.T @ scaled)
        found = covariance @ (scaled.T @ (wanted * weight))
        weight = 1 / (np.maximum(design @ found, wanted.min()) * np.sqrt(3 / WINDOWS))
    error = np.sqrt(np.diag(covariance))
    return (float(found[-2]), float(error[-2])), (float(found[-1]), float(error[-1]))
