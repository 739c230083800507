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
from labctl_calibration.repeats import standard_error
from labctl_calibration.row_errors import Relative, Settles, relative_rows

FloatArray = NDArray[np.float64]
MAINS_US = 100_000.0  # five periods of 50 Hz, six of 60 Hz: over it, mains averages out
OPEN_CYCLES, OPEN_ROUNDS = 8, 8  # so many spans of that, rounds of all six settings in each
OPEN_BIAS = 0.7  # of the range, without gain
EQUILIBRIA = 1536
SPREAD_US = (OPEN_CYCLES + 1) * MAINS_US  # what `measure_rows` takes at least
PARTS = 4  # of a span, with pauses between: mains of 50 and of 60 Hz is at other phases in each
BIAS_UNITS = 2.6  # largest random bias: states reach well into saturation
LOOP_GAIN = 0.5  # of the gain at which the linear loop would begin to oscillate or lock
STEP_ID = 2**31 - 4096  # draws of their own, shared with no diffusion step
WORST_LEAK = (0.5, 2.0)
ITERATIONS = 80
CONSTANT_SETTLES, CONSTANT_ROWS, CONSTANT_GAIN = 64, 4, 4.0
CLEAR_OF_RANGE = 0.97  # of full scale: a clipped reading says nothing of its state
MOST_BIAS = 0.9  # of the DAC: rails may stand a little inside it
PULL = 1e-7  # of squares: fixes the gauge
MOST_SLOPE = 0.05  # of the curve beyond its knee


@dataclass(frozen=True, eq=False)
class Rows:
    """What the rows are beside what was set [n]; f of every channel; rms residual of the fit [n] (units).

    light_offset is P_0: an offset in front of the gain that only the closed loop shows. open_error [3, n]:
    standard errors of leak_scale, leak_offset and offset_units; relative: what the loop alone shows, with its
    errors. None where they are not known.
    """

    leak_scale: FloatArray
    leak_offset: FloatArray
    offset_units: FloatArray
    gain_scale: FloatArray
    light_offset: FloatArray
    curve: FittedCurve
    residual: FloatArray
    open_error: FloatArray | None = None
    relative: Relative | None = None


def measure_rows(electronics: LoopElectronics, light: EffectiveMap, *, seed: int = 0) -> Rows:
    """Fit the electronics around the frame on display. Raises DeviceFault for rows that do not answer."""
    (scale, constant, offset), open_error = _open_rows(electronics)
    gains, biases, z = equilibria(electronics, light, seed=seed, count=EQUILIBRIA)
    wanted = torch.from_numpy((scale + constant) * z - biases - offset)
    powers, limit = torch.from_numpy(light.powers), electronics.spec.adc.range_units
    inside = torch.from_numpy((np.abs(z) < CLEAR_OF_RANGE * limit).all(axis=1))
    settles = Settles(torch.from_numpy(z)[inside], wanted[inside], torch.from_numpy(gains)[inside])
    curve, gain, in_front, residual = _fit(powers, settles)
    relative = relative_rows(light, settles, curve, gain, in_front, open_error[[3, 2]], PULL * len(settles.z))
    return Rows(
        scale, constant, offset, gain.numpy(), in_front.numpy(), curve, residual, open_error[:3], relative
    )


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
    standard errors of these and of the whole leak at setting 1 [4, n], by the scatter between cycles.
    """
    spec = electronics.spec
    n, top = spec.n_channels, spec.dac.max_code
    asked = np.array([[s * OPEN_BIAS * leak, leak] for leak in (1.0, 0.6, 0.3) for s in (1, -1)])
    rows = np.tile(asked, (OPEN_ROUNDS * OPEN_CYCLES, 1))
    bias = np.rint(rows[:, :1] * top).astype(np.int64).repeat(n, axis=1)
    leak = np.rint(rows[:, 1:] * spec.max_leak_code).astype(np.int64).repeat(n, axis=1)
    dark = np.zeros((1, n), np.int64)
    z = _settled(electronics, bias, dark, leak, STEP_ID, spans=OPEN_CYCLES)
    b, weight = bias * spec.dac.units_per_code, leak / spec.max_leak_code
    # leak_scale (leak z) + leak_offset z - offset = bias: three unknowns a row
    design = np.stack([weight * z, z, -np.ones_like(z)], axis=2)  # [B, n, 3]
    design, right = (
        part.reshape(OPEN_CYCLES, -1, n, part.shape[-1]).swapaxes(1, 2) for part in (design, b[:, :, None])
    )  # [cycles, n, B, ...]
    across = design.swapaxes(2, 3)
    found = (np.linalg.pinv(across @ design) @ across @ right)[..., 0]  # [cycles, n, 3]; also of a stuck ADC
    scale = found[..., 0].mean(axis=0)
    low, high = WORST_LEAK
    bad = np.flatnonzero(~((scale > low) & (scale < high)))
    if len(bad):
        raise DeviceFault(
            f"rows {', '.join(map(str, bad[:8]))} do not follow their bias: leak is {scale[bad[0]]:.3g} "
            f"times what was set; allowed: {low:g} to {high:g}",
            device=electronics.name, operation="measure_rows",
        )  # fmt: skip
    whole = found[..., :1] + found[..., 1:2]
    error = standard_error(np.concatenate([found, whole], axis=2))
    return found.mean(axis=0).T.copy(), error.T.copy()


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
    z = _settled(electronics, bias, code, leak, STEP_ID + 1, spans=1)
    return gain, bias.astype(np.float64) * spec.dac.units_per_code, z


def _settled(
    electronics: LoopElectronics,
    bias: NDArray[np.int64],
    gain: NDArray[np.int64],
    leak: NDArray[np.int64],
    step_id: int,
    *,
    spans: int = 0,
) -> FloatArray:
    """States [B, n] in units after a long wait. `spans`: over so many `MAINS_US`, with pauses at the
    pedestal's light; 0: at once.
    """
    spec, ids = electronics.spec, np.arange(len(bias))
    wait_us, at_rest = 40 * spec.tau_us, np.zeros((1, spec.n_channels), np.int64)
    parts = max(1, PARTS * spans)
    spare_us = spans * MAINS_US - len(bias) * (wait_us + spec.window_us)
    pause = round(spare_us / parts / spec.window_us)
    found = []
    for part in np.array_split(ids, parts):
        codes = SettleCodes(
            bias=bias[part],
            gain=gain if len(gain) == 1 else gain[part],
            leak=leak if len(leak) == 1 else leak[part],
            gain_range=np.ones(spec.n_channels, np.int64),
            start=np.zeros_like(bias[part]),
            step_id=step_id,
            sample_id=part,
        )
        read = electronics.settle(codes, wait_us=wait_us)
        found.append(read.counts * spec.adc.units_per_code)
        if pause > 0:
            electronics.probe(at_rest, repeats=pause)
    return np.concatenate(found)


def _fit(
    powers: torch.Tensor, settles: Settles
) -> tuple[FittedCurve, torch.Tensor, torch.Tensor, FloatArray]:
    """Curve, gain scales and light offsets for gain_scale gain (P f(z) + P_0) = `wanted`, by L-BFGS; and the
    rms [n] of what is left.
    """
    z, wanted, gains = settles.z, settles.wanted, settles.gains
    n = z.shape[1]
    free = {
        name: torch.full((size,), start, dtype=torch.float64, requires_grad=True)
        for name, size, start in (
            ("reach", n, 0.0), ("scale", n, 0.0), ("shift", n, 0.0), ("slope", n, -2.0), ("gain", n, 0.0),
            ("light", n, 0.0), ("knee", 1, 0.0), ("mix", 1, 0.0),
        )
    }  # fmt: skip

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
        return left().square().mean() + PULL * pull

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
        return fixed, gain, free["light"].detach().clone(), residual
