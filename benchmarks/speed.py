"""Loop physics on one core: share of the sgemm peak, the higher-order step, and others on the same job.

The job: 1,024 settles of a 48-variable loop over 20 tau, which is 200 trips. torchdiffeq integrates the same
equation; torchdeq's damped fixed-point iteration with damping dt is the same 200 Euler steps.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import common  # noqa: F401 - sets one thread before torch loads
import numpy as np
import torch
from torch import Tensor

from labctl.physics import LoopLaw, settle_fast, settle_times, trajectory

N, BATCH, STEPS, SPAN_TAU = 48, 1024, 200, 20.0
TORCHDIFFEQ = (("euler", 200), ("midpoint", 40), ("midpoint", 20), ("midpoint", 16), ("rk4", 20), ("rk4", 14))
FAST_STEPS = 20  # the fewest of ours within MOST_ERROR
MOST_ERROR = 0.03  # of the settle time: what the higher-order step and its peers are held to


@dataclass(frozen=True)
class Speed:
    """Figures of one run."""

    peak_gflops: float
    euler_per_s: float
    euler_share: float
    torch_per_s: float
    higher_per_s: float
    higher_ratio: float
    higher_error: float
    higher_worst: float
    fast_per_s: float
    fast_error: float
    fast_worst: float
    peers: tuple[Peer, ...]

    @property
    def same_steps(self) -> float:
        """Our rate at 200 steps over torchdiffeq's with the same steps."""
        return self.euler_per_s / next(
            p.per_s for p in self.peers if p.name == "torchdiffeq euler, 200 steps"
        )

    @property
    def ratio(self) -> float:
        """Our rate over the fastest peer's, each by its fewest steps whose settle times are good enough."""
        return self.fast_per_s / max(peer.per_s for peer in self.peers if peer.error <= MOST_ERROR)


@dataclass(frozen=True)
class Peer:
    """Another package on the job: settles a second, median relative error of the settle time."""

    name: str
    per_s: float
    error: float


def seconds(work: Callable[[], object], repeats: int = 7) -> float:
    """Median wall time after a warm-up."""
    work()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return float(np.median(times))


def dense_law() -> tuple[LoopLaw, Tensor]:
    """A random contractive 48-net and its start (reference numbers, section D)."""
    rng = torch.Generator().manual_seed(3)
    weights = torch.randn(N, N, generator=rng) * (0.8 / N**0.5)
    bias = 0.5 * torch.randn(BATCH, N, generator=rng)
    return LoopLaw(weights, torch.ones(1, N), torch.ones(1, N), bias), torch.zeros(BATCH, N)


def stepped(dt: float, method: str) -> np.ndarray:
    """States [K + 1, B, n] of our own steps."""
    law, start = dense_law()
    trace: list[np.ndarray] = [start.numpy().copy()]
    settle_fast(law, start, dt=dt, steps=round(SPAN_TAU / dt), method=method,  # type: ignore[arg-type]
                observe=lambda k, z: trace.append(z.numpy().copy()))  # fmt: skip
    return np.stack(trace)


def settle_errors(trace: np.ndarray) -> np.ndarray:
    """Relative error [B] of the settle times of states [K + 1, B, n] over 20 tau, against dt = 0.01 (order 2)."""
    law, start = dense_law()
    final = settle_fast(law, start, dt=0.05, steps=1600).numpy().astype(float)

    def times_of(states: np.ndarray) -> np.ndarray:
        time_tau = np.linspace(0.0, SPAN_TAU, len(states))
        return np.asarray(settle_times(time_tau, states.astype(float), final, 0.038))

    truth = times_of(stepped(0.01, "ab2"))
    return np.abs(times_of(trace) - truth) / truth


def peers() -> tuple[Peer, ...]:
    """torchdiffeq by several of its methods, torchdeq by the iteration that is the same 200 steps."""
    law, start = dense_law()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torchdeq.solver.fp_iter import fixed_point_iter
        from torchdiffeq import odeint

    found = []
    with torch.no_grad():
        for method, count in TORCHDIFFEQ:
            step = SPAN_TAU / count

            def rate(t: Tensor, z: Tensor) -> Tensor:
                return law.bias - z + torch.tanh(z) @ law.weights.T

            def run(times: Tensor, method: str = method, step: float = step) -> Tensor:
                return odeint(rate, start, times, method=method, options={"step_size": step})

            took = seconds(lambda run=run: run(torch.tensor([0.0, SPAN_TAU])), 5)
            states = run(torch.linspace(0.0, SPAN_TAU, count + 1)).numpy()
            error = float(np.nanmedian(settle_errors(states)))
            found.append(Peer(f"torchdiffeq {method}, {count} steps", BATCH / took, error))

        def picard(z: Tensor) -> Tensor:
            return law.bias + torch.tanh(z) @ law.weights.T

        took = seconds(
            lambda: fixed_point_iter(
                picard, start, max_iter=STEPS, tol=0.0, tau=SPAN_TAU / STEPS, return_final=True
            ),
            5,
        )
        euler = next(peer.error for peer in found if "euler" in peer.name)  # the same steps
        found.append(Peer(f"torchdeq fixed-point iteration, {STEPS} steps", BATCH / took, euler))
    return tuple(found)


def measure() -> Speed:
    """All figures in one run, one thread."""
    torch.set_num_threads(1)
    a, b = torch.randn(1024, 1024), torch.randn(1024, 1024)
    law, start = dense_law()
    flops = 2.0 * N * N * BATCH * STEPS

    def in_torch() -> None:
        with torch.no_grad():
            for _ in trajectory(law, start, dt=SPAN_TAU / STEPS, steps=STEPS, method="euler"):
                pass

    peak = 2.0 * 1024**3 / seconds(lambda: a @ b, 15)
    euler_s = seconds(lambda: settle_fast(law, start, dt=SPAN_TAU / STEPS, steps=STEPS, method="euler"))
    higher_s = seconds(lambda: settle_fast(law, start, dt=0.5, steps=round(SPAN_TAU / 0.5), method="pec"))
    fast_s = seconds(
        lambda: settle_fast(law, start, dt=SPAN_TAU / FAST_STEPS, steps=FAST_STEPS, method="pec")
    )
    errors = settle_errors(stepped(0.5, "pec"))
    fast_errors = settle_errors(stepped(SPAN_TAU / FAST_STEPS, "pec"))
    return Speed(
        peak_gflops=peak / 1e9,
        euler_per_s=BATCH / euler_s,
        euler_share=flops / euler_s / peak,
        torch_per_s=BATCH / seconds(in_torch),
        higher_per_s=BATCH / higher_s,
        higher_ratio=euler_s / higher_s,
        higher_error=float(np.nanmedian(errors)),
        higher_worst=float(np.nanmax(errors)),
        fast_per_s=BATCH / fast_s,
        fast_error=float(np.nanmedian(fast_errors)),
        fast_worst=float(np.nanmax(fast_errors)),
        peers=peers(),
    )


if __name__ == "__main__":
    print(measure())
