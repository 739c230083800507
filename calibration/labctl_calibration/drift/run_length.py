"""How long control charts run before they alarm: average run lengths, and the limits that set them.

Both charts see standardised values x = (value - baseline) / sd, which are N(shift, spread^2).

- EWMA (Roberts 1959): z <- (1 - weight) z + weight x, an alarm where |z| > limit sqrt(weight / (2 - weight)).
- CUSUM (Page 1954), two sided: s <- max(0, s +- x - slack), an alarm where either s > limit.

Average run lengths by the Markov chain of Brook and Evans (Biometrika 59, 539, 1972), for the EWMA as in
Lucas and Saccucci (Technometrics 32, 1, 1990); Siegmund's corrected diffusion approximation (Sequential
Analysis, 1985, section 2.6) stands beside it as an independent check. A baseline that was itself estimated
makes false alarms more frequent (Jones, Champ and Rigdon, Technometrics 43, 156, 2001, and J. Quality
Technology 36, 95, 2004): limits are set on the rate 1/ARL averaged over what the baseline and the sd may have
been wrong by.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import gammaln, ndtr, roots_genlaguerre, roots_hermitenorm

from labctl.devices import ConfigError

FloatArray = NDArray[np.float64]
ChartKind = Literal["ewma", "cusum"]
EWMA_STATES, CUSUM_STATES = 61, 60
MEAN_NODES, SD_NODES = 15, 10
LEAST_DEGREES = 7.0  # of the sd: below, the rate of false alarms is that of its own tail
NEVER = 1e-14
SIEGMUND = 1.166  # 2 x 0.583, the mean overshoot of a normal random walk


@dataclass(frozen=True)
class Design:
    """A chart: `parameter` is the EWMA's weight (0 to 1] or the CUSUM's slack (>= 0), in units of x."""

    kind: ChartKind
    parameter: float

    def __post_init__(self) -> None:
        if self.kind == "ewma" and not 0 < self.parameter <= 1:
            raise ConfigError(f"weight of an EWMA is {self.parameter}; allowed: above 0, up to 1")
        if self.kind == "cusum" and not 0 <= self.parameter <= 8:
            raise ConfigError(f"slack of a CUSUM is {self.parameter}; allowed: 0 to 8")


def average_run_length(
    design: Design, limit: float, shift: ArrayLike = 0.0, spread: ArrayLike = 1.0
) -> FloatArray:
    """Mean number of values up to and with the first alarm, of values N(shift, spread^2); same shape."""
    shifts, spreads = np.broadcast_arrays(np.asarray(shift, np.float64), np.asarray(spread, np.float64))
    flat = shifts.reshape(-1), spreads.reshape(-1)
    if design.kind == "ewma":
        found = _ewma(design.parameter, limit, *flat)
    else:
        up, down = (_cusum(design.parameter, limit, sign * flat[0], flat[1]) for sign in (1, -1))
        found = 1 / (1 / up + 1 / down)
    return np.asarray(found.reshape(shifts.shape))


def siegmund(limit: float, slack: float, shift: float = 0.0) -> float:
    """Siegmund's average run length of a one-sided CUSUM, values N(shift, 1)."""
    drift, reach = shift - slack, limit + SIEGMUND
    if abs(drift) < 1e-9:
        return reach**2
    return (math.exp(-2 * drift * reach) + 2 * drift * reach - 1) / (2 * drift**2)


def false_alarm_rate(design: Design, limit: float, baseline_error: float, degrees: float) -> float:
    """Expected alarms a value where nothing has changed, over what the estimates may have been wrong by.

    baseline_error: standard error of the baseline in units of sd. degrees: of freedom of the sd (infinite:
    known).
    """
    nodes, weights = roots_hermitenorm(MEAN_NODES)
    if baseline_error == 0:
        nodes, weights = np.zeros(1), np.ones(1)
    ratios, shares = _sd_ratios(degrees)
    shift, ratio = np.meshgrid(baseline_error * nodes, ratios, indexing="ij")
    share = weights[:, None] / weights.sum() * shares
    return float((share / average_run_length(design, limit, shift, ratio)).sum())


@lru_cache(maxsize=256)
def limit_for(design: Design, rate: float, baseline_error: float = 0.0, degrees: float = math.inf) -> float:
    """The limit at which a chart gives `rate` false alarms a value. ConfigError outside 1e-12 to 0.2, and for
    an sd of fewer than `LEAST_DEGREES` degrees of freedom.
    """
    if not 1e-12 <= rate <= 0.2:
        raise ConfigError(f"rate of false alarms is {rate:g} a value; allowed: 1e-12 to 0.2")
    if not degrees >= LEAST_DEGREES:
        raise ConfigError(
            f"the baseline's sd has {degrees:g} degrees of freedom; allowed: {LEAST_DEGREES:g} or more"
        )
    if not 0 <= baseline_error <= 1:
        raise ConfigError(f"the baseline is uncertain by {baseline_error:g} sd; allowed: 0 to 1")

    def excess(limit: float) -> float:
        return math.log(max(false_alarm_rate(design, limit, baseline_error, degrees), 1e-300) / rate)

    low, high = 0.1, 4.0
    while excess(high) > 0:
        low, high = high, 1.6 * high
        if high > 200:
            raise ConfigError(
                f"no limit gives {rate:g} false alarms a value with a baseline uncertain by "
                f"{baseline_error:.2g} sd and {degrees:g} degrees of freedom; allowed: a longer baseline"
            )
    return float(brentq(excess, low, high, xtol=1e-3))


def _ewma(weight: float, limit: float, shift: FloatArray, spread: FloatArray) -> FloatArray:
    reach = limit * math.sqrt(weight / (2 - weight))
    width = 2 * reach / EWMA_STATES
    middle = -reach + width * (np.arange(EWMA_STATES) + 0.5)
    edge = -reach + width * np.arange(EWMA_STATES + 1)
    needed = (edge[None, :] - (1 - weight) * middle[:, None]) / weight
    below = ndtr((needed - shift[:, None, None]) / spread[:, None, None])
    return _mean_steps(np.diff(below, axis=2), EWMA_STATES // 2)


def _cusum(slack: float, limit: float, shift: FloatArray, spread: FloatArray) -> FloatArray:
    """One-sided; state 0 is s = 0, states 1.. the intervals of (0, limit)."""
    width = 2 * limit / (2 * CUSUM_STATES - 1)
    middle = width * np.arange(CUSUM_STATES)
    edge = width * (np.arange(CUSUM_STATES) + 0.5)
    needed = edge[None, :] - middle[:, None] + slack
    below = ndtr((needed - shift[:, None, None]) / spread[:, None, None])
    return _mean_steps(np.diff(below, axis=2, prepend=0.0), 0)


def _mean_steps(moves: FloatArray, start: int) -> FloatArray:
    """Mean steps until absorption [N] of chains with transient moves [N, S, S] from a state."""
    states = moves.shape[1]
    # beyond 1e14 steps a solution would be rounding; such a chart does not alarm by itself
    left = (1 + NEVER) * np.eye(states) - moves
    return np.asarray(np.linalg.solve(left, np.ones((len(moves), states, 1)))[:, start, 0])


def _sd_ratios(degrees: float) -> tuple[FloatArray, FloatArray]:
    """True sd over estimated [S], and probabilities [S]: Gauss' rule for the chi-squared distribution."""
    if math.isinf(degrees):
        return np.ones(1), np.ones(1)
    nodes, weights = roots_genlaguerre(SD_NODES, min(degrees, 300.0) / 2 - 1)
    shares = weights / math.exp(gammaln(min(degrees, 300.0) / 2))
    return np.sqrt(min(degrees, 300.0) / (2 * nodes)), shares / shares.sum()
