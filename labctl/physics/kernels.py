"""Compiled element-wise kernels for the hot path: tanh, and normals from counters.

The small ones that a host runs between settles are compiled too, so that a step's bookkeeping stays far
below a millisecond (a chain of array operations costs more in starting than in working).

They vectorise (no calls into libm), so a settle is bound by its matrix product and not by its
nonlinearity. numba compiles them at first use and caches the result.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

_F = np.float32
Float32 = NDArray[np.float32]
Floats = NDArray[np.floating]


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy", inline="always")
def _tanh(x: np.float32) -> np.float32:  # pragma: no cover - compiled
    """tanh of one float32, absolute error below 3e-7.

    The rational function of degree 13 over 6 in wide use for float32 (Eigen, XNNPACK), clamped where tanh
    rounds to one.
    """
    v = min(max(x, _F(-7.90531110763549805)), _F(7.90531110763549805))
    s = v * v
    p = _F(-2.76076847742355e-16)
    p = p * s + _F(2.00018790482477e-13)
    p = p * s + _F(-8.60467152213735e-11)
    p = p * s + _F(5.12229709037114e-08)
    p = p * s + _F(1.48572235717979e-05)
    p = p * s + _F(6.37261928875436e-04)
    p = p * s + _F(4.89352455891786e-03)
    q = _F(1.19825839466702e-06)
    q = q * s + _F(1.18534705686654e-04)
    q = q * s + _F(2.26843463243900e-03)
    q = q * s + _F(4.89352518554385e-03)
    return v * p / q


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def tanh_into(x: Float32, out: Float32) -> None:  # pragma: no cover - compiled
    """out = tanh(x), flat float32 arrays."""
    for i in range(x.size):
        out[i] = _tanh(x[i])


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def step_into(  # pragma: no cover - compiled
    z: Float32, now: Float32, before: Float32, decay: Float32, share: Float32, extend: Float32, phi: Float32
) -> None:
    """A step and the next nonlinearity in one pass: z, now, before, phi [B, n]; the rest [n].

    z = decay z + share now + extend before, phi = tanh(z).
    """
    for b in range(z.shape[0]):
        for i in range(z.shape[1]):
            new = decay[i] * z[b, i] + share[i] * now[b, i] + extend[i] * before[b, i]
            z[b, i] = new
            phi[b, i] = _tanh(new)


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def corrected_step_into(  # pragma: no cover - compiled
    z: Float32,
    now: Float32,
    before: Float32,
    decay: Float32,
    share: Float32,
    extend: Float32,
    end: Float32,
    start: Float32,
    phi: Float32,
) -> None:
    """A corrected step and the nonlinearity a step further, in one pass; arrays as in `step_into`.

    z = decay z + end now + start before, phi = tanh(decay z + share now + extend before).
    """
    for b in range(z.shape[0]):
        for i in range(z.shape[1]):
            new = decay[i] * z[b, i] + end[i] * now[b, i] + start[i] * before[b, i]
            z[b, i] = new
            phi[b, i] = _tanh(decay[i] * new + share[i] * now[b, i] + extend[i] * before[b, i])


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def euler_step_into(  # pragma: no cover - compiled
    z: Float32, now: Float32, decay: Float32, share: Float32, phi: Float32
) -> None:
    """`step_into` for a step that needs no earlier forcing."""
    for b in range(z.shape[0]):
        for i in range(z.shape[1]):
            new = decay[i] * z[b, i] + share[i] * now[b, i]
            z[b, i] = new
            phi[b, i] = _tanh(new)


@njit(cache=True, nogil=True)
def philox_words(  # pragma: no cover - compiled
    key0: np.uint32,
    key1: np.uint32,
    sample: NDArray[np.uint32],
    step: np.uint32,
    substep: np.uint32,
    first: NDArray[np.uint32],
    second: NDArray[np.uint32],
) -> None:
    """Ten Philox rounds on the counters (sample, step, substep, block), block = 0 .. blocks - 1.

    Words 0 and 1 go to first[B, 2 blocks], words 2 and 3 to second[B, 2 blocks].
    """
    mask = np.uint64(0xFFFFFFFF)
    shift = np.uint64(32)
    m0 = np.uint64(0xD2511F53)
    m1 = np.uint64(0xCD9E8D57)
    blocks = first.shape[1] // 2
    for b in range(sample.shape[0]):
        for block in range(blocks):
            c0 = np.uint64(sample[b])
            c1 = np.uint64(step)
            c2 = np.uint64(substep)
            c3 = np.uint64(block)
            k0 = np.uint64(key0)
            k1 = np.uint64(key1)
            for _ in range(10):
                p0 = m0 * c0
                p1 = m1 * c2
                c0 = (p1 >> shift) ^ c1 ^ k0
                c1 = p1 & mask
                c2 = (p0 >> shift) ^ c3 ^ k1
                c3 = p0 & mask
                k0 = (k0 + np.uint64(0x9E3779B9)) & mask
                k1 = (k1 + np.uint64(0xBB67AE85)) & mask
            first[b, block] = np.uint32(c0)
            first[b, blocks + block] = np.uint32(c1)
            second[b, block] = np.uint32(c2)
            second[b, blocks + block] = np.uint32(c3)


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def box_muller(  # pragma: no cover - compiled
    radius: NDArray[np.uint32],
    angle: NDArray[np.uint32],
    value: Float32,
    bits: NDArray[np.int32],
    scratch: Float32,
    out: Float32,
) -> None:
    """Two normals from each pair of words, 23 bits of each: radius, angle [B h] flat, out [B, 2 h].

    value and bits are one scratch buffer [B h], seen as float32 and as int32. Polynomials: ln by its atanh
    series on [1/sqrt 2, sqrt 2], sine and cosine of half the angle by Taylor series.
    """
    for j in range(radius.size):
        value[j] = _F(np.int32(radius[j] >> np.uint32(9))) + _F(0.5)
    for j in range(radius.size):  # ln u, u = value / 2^23: split into exponent and mantissa around 1
        word = bits[j] - np.int32(0x3F3504F3)
        scratch[j] = _F((word >> np.int32(23)) - np.int32(23)) * _F(0.6931471805599453)
        bits[j] = (word & np.int32(0x007FFFFF)) + np.int32(0x3F3504F3)
    for j in range(radius.size):
        s = (value[j] - _F(1.0)) / (value[j] + _F(1.0))
        q = s * s
        series = _F(1.0) + q * (_F(1 / 3) + q * (_F(0.2) + q * (_F(1 / 7) + q * _F(1 / 9))))
        value[j] = np.sqrt(_F(-2.0) * (scratch[j] + _F(2.0) * s * series))
    half = out.shape[1] // 2
    for b in range(out.shape[0]):
        for i in range(half):
            t = (_F(np.int32(angle[b * half + i] >> np.uint32(9))) + _F(0.5)) * _F(2.0**-23) - _F(0.5)
            y = t * _F(3.141592653589793)
            q = y * y
            p = _F(1 / 362880) - q * _F(1 / 39916800)
            p = _F(-1 / 5040) + q * p
            p = _F(1 / 120) + q * p
            p = _F(-1 / 6) + q * p
            sine = y * (_F(1.0) + q * p)
            c = _F(-1 / 3628800) + q * _F(1 / 479001600)
            c = _F(1 / 40320) + q * c
            c = _F(-1 / 720) + q * c
            c = _F(1 / 24) + q * c
            cosine = _F(1.0) + q * (_F(-0.5) + q * c)
            r = value[b * half + i]
            out[b, i] = r * (_F(2.0) * sine * sine - _F(1.0))
            out[b, half + i] = r * _F(-2.0) * sine * cosine


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def modulate(  # pragma: no cover - compiled
    phi: Floats, pedestal: float, noise_sd: float, normal: Floats, light: Floats, flicker: Floats
) -> None:
    """light = pedestal + phi; flicker = light n_RIN: the emitters' intensity noise. All [B, n]."""
    for b in range(phi.shape[0]):
        for i in range(phi.shape[1]):
            light[b, i] = phi[b, i] + pedestal
            flicker[b, i] = light[b, i] * noise_sd * normal[b, i]


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def noisy_step(  # pragma: no cover - compiled
    z: Floats,
    y: Floats,
    flicker: Floats,
    now: Floats,
    before: Floats,
    gain: Floats,
    bias: Floats,
    decay: Floats,
    share: Floats,
    extend: Floats,
    floor: Floats,
    slope: Floats,
    light: Floats,
    normal: Floats,
) -> None:
    """One exponential step with its additive noise, in place; arrays [B, n], tables [1, n] or [B, n].

    now = gain y + bias; z = decay z + share now + extend before + (share + extend) gain flicker
    + sqrt(floor + slope light) normal. flicker is the outputs' intensity noise over the step: white, so it is
    held, while the forcing is extrapolated.
    """
    g = 0 if gain.shape[0] == 1 else 1
    k = 0 if decay.shape[0] == 1 else 1
    v = 0 if floor.shape[0] == 1 else 1
    for b in range(z.shape[0]):
        for i in range(z.shape[1]):
            forcing = gain[b * g, i] * y[b, i] + bias[b, i]
            now[b, i] = forcing
            drift = decay[b * k, i] * z[b, i] + share[b * k, i] * forcing + extend[b * k, i] * before[b, i]
            drift += (share[b * k, i] + extend[b * k, i]) * gain[b * g, i] * flicker[b, i]
            variance = floor[b * v, i] + slope[b * v, i] * light[b, i]
            z[b, i] = drift + np.sqrt(variance) * normal[b, i]


@njit(cache=True, nogil=True, error_model="numpy")
def adc_sample(  # pragma: no cover - compiled
    z: Floats,
    unit: float,
    limit: float,
    first: NDArray[np.float64],
    is_first: bool,
    total: NDArray[np.float64],
    squares: NDArray[np.float64],
    clipped: NDArray[np.bool_],
) -> None:
    """One ADC sample of z [B, n]: round to codes, clip at +-limit (noted), add to the window's sums.

    squares are around the first sample of the window, so that they do not cancel.
    """
    for b in range(z.shape[0]):
        for i in range(z.shape[1]):
            code = np.rint(z[b, i] / unit)
            if not abs(code) <= limit:  # beyond the range, or not a number
                clipped[b, i] = True
                code = -limit if code < -limit else limit
            if is_first:
                first[b, i] = code
            total[b, i] += code
            squares[b, i] += (code - first[b, i]) ** 2


@njit(cache=True, error_model="numpy")
def row_peak(values: NDArray[np.float64], out: NDArray[np.float64]) -> None:  # pragma: no cover - compiled
    """out [B] = the largest |value| of each row of values [B, r]; nan where there is one."""
    for b in range(values.shape[0]):
        peak = 0.0
        for i in range(values.shape[1]):
            size = abs(values[b, i])
            if not size <= peak:
                peak = size
            if size != size:
                break
        out[b] = peak


@njit(cache=True, fastmath={"contract", "reassoc"}, error_model="numpy")
def residual_peak(  # pragma: no cover - compiled
    seen: NDArray[np.float64],
    own: NDArray[np.float64],
    weights: Float32,
    gain: NDArray[np.float64],
    leak: NDArray[np.float64],
    bias: NDArray[np.float64],
    limit: float,
    out: NDArray[np.float64],
) -> None:
    """out [B] = the largest |F(z) - z| over rows own [B, r] that are fed by columns seen [B, c].

    F = (1 - leak) own + gain (W tanh(seen)) + bias, kept inside +-limit; weights [r, c], gain [1 or B, r],
    leak [r], bias [B, r].
    """
    phi = np.empty(seen.shape[1], np.float32)
    g = 0 if gain.shape[0] == 1 else 1
    for b in range(seen.shape[0]):
        for j in range(seen.shape[1]):
            phi[j] = _tanh(_F(seen[b, j]))
        peak = 0.0
        for i in range(own.shape[1]):
            drive = _F(0.0)
            for j in range(seen.shape[1]):
                drive += weights[i, j] * phi[j]
            predicted = (1 - leak[i]) * own[b, i] + gain[b * g, i] * drive + bias[b, i]
            size = abs(min(max(predicted, -limit), limit) - own[b, i])
            if not size <= peak:
                peak = size
        out[b] = peak


@njit(cache=True, nogil=True, error_model="numpy")
def interpolate_rows(  # pragma: no cover - compiled
    z: Float32, table: Float32, low: float, per_unit: float, out: Float32, slope: Float32
) -> None:
    """out [B, n] and its slope from each channel's values [n, T], linear between equal steps from `low`.

    Beyond the ends the end's value, slope 0. per_unit: steps in a unit of z.
    """
    last = table.shape[1] - 1
    for b in range(z.shape[0]):
        for i in range(z.shape[1]):
            place = (z[b, i] - low) * per_unit
            if place <= 0 or place >= last:
                out[b, i] = table[i, 0 if place <= 0 else last]
                slope[b, i] = _F(0)
                continue
            k = int(place)
            rise = table[i, k + 1] - table[i, k]
            out[b, i] = table[i, k] + _F(place - k) * rise
            slope[b, i] = rise * _F(per_unit)
