"""A unit's numbers put together as the physics takes them: the effective forward map of the moment."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from labctl.physics import BenchLaw, ElectronicsCurve, LightPath, LoopErrors
from labctl_sim_devices.profile import OpticalProfile
from labctl_sim_devices.units import UnitTruth

FloatArray = NDArray[np.float64]
LIGHT_TERMS = (
    "emission",
    "self_heating",
    "input_efficiency",
    "weight_response",
    "output_correction",
    "beamsplitter",
    "neighbour_crosstalk",
    "compression",
    "crossing",
    "curve",
    "flicker",
    "drift",
    "warm_up",
    "mirror_resets",
    "ageing",
)
LOOP_TERMS = (
    "tia",
    "input_clip",
    "loop_offset",
    "loop_scale",
    "leak_error",
    "tau_spread",
    "drift",
    "mains",
    "ageing",
)


@dataclass(frozen=True, eq=False)
class BenchTruth:
    """The exact state of a bench at one time, for tests to score estimates against.

    law: forward map with the frame on display (flicker at its mean). tau_us [n] and trip_us (the amplifiers'
    pole included) of the closed loop. temperature_c. transmittance [2, n, n] as the light has it.
    """

    law: BenchLaw
    tau_us: FloatArray
    trip_us: float
    temperature_c: float
    unit: UnitTruth

    @property
    def transmittance(self) -> FloatArray:
        """Mean transmittance of each cell [2, n, n]."""
        return np.asarray(self.law.transmittance.numpy())

    def matrix(self) -> FloatArray:
        """Effective weights [n, n] around the working point: photocurrent per unit of phi."""
        return np.asarray(self.law.matrix().numpy())

    def rest(self) -> FloatArray:
        """Photocurrent [n] at phi = 0: what an offset null must take away."""
        return np.asarray(self.law.rest().numpy())

    def response(self, z: FloatArray) -> FloatArray:
        """Photocurrent [B, n] of states z [B, n], the resting current taken away."""
        seen = self.law.response(tensor(z))
        return np.asarray((seen - self.law.rest()).numpy())

    def next_state(self, z: FloatArray, gain: FloatArray, leak: FloatArray, bias: FloatArray) -> FloatArray:
        """F(z) [B, n] of the closed loop with a perfect offset null; arrays broadcast over [B, n]."""
        state, row_gain, row_leak, added = (tensor(part) for part in (z, gain, leak, bias))
        return np.asarray(self.law.next_state(state, row_gain, row_leak, added, self.law.rest()).numpy())


def light_path(profile: OpticalProfile, unit: UnitTruth, light: FloatArray) -> LightPath:
    """Parameters of the light's way, with factors [n] on the emitters' light."""
    b = profile.pedestal_units
    slope, square, cube = unit.emission_slope, unit.emission_quadratic, unit.emission_cubic
    constant = slope * b - square * b**2 + cube * b**3  # no drive, no light
    emission = np.stack([cube, square, slope, constant], axis=2) * light[:, None]
    crossing = tensor(unit.crossing) if unit.has("crossing") else None
    return LightPath(
        emission=tensor(emission),
        droop=tensor(_turning(slope, square, cube, b)),
        input_efficiency=tensor(unit.input_efficiency),
        weight_response=tensor(
            np.stack([unit.weight_quadratic, unit.weight_linear, unit.weight_constant], axis=2)
        ),
        output_correction=tensor(unit.output_correction),
        splitter=tensor(unit.splitter),
        neighbour=tensor(unit.neighbour),
        darkness=tensor(unit.darkness),
        compression=tensor(unit.compression),
        centre=b,
        crossing=crossing,
        order="splitter first" if crossing is None else "crosstalk first",
    )


def loop_errors(
    profile: OpticalProfile, unit: UnitTruth, offset: FloatArray, gain: FloatArray | None = None
) -> LoopErrors:
    """Parameters of the closed loop, with an offset [n] and a factor [n] on the gains of the moment."""
    limit = profile.full_scale_units * (1 - unit.clip_lost)
    return LoopErrors(
        offset=tensor(unit.loop_offset + offset),
        offset_per_gain=tensor(unit.loop_offset_per_gain),
        scale=tensor(unit.loop_scale if gain is None else unit.loop_scale * gain),
        bias_limit=tensor(limit),
        leak_scale=tensor(unit.leak_scale),
        leak_offset=tensor(unit.leak_offset),
    )


def curve(unit: UnitTruth) -> ElectronicsCurve | None:
    """The electronics' curve; None is tanh."""
    if unit.curve is None or not unit.has("curve"):
        return None
    return ElectronicsCurve(*(tensor(column) for column in unit.curve.T))


def tensor(values: FloatArray) -> Tensor:
    """Float64, its own memory."""
    return torch.tensor(np.asarray(values), dtype=torch.float64)


def _turning(slope: FloatArray, square: FloatArray, cube: FloatArray, centre: float) -> FloatArray:
    """Drive [2, n] at which light stops growing: the cubic's turning point above the pedestal, or none."""
    with np.errstate(divide="ignore", invalid="ignore"):
        root = np.sqrt(square**2 - 3 * cube * slope)
        above = np.where(cube == 0, -slope / (2 * square), (-square - root) / (3 * cube))
    return np.where((above > 0) & np.isfinite(above), centre + above, np.inf)
