"""Noise levels sigma_0 > ... > sigma_N = sigma_min, by name."""

from __future__ import annotations

import math
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from labctl.devices import ConfigError
from labctl.sampling.parametrisation import time_of_sigma

FloatArray = NDArray[np.float64]
Schedule = Literal["flow", "edm", "log", "cosine"]


def sigmas(
    schedule: Schedule, steps: int, sigma_max: float, sigma_min: float, *, rho: float = 7.0
) -> FloatArray:
    """N + 1 levels. "flow": uniform in flow-matching time t = sigma / (1 + sigma) (the default of the
    project); "edm": Karras et al. 2022, equation 5, with `rho`; "log": uniform in ln sigma; "cosine":
    uniform in the angle arctan sigma, whose cosine is alpha of the variance-preserving form.

    Raises ConfigError for N < 1, levels out of order, or an unknown name.
    """
    if steps < 1:
        raise ConfigError(f"steps is {steps}; allowed: 1 or more")
    if not 0 < sigma_min < sigma_max < math.inf:
        raise ConfigError(
            f"sigma_min is {sigma_min}, sigma_max {sigma_max}; allowed: 0 < sigma_min < sigma_max, finite"
        )
    share = np.linspace(0.0, 1.0, steps + 1)
    if schedule == "flow":
        t = time_of_sigma(sigma_max) + share * (time_of_sigma(sigma_min) - time_of_sigma(sigma_max))
        out = t / (1 - t)
    elif schedule == "edm":
        high, low = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
        out = (high + share * (low - high)) ** rho
    elif schedule == "cosine":
        high, low = math.atan(sigma_max), math.atan(sigma_min)
        out = np.tan(high + share * (low - high))
    elif schedule == "log":
        out = np.exp(math.log(sigma_max) + share * math.log(sigma_min / sigma_max))
    else:
        raise ConfigError(f"schedule is {schedule!r}; allowed: {', '.join(get_args(Schedule))}")
    out[0], out[-1] = sigma_max, sigma_min
    return np.asarray(out, dtype=np.float64)
