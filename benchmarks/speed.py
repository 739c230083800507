"""Loop physics on one core: share of the sgemm peak, the higher-order step, and torchdiffeq on the same job."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import common  # noqa: F401 - sets one thread before torch loads
import numpy as np
import torch
from torch import Tensor

from labctl.physics import LoopLaw, settle_fast, settle_times

N, BATCH, STEPS, SPAN_TAU = 48, 1024, 200, 20.0


@dataclass(frozen=True)
class Speed:
    """Figures of one run."""

    peak_gflops: float
    euler_per_s: float
    euler_share: float
    higher_per_s: float
    higher_ratio: float
    higher_error: float
    torchdiffeq_per_s: float
    torchdiffeq_ratio: float


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


def settle_error(dt: float, method: str) -> float:
    """Median relative error of the settle time against dt = 0.005 (order 2)."""
    law, start = dense_law()

    def times_of(step: float, how: str) -> np.ndarray:
        trace: list[np.ndarray] = [start.numpy().copy()]
        count = round(SPAN_TAU / step)
        final = settle_fast(law, start, dt=0.05, steps=1600)
        settle_fast(law, start, dt=step, steps=count, method=how,  # type: ignore[arg-type]
                    observe=lambda k, z: trace.append(z.numpy().copy()))  # fmt: skip
        time_tau = np.arange(count + 1) * step
        return settle_times(time_tau, np.stack(trace).astype(float), final.numpy().astype(float), 0.038)

    truth = times_of(0.01, "ab2")
    return float(np.nanmedian(np.abs(times_of(dt, method) - truth) / truth))


def measure() -> Speed:
    """All figures in one run, one thread."""
    torch.set_num_threads(1)
    a, b = torch.randn(1024, 1024), torch.randn(1024, 1024)
    law, start = dense_law()
    flops = 2.0 * N * N * BATCH * STEPS
    peak = 2.0 * 1024**3 / seconds(lambda: a @ b, 15)
    euler_s = seconds(lambda: settle_fast(law, start, dt=SPAN_TAU / STEPS, steps=STEPS, method="euler"))
    higher_s = seconds(lambda: settle_fast(law, start, dt=0.5, steps=round(SPAN_TAU / 0.5), method="ab2"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torchdiffeq import odeint

    span = torch.tensor([0.0, SPAN_TAU])
    with torch.no_grad():
        peer_s = seconds(
            lambda: odeint(
                lambda t, z: law.bias - z + torch.tanh(z) @ law.weights.T, start, span, method="euler",
                options={"step_size": SPAN_TAU / STEPS},
            ),
            5,
        )  # fmt: skip
    return Speed(
        peak_gflops=peak / 1e9,
        euler_per_s=BATCH / euler_s,
        euler_share=flops / euler_s / peak,
        higher_per_s=BATCH / higher_s,
        higher_ratio=euler_s / higher_s,
        higher_error=settle_error(0.5, "ab2"),
        torchdiffeq_per_s=BATCH / peer_s,
        torchdiffeq_ratio=peer_s / euler_s,
    )


if __name__ == "__main__":
    print(measure())
