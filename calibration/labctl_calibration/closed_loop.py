"""What the electronics add when the loop is closed: offsets, leak and gain errors, the curve f of a channel.

First with every gain off, where (leak_scale leak + leak_offset) z = bias + offset. Then from equilibria under
random biases with a gain well below oscillation: each settled state obeys

    (leak_scale leak + leak_offset) z = gain_scale gain (sum_k P_k f(z)^k + P_0) + bias + offset

in every row, with P_k known from open-loop probes; gain_scale, P_0 and f are fitted to that. Only the product
of gain_scale and f acts on a state, so f is pulled to tanh where nothing else decides (the gauge).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from labctl.devices import DeviceFault, LoopElectronics, SettleCodes
from labctl.physics import FittedCurve, FittedMap
from labctl.programs import RowTrims
from labctl_calibration.effective_map import EffectiveMap

FloatArray = NDArray[np.float64]
OFFSET_REPEATS = 32
OPEN_BIAS = 0.7  # of the range, without gain
EQUILIBRIA = 1536
BIAS_UNITS = 2.6  # largest random bias: states reach well into saturation
LOOP_GAIN = 0.5  # of the gain at which the linear loop would begin to oscillate or lock
STEP_ID = 2**31 - 4096  # draws of their own, shared with no diffusion step
WORST_LEAK = (0.5, 2.0)
ITERATIONS = 80
CONSTANT_SETTLES, CONSTANT_ROWS, CONSTANT_GAIN = 64, 4, 4.0
CLEAR_OF_RANGE = 0.97  # of full scale: a clipped reading says nothing of its state
MOST_BIAS = 0.9  # of the DAC: rails may stand a little inside it
MOST_SLOPE = 0.05  # of the curve beyond its knee


@dataclass(frozen=True, eq=False)
class Rows:
    """What the rows are beside what was set [n]; f of every channel; rms residual of the fit [n] (units).

    light_offset is P_0: an offset in front of the gain that only the closed loop shows. open_error [3, n]:
    standard errors of leak_scale, leak_offset and offset_units; None where they are not known.
    """

    leak_scale: FloatArray
    leak_offset: FloatArray
    offset_units: FloatArray
    gain_scale: FloatArray
    light_offset: FloatArray
    curve: FittedCurve
    residual: FloatArray
    open_error: FloatArray | None = None


def measure_rows(electronics: LoopElectronics, light: EffectiveMap, *, seed: int = 0) -> Rows:
    """Fit the electronics around the frame on display. Raises DeviceFault for rows that do not answer."""
    (scale, constant, offset), open_error = _open_rows(electronics)
    gains, biases, z = equilibria(electronics, light, seed=seed, count=EQUILIBRIA)
    wanted = torch.from_numpy((scale + constant) * z - biases - offset)
    powers, limit = torch.from_numpy(light.powers), electronics.spec.adc.range_units
    fitted = _fit(powers, torch.from_numpy(z), wanted, torch.from_numpy(gains), limit)
    curve, gain_scale, light_offset, residual = fitted
    # mains is slower than the settles without gain, and scatters those with gain: what is left of their
    # equations tells how far an offset moves from one look to the next, and a leak by its share of the bias
    slow = np.array([1 / (OPEN_BIAS * electronics.spec.dac.range_units)] * 2 + [1.0])[:, None] * residual
    open_error = np.hypot(open_error, slow)
    return Rows(scale, constant, offset, gain_scale, light_offset, curve, residual, open_error)


def loop_constant(
    electronics: LoopElectronics, light: EffectiveMap, curve: FittedCurve, trims: RowTrims
) -> FloatArray:
    """P_0 of the frame on display [n]: what is constant in front of each row's gain.

    It differs from frame to frame: a constant in f, which no equilibrium of one frame tells from P_0, comes
    through every frame's own weights. A few rows at a time get a large gain, against which offsets and mains
    behind it are small, and biases that cancel what they should see; all others hold random states without
    gain. `curve` and `trims` are in the electronics' order of channels.
    """
    spec = electronics.spec
    n = spec.n_channels
    fitted = FittedMap(torch.from_numpy(light.powers), curve, torch.zeros(n, dtype=torch.float64))

    def seen(z: FloatArray) -> FloatArray:
        return np.asarray(fitted(torch.from_numpy(z)).numpy())

    code = spec.hidden_gain.code(np.full(1, CONSTANT_GAIN))[0]
    gain = float(spec.hidden_gain.value(np.array([code]))[0])
    rng = np.random.Generator(np.random.Philox(key=303))
    groups = [np.arange(first, min(first + CONSTANT_ROWS, n)) for first in range(0, n, CONSTANT_ROWS)]
    batch = len(groups) * CONSTANT_SETTLES
    codes, asked = np.zeros((batch, n), np.int64), rng.uniform(-BIAS_UNITS, BIAS_UNITS, (batch, n))
    tested = np.zeros((batch, n), np.bool_)
    for k, rows in enumerate(groups):
        tested[k * CONSTANT_SETTLES : (k + 1) * CONSTANT_SETTLES, rows] = True
    codes[tested] = code
    leak = trims.leak_scale + trims.leak_offset
    held = np.where(tested, 0.0, (asked + trims.offset_units) / leak)
    asked = np.where(tested, -gain * trims.gain_scale * seen(held), asked)
    top = MOST_BIAS * spec.dac.range_units
    bias = np.rint(np.clip(asked, -top, top) / spec.dac.units_per_code).astype(np.int64)
    z = _settled(electronics, bias, codes, np.full((1, n), spec.max_leak_code), STEP_ID + 2)
    acting = leak * z - bias * spec.dac.units_per_code - trims.offset_units
    left = acting / (trims.gain_scale * gain) - seen(z)
    good = tested & (np.abs(z) < CLEAR_OF_RANGE * spec.adc.range_units)
    if (good.sum(axis=0) < CONSTANT_SETTLES // 8).any():
        row = int(good.sum(axis=0).argmin())
        raise DeviceFault(
            f"row {row} leaves the ADC's range in most settles at gain {gain:.3g}; allowed: offsets below "
            f"{spec.adc.range_units / gain:.2g} full-scale weights",
            device=electronics.name, operation="loop_constant",
        )  # fmt: skip
    return np.asarray(np.where(good, left, 0.0).sum(axis=0) / good.sum(axis=0))


def _open_rows(electronics: LoopElectronics) -> tuple[FloatArray, FloatArray]:
    """leak_scale, leak_offset and offset of every row [3, n], without gain: two biases at three leaks; and
    their standard errors.
    """
    spec = electronics.spec
    n, top = spec.n_channels, spec.dac.max_code
    asked = np.array([[s * OPEN_BIAS * leak, leak] for leak in (1.0, 0.6, 0.3) for s in (1, -1)])
    rows = np.repeat(asked, OFFSET_REPEATS, axis=0)
    bias = np.rint(rows[:, :1] * top).astype(np.int64).repeat(n, axis=1)
    leak = np.rint(rows[:, 1:] * spec.max_leak_code).astype(np.int64).repeat(n, axis=1)
    z = _settled(electronics, bias, np.zeros((1, n), np.int64), leak, STEP_ID)
    b, weight = bias * spec.dac.units_per_code, leak / spec.max_leak_code
    # leak_scale (leak z) + leak_offset z - offset = bias: three unknowns a row
    design = np.stack([weight * z, z, -np.ones_like(z)], axis=2).transpose(1, 0, 2)  # [n, B, 3]
    normal = design.transpose(0, 2, 1) @ design
    right = (design.transpose(0, 2, 1) @ b.T[:, :, None])[:, :, 0]
    found = np.linalg.solve(normal, right[:, :, None])[:, :, 0]
    scale = found[:, 0]
    left = b.T - (design @ found[:, :, None])[:, :, 0]
    variance = (left**2).sum(axis=1) / (len(b) - 3)
    error = np.sqrt(variance[:, None] * np.diagonal(np.linalg.inv(normal), axis1=1, axis2=2))
    low, high = WORST_LEAK
    bad = np.flatnonzero(~((scale > low) & (scale < high)))
    if len(bad):
        raise DeviceFault(
            f"rows {', '.join(map(str, bad[:8]))} do not follow their bias: leak is {scale[bad[0]]:.3g} "
            f"times what was set; allowed: {low:g} to {high:g}",
            device=electronics.name, operation="measure_rows",
        )  # fmt: skip
    return found.T.copy(), error.T.copy()


def equilibria(
    electronics: LoopElectronics, light: EffectiveMap, *, seed: int, count: int
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """(gains [B, 1], biases and states [B, n]) of settles under random biases at two gains, in units."""
    spec = electronics.spec
    n = spec.n_channels
    slowest = float(np.abs(np.linalg.eigvals(light.powers[0])).max())
    wanted = LOOP_GAIN / max(slowest, 1e-3)
    half = np.where(np.arange(count) % 2, wanted, wanted / 3)[:, None]
    code = spec.hidden_gain.code(np.broadcast_to(half, (count, n)))
    gain = spec.hidden_gain.value(code)[:, :1]
    rng = np.random.Generator(np.random.Philox(key=seed + 202))
    units = rng.uniform(-BIAS_UNITS, BIAS_UNITS, (count, n)) * rng.uniform(0.1, 1.0, (count, 1))
    bias = np.rint(units / spec.dac.units_per_code).astype(np.int64)
    leak = np.full((1, n), spec.max_leak_code)
    z = _settled(electronics, bias, code, leak, STEP_ID + 1)
    return gain, bias.astype(np.float64) * spec.dac.units_per_code, z


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
    powers: torch.Tensor, z: torch.Tensor, wanted: torch.Tensor, gains: torch.Tensor, limit: float
) -> tuple[FittedCurve, FloatArray, FloatArray, FloatArray]:
    """Curve, gain scales and light offsets for gain_scale gain (P f(z) + P_0) = `wanted`, by L-BFGS."""
    n = z.shape[1]
    free = {
        name: torch.full((size,), start, dtype=torch.float64, requires_grad=True)
        for name, size, start in (
            ("reach", n, 0.0), ("scale", n, 0.0), ("shift", n, 0.0), ("slope", n, -2.0), ("gain", n, 0.0),
            ("light", n, 0.0), ("knee", 1, 0.0), ("mix", 1, 0.0),
        )
    }  # fmt: skip
    inside = (z.abs() < CLEAR_OF_RANGE * limit).all(dim=1)
    z, wanted, gains = z[inside], wanted[inside], gains[inside]

    def curve() -> FittedCurve:
        return FittedCurve(
            reach=torch.exp(free["reach"]),
            scale=torch.exp(free["scale"]),
            shift=free["shift"],
            slope=MOST_SLOPE * torch.sigmoid(free["slope"]),
            knee=3.0 * torch.exp(free["knee"]),
            mix=torch.sigmoid(free["mix"]),
        )

    def left() -> torch.Tensor:
        y = FittedMap(powers, curve(), free["light"])(z)
        return torch.exp(free["gain"]) * gains * y - wanted

    def loss() -> torch.Tensor:
        # small pulls fix what no state can tell apart (the gauge), far below what they can
        pull = sum((free[name] ** 2).mean() for name in ("reach", "scale", "shift"))
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

    optimiser.step(closure)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        found = curve()
        fixed = FittedCurve(
            found.reach, found.scale, found.shift.detach().clone(), found.slope,
            found.knee.reshape(()), found.mix.reshape(()),
        )  # fmt: skip
        residual = left().square().mean(dim=0).sqrt().numpy()
        gain = torch.exp(free["gain"]).detach()
        return fixed, gain.numpy().copy(), free["light"].detach().numpy().copy(), residual
