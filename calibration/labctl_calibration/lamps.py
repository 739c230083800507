"""Who lights the panel: loop electronics, or emitter drivers on a bench that has no loop."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labctl.devices import Camera, Frames, Hold, InputDrive, LoopElectronics
from labctl.engines.spots import film


@dataclass(frozen=True)
class Lamps:
    """n emitters of a device that can trigger a camera; codes 0 .. top drive all of them alike."""

    device: LoopElectronics | InputDrive

    @property
    def n_channels(self) -> int:
        """Emitters."""
        return self.device.spec.n_channels

    @property
    def top(self) -> int:
        """The largest code that every emitter can be given at once."""
        if isinstance(self.device, LoopElectronics):
            return self.device.spec.probe_dac.max_code
        spec = self.device.spec
        return int(min(spec.max_channel_ma, spec.max_total_ma / spec.n_channels) / spec.ma_per_code)

    def off(self) -> None:
        """Every emitter dark."""
        codes = np.zeros((1, self.n_channels), np.int64)
        if isinstance(self.device, LoopElectronics):
            self.device.probe(codes, at="emitter")
        else:
            self.device.drive(codes)

    def film(self, camera: Camera, codes: NDArray[np.int64]) -> Frames:
        """One frame of each pattern [B, n]."""

        def light(hold: Hold) -> None:
            if isinstance(self.device, LoopElectronics):
                self.device.probe(codes, at="emitter", hold=hold)
            else:
                self.device.drive(codes, hold=hold)

        return film(camera, len(codes), light)[0]
