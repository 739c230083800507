"""What a physical fault changes on a bench where a drawn unit has no parameter for it: as built, nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from labctl.physics import LightPath

FloatArray = NDArray[np.float64]
Levels = NDArray[np.uint16]


@dataclass(frozen=True, eq=False)
class AdcFault:
    """Of the state's converters: offset_units on every row; one row's bit held at 0 or 1 (row None: none)."""

    offset_units: float = 0.0
    row: int | None = None
    bit: int = 0
    held: int = 0

    def read(self, z: NDArray[np.floating], unit: float, max_code: int) -> NDArray[np.floating]:
        """States [B, n] as these converters would have them; `unit` is a code in network units."""
        seen = z + np.asarray(self.offset_units, z.dtype)
        if self.row is not None:
            code = np.clip(np.rint(seen[:, self.row] / unit), -max_code, max_code).astype(np.int64)
            binary = code + max_code + 1  # offset binary
            binary = binary | (1 << self.bit) if self.held else binary & ~(1 << self.bit)
            seen[:, self.row] = (binary - max_code - 1) * unit
        return np.ascontiguousarray(seen)


@dataclass(frozen=True, eq=False)
class Broken:
    """drives, detectors [n]: which emitter (detector) each channel's cable leads to; stuck: an emitter whose
    drive stays at so many units. passed [2, n, n]: share of each cell's light that still comes through.
    detector_gain [2, n], detector_units [2, n]: of each photodiode, and current without light. frame: what a
    panel with dead lines makes of levels [height, width]. flip, panel_tau_us: in place of the profile's.
    warmer_c: of the whole bench. noise [n]: factor on each row's own noise. early_us: the read-out comes so
    long before it should.
    """

    drives: NDArray[np.int64] | None = None
    stuck: tuple[int, float] | None = None
    detectors: NDArray[np.int64] | None = None
    passed: FloatArray | None = None
    detector_gain: FloatArray | None = None
    detector_units: FloatArray | None = None
    frame: Callable[[Levels], Levels] | None = None
    flip: str | None = None
    panel_tau_us: float | None = None
    warmer_c: float = 0.0
    noise: FloatArray | None = None
    adc: AdcFault | None = None
    early_us: float = 0.0


SOUND = Broken()


@dataclass(frozen=True)
class BrokenPath(LightPath):
    """A light path whose features are in the order of the electronics' channels, whatever the cables do.

    `emission` and `droop` are given in that order; inputs, outputs [n] say which emitter and detector each
    channel is cabled to, gain and current [2, n] are those of the detectors.
    """

    inputs: Tensor | None = None
    outputs: Tensor | None = None
    gain: Tensor | None = None
    current: Tensor | None = None

    @classmethod
    def of(cls, path: LightPath, broken: Broken) -> Self:
        """A path with these faults in it."""
        plain = {field.name: getattr(path, field.name) for field in fields(LightPath)}
        if broken.drives is not None:
            order = torch.from_numpy(broken.drives)
            plain |= {"emission": path.emission[:, order], "droop": path.droop[:, order]}
        made = cls(
            **plain,
            inputs=None if broken.drives is None else torch.from_numpy(broken.drives),
            outputs=None if broken.detectors is None else torch.from_numpy(broken.detectors),
            gain=None if broken.detector_gain is None else torch.from_numpy(broken.detector_gain),
            current=None if broken.detector_units is None else torch.from_numpy(broken.detector_units),
        )
        return made if broken.stuck is None else made._with_stuck(*broken.stuck)

    def _with_stuck(self, channel: int, drive_units: float) -> Self:
        given = torch.full((1, self.emission.shape[1]), drive_units, dtype=self.emission.dtype)
        emission = self.emission.clone()
        emission[:, channel] = 0.0
        emission[:, channel, 3] = self.light(given)[0, :, channel]
        return type(self)(
            **{field.name: getattr(self, field.name) for field in fields(self)} | {"emission": emission}
        )

    def optical(self, transmittance: Tensor) -> Tensor:
        """As `LightPath.optical`, by the channels that drive."""
        found = super().optical(transmittance)
        return found if self.inputs is None else found[..., self.inputs]

    def folded(self, transmittance: Tensor) -> tuple[Tensor, Tensor]:
        """As `LightPath.folded`, by the channels that drive and that read."""
        matrices, constants = super().folded(transmittance)
        if self.inputs is not None:
            matrices = matrices[..., self.inputs]
        if self.gain is not None:
            matrices, constants = matrices * self.gain[:, None, :, None], constants * self.gain
        if self.current is not None:
            constants = constants + self.current
        if self.outputs is not None:
            matrices, constants = matrices[:, :, self.outputs], constants[:, self.outputs]
        return matrices, constants

    def currents(self, light: Tensor, transmittance: Tensor) -> Tensor:
        """As `LightPath.currents`."""
        matrices, constants = self.folded(transmittance)
        return self.compressed(torch.einsum("pqoi,bqi->bpo", matrices, light) + constants)
