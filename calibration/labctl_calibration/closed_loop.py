"""What the electronics add when the loop is closed: offsets, leak and gain errors, and the curve f of a channel.

First with every gain off, where z = (bias + offset) / (leak_scale leak). Then from equilibria under random
biases with a gain well below oscillation: each settled state obeys

    leak_scale leak z = gain_scale gain sum_k P_k f(z)^k + bias + offset

in every row, with P_k known from open-loop probes; gain_scale and f are fitted to that. Only their product
acts on a state, so f is fixed as having slope and reach of tanh on average (the gauge).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from labctl.devices import DeviceFault, LoopElectronics, SettleCodes
from labctl.physics import FittedCurve, FittedMap
from labctl_calibration.effective_map import EffectiveMap

FloatArray = NDArray[np.float64]
OFFSET_REPEATS = 32
EQUILIBRIA = 1536
BIAS_UNITS = 2.6  # largest random bias: states reach well into saturation
LOOP_GAIN = 0.5  # of the gain at which the linear loop would begin to oscillate or lock
STEP_ID = 2**31 - 4096  # draws of their own, shared with no diffusion step
WORST_LEAK = (0.5, 2.0)
ITERATIONS = 60


@dataclass(frozen=True, eq=False)
class Rows:
    """leak_scale, offset_units and gain_scale [n], f of every channel, rms residual of the fit [n] (units)."""

    leak_scale: FloatArray
    offset_units: FloatArray
    gain_scale: FloatArray
    curve: FittedCurve
    residual: FloatArray


def measure_rows(electronics: LoopElectronics, light: EffectiveMap, *, seed: int = 0) -> Rows:
    """Fit the electronics around the frame on display. Raises DeviceFault for rows that do not answer."""
    leak_scale, offset = _open_rows(electronics)
    gain, biases, z = _equilibria(electronics, light, seed)
    powers = torch.from_numpy(light.powers)
    wanted = torch.from_numpy(leak_scale * z - biases - offset)
    curve, gain_scale, residual = _fit(powers, torch.from_numpy(z), wanted, gain)
    return Rows(leak_scale, offset, gain_scale, curve, residual)


def _open_rows(electronics: LoopElectronics) -> tuple[FloatArray, FloatArray]:
    """leak_scale and offset of every row from settles without gain: two biases at two leaks."""
    spec = electronics.spec
    n, top = spec.n_channels, spec.dac.max_code
    asked = np.array([[0.4, 1.0], [-0.4, 1.0], [0.2, 0.5], [-0.2, 0.5]])
    rows = np.repeat(asked, OFFSET_REPEATS, axis=0)
    bias = np.rint(rows[:, :1] * top).astype(np.int64).repeat(n, axis=1)
    leak = np.rint(rows[:, 1:] * spec.max_leak_code).astype(np.int64).repeat(n, axis=1)
    z = _settled(electronics, bias, np.zeros((1, n), np.int64), leak, STEP_ID)
    b, weight = bias * spec.dac.units_per_code, leak / spec.max_leak_code
    # leak_scale (leak z) - offset = bias: two unknowns a row
    x = weight * z
    mean_x, mean_b = x.mean(axis=0), b.mean(axis=0)
    scale = ((x - mean_x) * (b - mean_b)).sum(axis=0) / ((x - mean_x) ** 2).sum(axis=0)
    offset = scale * mean_x - mean_b
    low, high = WORST_LEAK
    bad = np.flatnonzero(~((scale > low) & (scale < high)))
    if len(bad):
        raise DeviceFault(
            f"rows {', '.join(map(str, bad[:8]))} do not follow their bias: leak is {scale[bad[0]]:.3g} times "
            f"what was set; allowed: {low:g} to {high:g}",
            device=electronics.name, operation="measure_rows",
        )  # fmt: skip
    return scale, offset


def _equilibria(
    electronics: LoopElectronics, light: EffectiveMap, seed: int
) -> tuple[float, FloatArray, FloatArray]:
    """(gain, biases, states) of settles under random biases, each [B, n] in units."""
    spec = electronics.spec
    n = spec.n_channels
    slowest = float(np.abs(np.linalg.eigvals(light.powers[0])).max())
    wanted = LOOP_GAIN / max(slowest, 1e-3)
    code = spec.hidden_gain.code(np.full((1, n), wanted))
    gain = float(spec.hidden_gain.value(code)[0, 0])
    rng = np.random.Generator(np.random.Philox(key=seed + 202))
    units = rng.uniform(-BIAS_UNITS, BIAS_UNITS, (EQUILIBRIA, n)) * rng.uniform(0.1, 1.0, (EQUILIBRIA, 1))
    bias = np.rint(units / spec.dac.units_per_code).astype(np.int64)
    leak = np.full((1, n), spec.max_leak_code)
    z = _settled(electronics, bias, code, leak, STEP_ID + 1)
    return gain, bias * spec.dac.units_per_code, z


def _settled(
    electronics: LoopElectronics,
    bias: NDArray[np.int64],
    gain: NDArray[np.int64],
    leak: NDArray[np.int64],
    step_id: int,
) -> FloatArray:
    """States [B, n] in units after a long wait."""
    spec = electronics.spec
    codes = SettleCodes(
        bias=bias,
        gain=gain,
        leak=leak,
        gain_range=np.ones(spec.n_channels, np.int64),
        start=np.zeros_like(bias),
        step_id=step_id,
        sample_id=np.arange(len(bias)),
    )
    read = electronics.settle(codes, wait_us=40 * spec.tau_us)
    return read.counts * spec.adc.units_per_code


def _fit(
    powers: torch.Tensor, z: torch.Tensor, wanted: torch.Tensor, gain: float
) -> tuple[FittedCurve, FloatArray, FloatArray]:
    """Curve and gain scales that make gain_scale gain P f(z) equal `wanted`, by L-BFGS."""
    n = z.shape[1]
    free = {
        name: torch.zeros(size, dtype=torch.float64, requires_grad=True)
        for name, size in (("scale", n), ("shift", n), ("slope", n), ("gain", n), ("knee", 1), ("mix", 1))
    }
    inside = (z.abs() < 3.7).all(dim=1)  # a clipped reading says nothing of its state
    z, wanted = z[inside], wanted[inside]

    def curve() -> FittedCurve:
        scale = torch.exp(free["scale"])
        return FittedCurve(
            scale, free["shift"], free["slope"], 2.5 * torch.exp(free["knee"]), torch.sigmoid(free["mix"] - 2)
        )

    def left() -> torch.Tensor:
        y = FittedMap(powers, curve())(z)
        return torch.exp(free["gain"]) * gain * y - wanted

    def loss() -> torch.Tensor:
        # small pulls fix what no state can tell apart (the gauge), far below what they can
        pull = sum((value**2).mean() for name, value in free.items() if name in ("scale", "shift", "slope"))
        return left().square().mean() + 1e-7 * pull

    optimiser = torch.optim.LBFGS(
        list(free.values()), max_iter=ITERATIONS, history_size=20, line_search_fn="strong_wolfe",
        tolerance_grad=1e-9, tolerance_change=1e-12,
    )  # fmt: skip

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        value = loss()
        torch.autograd.backward(value)
        return value

    optimiser.step(closure)
    with torch.no_grad():
        found = curve()
        fixed = FittedCurve(
            found.scale.detach(), found.shift.detach(), found.slope.detach(),
            found.knee.detach().reshape(()), found.mix.detach().reshape(()),
        )  # fmt: skip
        residual = left().square().mean(dim=0).sqrt().numpy()
        return fixed, torch.exp(free["gain"]).numpy().copy(), residual
