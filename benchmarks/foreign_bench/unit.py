"""What one foreign bench is made of: a perfect one, or one drawn by seed from the published spreads.

[P] published for the real machines (adm.md 2.1, adm_reference_numbers.md B), [A] assumed.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating]
N = 48
PANEL_PX = (1080, 1920)
CELL_PX = (22, 20)
LEVELS = 256


@dataclass(frozen=True, eq=False)
class ForeignUnit:
    """Constants of one bench. Index p is the sign path (0 positive), j an input channel, i an output.

    Panel: retardance at rest over pi (`rest_retardance`), threshold and scale of the director's turning (V),
    the driver's highest voltage, cell-gap map as coefficients [p, 3, 3] of a polynomial over the half,
    `fringe_px` (fields between pixels), `fill`, `stray` [p] (light that no level takes away) with its map,
    `dead_pixels` [m, 3] = y, x, lit. `band`: rms relative width of the emitters' spectrum.
    Relay: amplitude point spread `blur_px`, share `coherence` of the light that interferes across it;
    registration [p]: `shift_px` [p, 2], `turn_rad`, `zoom` [p, 2], `barrel_px` and, for a panel that stands
    askew, `keystone_px` [p, 2] (both at the corners).
    Beams: widths in cells, their soft edges (cells), `beam_fall` [p]: log of the light at the field's end.
    Emitters: `efficiency` [j], non-radiative and Auger shares [j], pedestal (units of phi = 1).
    Detectors: `responsivity` and `neighbour` (to i-1, i+1) [p, ...], `saturation_units` [p], `splitter_leak`.
    Electronics: see `electronics.py`; `input_offset` [i] stands in front of the gain, behind what probes read.
    """

    serial: str
    # panel
    rest_retardance: float
    threshold_v: float
    turning_v: float
    highest_v: float
    gap_map: FloatArray
    fringe_px: float
    fill: float
    stray: FloatArray
    stray_map: FloatArray
    dead_pixels: NDArray[np.int64]
    band: float
    flicker: float
    flicker_hz: float
    rise_us: float
    fall_us: float
    # relay and beams
    blur_px: float
    coherence: float
    shift_px: FloatArray
    turn_rad: FloatArray
    zoom: FloatArray
    barrel_px: FloatArray
    keystone_px: FloatArray
    beam_width: float
    detector_width: float
    soft_edge: float
    beam_fall: FloatArray
    # emitters and detectors
    pedestal_units: float
    efficiency: FloatArray
    nonradiative: FloatArray
    auger: FloatArray
    warm_up: float
    responsivity: FloatArray
    neighbour: FloatArray
    saturation_units: FloatArray
    splitter_leak: float
    # electronics
    reach: FloatArray
    slope: FloatArray
    centre_units: FloatArray
    erf_share: FloatArray
    gain_scale: FloatArray
    offset_units: FloatArray
    input_offset: FloatArray
    leak_scale: FloatArray
    leak_offset: FloatArray
    tau_us: FloatArray
    hum_units: float
    # noise
    photocurrent_ua: float
    detector_pa_per_rthz: float
    rin_dbc_per_hz: float
    loop_noise_units: float


def fingerprint(unit: ForeignUnit) -> str:
    """Eight hex digits of every constant: another unit is another serial."""
    values = (np.asarray(getattr(unit, field.name)) for field in fields(unit))
    return f"{zlib.crc32(b''.join(v.tobytes() for v in values)):08x}"


# the maker's own panel, that the driver's table from levels to volts was made for
NOMINAL_REST = 1.25
NOMINAL_THRESHOLD_V = 1.0
NOMINAL_TURNING_V = 0.8
TAU_US = 0.75  # profile adm
FILL = 0.93  # [A] of the panel's area, of what a drawn unit's pixels cover


def perfect_unit(serial: str = "perfect") -> ForeignUnit:
    """A bench that does what the data sheets say; its noise is that of any other."""
    return ForeignUnit(
        serial=serial,
        rest_retardance=NOMINAL_REST,
        threshold_v=NOMINAL_THRESHOLD_V,
        turning_v=NOMINAL_TURNING_V,
        highest_v=math.inf,
        gap_map=np.zeros((2, 3, 3)),
        fringe_px=0.0,
        fill=1.0,
        stray=np.zeros(2),
        stray_map=np.zeros((2, 3, 3)),
        dead_pixels=np.zeros((0, 3), np.int64),
        band=0.0,
        flicker=0.0,
        flicker_hz=460.0,
        rise_us=1800.0,
        fall_us=1800.0,
        blur_px=0.0,
        coherence=0.0,
        shift_px=np.zeros((2, 2)),
        turn_rad=np.zeros(2),
        zoom=np.ones((2, 2)),
        barrel_px=np.zeros(2),
        keystone_px=np.zeros((2, 2)),
        beam_width=1.0,
        detector_width=1.0,
        soft_edge=0.0,
        beam_fall=np.zeros(2),
        pedestal_units=1.2,
        efficiency=np.ones(N),
        nonradiative=np.zeros(N),
        auger=np.zeros(N),
        warm_up=0.0,
        responsivity=np.ones((2, N)),
        neighbour=np.zeros((2, N, 2)),
        saturation_units=np.full(2, math.inf),
        splitter_leak=0.0,
        reach=np.ones(N),
        slope=np.ones(N),
        centre_units=np.zeros(N),
        erf_share=np.zeros(N),
        gain_scale=np.ones(N),
        offset_units=np.zeros(N),
        input_offset=np.zeros(N),
        leak_scale=np.ones(N),
        leak_offset=np.zeros(N),
        tau_us=np.full(N, TAU_US),
        hum_units=0.0,
        photocurrent_ua=1.0,
        detector_pa_per_rthz=2.0,
        rin_dbc_per_hz=-140.0,
        loop_noise_units=0.0038,
    )


def drawn_unit(seed: int) -> ForeignUnit:
    """Bench number `seed` of a population with every fault; the same number is the same bench."""
    rng = np.random.Generator(np.random.Philox(key=(seed, 0xF0)))

    def spread(sd: float, *shape: int) -> FloatArray:
        return rng.normal(scale=sd, size=shape)

    def factor(mean: float, sd: float, *shape: int) -> FloatArray:
        """Log-normal about a mean."""
        log_sd = math.sqrt(math.log1p((sd / mean) ** 2))
        return mean * np.exp(log_sd * rng.normal(size=shape) - log_sd**2 / 2)

    edge = np.abs(np.arange(N) - (N - 1) / 2) / (N / 2)
    efficiency = np.clip(factor(1.0, 0.25, N), 0.45, 1.5) * (1 - 0.25 * edge**4)  # [P] sd .25, weak edges
    efficiency[rng.integers(N)] = 0.0  # [P] one dead input
    base = perfect_unit()
    n_dead = 40  # [A]
    return ForeignUnit(
        serial=f"{seed}",
        rest_retardance=float(NOMINAL_REST * (1 + rng.normal(scale=0.02))),  # [A]
        threshold_v=float(NOMINAL_THRESHOLD_V + rng.normal(scale=0.03)),  # [A]
        turning_v=float(NOMINAL_TURNING_V * (1 + rng.normal(scale=0.03))),  # [A]
        highest_v=5.0,  # [A]
        gap_map=spread(0.012, 2, 3, 3),  # [A] some percent over the panel
        fringe_px=float(rng.uniform(0.25, 0.45)),  # [A]
        fill=FILL,
        stray=FILL / (np.array([factor(19, 4), factor(14, 3)]) - 1),  # [P] on / off 19 and 14
        stray_map=spread(0.06, 2, 3, 3),  # [A]
        dead_pixels=np.stack(
            [rng.integers(PANEL_PX[0], size=n_dead), rng.integers(PANEL_PX[1], size=n_dead),
             rng.integers(2, size=n_dead)], axis=1,
        ),
        band=0.029,  # [P] 35 nm FWHM at 520 nm
        flicker=0.004,  # [A] of the retardance
        flicker_hz=460.0,
        rise_us=1500.0,
        fall_us=2100.0,
        blur_px=float(rng.uniform(0.9, 1.5)),  # [A] amplitude; 1 to 2% of a cell's light in each neighbour
        coherence=float(rng.uniform(0.2, 0.8)),  # [A]
        shift_px=spread(3.0, 1, 2) + spread(1.0, 2, 2),  # [A]
        turn_rad=spread(1.5e-3, 2),  # [A]
        zoom=1 + spread(2e-3, 2, 1) + spread(5e-4, 2, 2),  # [A]
        barrel_px=spread(0.8, 2),  # [A]
        keystone_px=spread(0.3, 2, 2),  # [A]
        beam_width=float(rng.uniform(0.86, 0.94)),  # [A]
        detector_width=float(rng.uniform(0.88, 0.95)),  # [A]
        soft_edge=float(rng.uniform(0.02, 0.05)),  # [A]
        beam_fall=rng.uniform(0.1, 0.3, 2),  # [A]
        pedestal_units=base.pedestal_units,
        efficiency=efficiency,
        nonradiative=rng.uniform(0.1, 0.3, N),  # [A] bends the first tenth of the range
        auger=rng.uniform(0.03, 0.1, N),  # [A]
        warm_up=0.01,  # [A]
        responsivity=np.clip(factor(0.95, 0.09, 2, N), 0.6, 1.2),  # [P] full scale .42 to 1
        neighbour=np.minimum(np.exp(rng.normal(math.log(0.024), 1.2, (2, N, 2))), 0.31),  # [P] mean .05, to .31
        saturation_units=rng.uniform(700.0, 1500.0, 2),  # [P] 4 to 5% at full light
        splitter_leak=0.005,  # [P]
        reach=1 + spread(0.03, N),  # [A]
        slope=1 + spread(0.03, N),  # [A]
        centre_units=spread(0.02, N),  # [A]
        erf_share=np.clip(rng.uniform(0.2, 0.8) + spread(0.1, N), 0.0, 1.0),  # [P] knee sharper than tanh
        gain_scale=0.73 + spread(0.025, N),  # [P]
        offset_units=spread(0.026, N),  # [P] 9 mV
        input_offset=-0.3 + spread(0.2, N),  # [P] that it grows with the gain, [A] how much
        leak_scale=1 + spread(0.01, N),  # [A]
        leak_offset=spread(0.004, N),  # [A]
        tau_us=TAU_US * (1 + spread(0.05, N)),  # [A]
        hum_units=0.004,  # [A] 0.1% of full scale
        photocurrent_ua=base.photocurrent_ua,
        detector_pa_per_rthz=base.detector_pa_per_rthz,
        rin_dbc_per_hz=base.rin_dbc_per_hz,
        loop_noise_units=base.loop_noise_units,
    )  # fmt: skip
