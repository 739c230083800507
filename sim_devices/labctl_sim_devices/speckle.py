"""Speckle: what a coherent beam's spot looks like behind anything rough.

Fully developed speckle is a complex Gaussian field: its intensity is exponential, of contrast 1 (sd over
mean). Averaged over M independent patterns (polarisations, a diffuser that moves while the shutter is open)
it has 1 / sqrt(M). J. W. Goodman, "Speckle Phenomena in Optics" (2007).
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from labctl.physics import Stream

Float32 = NDArray[np.float32]
MARGIN_PX = 4  # cut off around a pattern: fields are made periodic


def speckle_patterns(stream: Stream, count: int, size_px: int, grain_px: float, contrast: float) -> Float32:
    """Intensities [count, size, size] of mean 1 and this contrast (0 .. 1) over the ensemble.

    grain_px: square root of the correlation area, the integral of the intensities' correlation: a spot of
    area A has A / grain_px^2 grains.
    """
    if contrast == 0:
        return np.ones((count, size_px, size_px), np.float32)
    whole = size_px + 2 * MARGIN_PX
    patterns = int(1 / contrast**2 + 1e-9)
    frequency = np.fft.fftfreq(whole)
    sigma = grain_px / np.sqrt(2 * np.pi)  # of the field's kernel: correlation area 2 pi sigma^2
    pass_1d = np.exp(-2 * (np.pi * sigma * frequency) ** 2)
    kernel = pass_1d[:, None] * pass_1d
    gain = whole / np.sqrt((kernel**2).sum())
    total = np.zeros((count, size_px, size_px))
    inside = slice(MARGIN_PX, MARGIN_PX + size_px)
    for pattern in range(patterns):
        draws = stream.normal(np.arange(count), 2 * whole**2, step=pattern, dtype=torch.float64).numpy()
        white = draws.reshape(count, 2, whole, whole)
        field = np.fft.ifft2(np.fft.fft2(white[:, 0] + 1j * white[:, 1]) * kernel * gain)
        total += 0.5 * np.abs(field[:, inside, inside]) ** 2
    # `patterns` patterns have a contrast a little above the one asked for: the rest is light without speckle
    return np.asarray(1 + contrast * np.sqrt(patterns) * (total / patterns - 1), dtype=np.float32)
