"""One formula for EDM, flow-matching and VP networks: D = c_skip x + c_out F(c_in x; sigma).

Everything here lives in the variance-exploding coordinates of EDM (Karras et al. 2022, table 1):
x = x0 + sigma e. A flow-matching state x_t = (1-t) x0 + t e is x = x_t / (1-t), sigma = t / (1-t); a VP
state alpha x0 + s e is x / alpha with sigma = s / alpha. c_out is kept positive (row gains of the machine
are never negative), so F of a flow network is minus its velocity and F of a VP network minus its noise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Kind = Literal["edm", "flow", "vp"]


@dataclass(frozen=True)
class Preconditioning:
    """What stands around the raw network F. `sigma_data` is the data's standard deviation (network units).

    `input_scale` is what u's standard deviation is: 1 for a machine whose nonlinearity is tanh; another's may
    be nearer to tanh at another scale.
    """

    kind: Kind = "edm"
    sigma_data: float = 1.0
    input_scale: float = 1.0

    def coefficients(self, sigma: float) -> tuple[float, float, float]:
        """(c_skip, c_out, c_in) at noise level `sigma` > 0; u = c_in x deviates by input_scale."""
        sd = self.sigma_data
        unit = 1.0 / math.hypot(sigma, sd)
        c_in = self.input_scale * unit
        if self.kind == "edm":
            return sd * sd * unit * unit, sigma * sd * unit, c_in
        if self.kind == "flow":  # x0 = x_t - t v, x_t = x / (1 + sigma), t = sigma / (1 + sigma)
            t = sigma / (1.0 + sigma)
            return 1.0 - t, t, c_in
        return 1.0, sigma, c_in  # vp: x0 = x - sigma e


def alpha_of(sigma: float) -> float:
    """What a variance-preserving state alpha x0 + s e (alpha^2 + s^2 = 1) has to do with x = x0 + sigma e:

    x_VP = alpha x, s = alpha sigma.
    """
    return 1.0 / math.hypot(1.0, sigma)


def sigma_of_time(t: float) -> float:
    """Flow-matching time t in (0, 1) to sigma = t / (1 - t)."""
    return t / (1.0 - t)


def time_of_sigma(sigma: float) -> float:
    """Inverse of `sigma_of_time`."""
    return sigma / (1.0 + sigma)
