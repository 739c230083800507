"""What an adaptation came to know of its frame, in one file: for whoever asks later, without the bench."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch

from labctl.devices import DataError
from labctl.physics import FittedCurve, FittedMap
from labctl_calibration.frame_flicker import FrameFlicker
from labctl_calibration.operating import Known

CURVE = ("reach", "scale", "shift", "slope", "knee", "mix")


@dataclass(frozen=True, eq=False)
class KeptMaps:
    """Of one frame, in its program's rows: its map as `probed` at its load, and as `known` after settles of
    its own; its flicker.
    """

    probed: FittedMap
    known: Known
    flicker: FrameFlicker

    def write(self, path: Path) -> None:
        """Into an npz file, whole or not at all."""
        light, curve = self.known.light, self.known.light.curve
        arrays = {f"curve_{name}": getattr(curve, name).numpy() for name in CURVE}
        arrays |= {"known_powers": light.powers.numpy(), "known_offset": light.offset.numpy()}
        arrays |= {"probed_powers": self.probed.powers.numpy(), "probed_offset": self.probed.offset.numpy()}
        arrays["known_root"] = self.known.root.astype(np.float32)
        arrays |= {"flicker_hz": self.flicker.frequency_hz, "flicker": self.flicker.amplitude}
        part = path.with_name(f"{path.name}.{os.getpid()}.part")
        with part.open("wb") as file:
            np.savez(file, **arrays)
        part.replace(path)

    @classmethod
    def read(cls, path: Path) -> KeptMaps:
        """Back. DataError for a file that is damaged."""
        try:
            with path.open("rb") as opened, np.load(opened) as file:
                arrays = {name: file[name] for name in file.files}
            curve = FittedCurve(*(torch.from_numpy(arrays[f"curve_{name}"]) for name in CURVE))
            known, probed = (
                FittedMap(
                    torch.from_numpy(arrays[f"{name}_powers"]),
                    curve,
                    torch.from_numpy(arrays[f"{name}_offset"]),
                )
                for name in ("known", "probed")
            )
            flicker = FrameFlicker(arrays["flicker_hz"], arrays["flicker"])
            return cls(probed, Known(known, arrays["known_root"].astype(np.float64)), flicker)
        except (OSError, KeyError, ValueError, BadZipFile) as error:
            raise DataError(f"{path}: is damaged ({error}); remove it, and it is made anew") from None
