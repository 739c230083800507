"""The digital baseline of the energy ledger: the same jobs done and timed on this computer, on one thread."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from labctl.models.checkpoint import load_network
from labctl.models.network import RowTableNetwork
from labctl.sampling import HostMachine, Sampler, scheme, sigmas, start_noise

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
LATENT = 64  # numbers a generator is fed
LEAST_S, LEAST_RUNS = 0.5, 5  # of CPU time and runs, after the first
SIGMA_MAX, SIGMA_MIN = 10.0, 0.06
SCHEME = "dpm-solver++2m"


@dataclass(frozen=True)
class Measurement:
    """One job, timed. cpu_s: CPU seconds of the process an image, the median of `runs`; wall_s: wall clock.

    CPU time is what the ledger takes: a busy machine lengthens the wall clock and not the work.
    """

    name: str
    what: str
    batch: int
    runs: int
    cpu_s: float
    wall_s: float


def processor() -> str:
    """The CPU's own name, or the platform's where it is not told."""
    told = Path("/proc/cpuinfo")
    if told.is_file():
        for line in told.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def hidden_width(parameters: int, visible: int) -> int:
    """Width of the hidden layer with which LATENT -> hidden -> visible has at most so many parameters."""
    return max(1, (parameters - visible) // (LATENT + 1 + visible))


def generator_name(parameters: int, visible: int) -> str:
    """What the generator of so many parameters is called: its layers."""
    return f"generator {LATENT}-{hidden_width(parameters, visible)}-{visible}"


def measure_generator(parameters: int, visible: int, batch: int) -> Measurement:
    """Time a two-layer generator with at most as many parameters as a program, in 32 bits.

    Its weights are random: the time does not depend on them, and no picture of it is judged.
    """
    hidden = hidden_width(parameters, visible)
    net = nn.Sequential(nn.Linear(LATENT, hidden), nn.ReLU(), nn.Linear(hidden, visible), nn.Sigmoid())
    count = sum(p.numel() for p in net.parameters())
    rng = torch.Generator().manual_seed(0)

    def job() -> Tensor:
        latent = torch.randn(batch, LATENT, generator=rng)
        found: Tensor = net(latent)
        return found

    what = f"untrained, {count:,} parameters, torch float32, latents drawn, {batch} at once"
    return _timed(generator_name(parameters, visible), what, batch, job)


def denoiser_name(network: str) -> str:
    """What a shipped denoiser's chain is called."""
    return f"denoiser {network}"


def measure_denoiser(network: str, steps: int, batch: int) -> Measurement:
    """Time a shipped denoiser's chain: DPM-Solver++(2M) and a final denoise; its latents are not decoded."""
    net = load_network(network)
    how = Sampler(scheme(SCHEME), sigmas("edm", steps, SIGMA_MAX, SIGMA_MIN))
    ids = np.arange(batch)
    d = net.sizes[0]
    start = start_noise(ids, d, seed=0, sigma_max=SIGMA_MAX)
    machine = _Float32Denoiser(net, ids * net.n_classes // batch if net.n_classes else np.zeros_like(ids))

    def job() -> FloatArray:
        return how.run(machine, start, sample_id=ids, seed=0)

    what = (
        f"shipped, {'-'.join(map(str, net.sizes))} rows, {steps} steps of {SCHEME} and a final denoise, "
        f"torch float32, {batch} at once, latents not decoded"
    )
    return _timed(denoiser_name(network), what, batch, job)


class _Float32Denoiser(HostMachine):
    """The bare network in torch, 32 bits; the tables of a level are made once, as a host would keep them."""

    def __init__(self, network: RowTableNetwork, labels: IntArray) -> None:
        super().__init__(network, labels=labels)
        self._rows = labels
        self._matrices = [torch.from_numpy(w.T.astype(np.float32)) for w in network.weights()]
        self._tables: dict[float, list[tuple[Tensor, Tensor]]] = {}

    def denoise(self, x: FloatArray, sigma: float) -> FloatArray:
        """D [B, d]."""
        c_skip, c_out, c_in = self._network.preconditioning.coefficients(sigma)
        if sigma not in self._tables:
            rows = self._network.rows(sigma)
            self._tables[sigma] = [
                (
                    torch.from_numpy(gain[self._rows].astype(np.float32)),
                    torch.from_numpy(bias[self._rows].astype(np.float32)),
                )
                for gain, bias in zip(rows.gains, rows.biases, strict=True)
            ]
        z = torch.from_numpy((c_in * x).astype(np.float32))
        for weights, (gain, bias) in zip(self._matrices, self._tables[sigma], strict=True):
            z = torch.addcmul(bias, gain, torch.tanh(z) @ weights)
        return np.asarray(c_skip * x + c_out * z.numpy())


def _timed(name: str, what: str, batch: int, job: Callable[[], object]) -> Measurement:
    cpu: list[float] = []
    wall: list[float] = []
    spent = 0.0
    with torch.inference_mode():
        job()
        while spent < LEAST_S or len(cpu) < LEAST_RUNS:
            wall_0, cpu_0 = time.perf_counter(), time.process_time()
            job()
            cpu.append(time.process_time() - cpu_0)
            wall.append(time.perf_counter() - wall_0)
            spent += cpu[-1]
    return Measurement(
        name, what, batch, len(cpu), float(np.median(cpu)) / batch, float(np.median(wall)) / batch
    )
