"""A camera behind pylon's own emulated camera: what that one plays are pictures that the world's camera took.

The emulation in Basler's SDK has settings and no light: it plays the pictures of a folder, in the order of
their names, from the first whenever a grab begins. `EmulatedCamera` stands between the SDK's camera and its
driver, and lets the world take these pictures first, with the settings that the driver has made. Hardware
triggers come from the bench; the emulation has no lines, so its software trigger is pulled in their place,
once for each image that they brought. The emulated sensor is the larger one: the world's lies at its upper
left corner.
"""

from __future__ import annotations

import shutil
import tempfile
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from labctl.devices import Camera, DeviceStateError
from labctl.devices.camera import FEATURES

DEPTH = 16  # bits of a picture; the emulation takes the upper ones for formats with fewer
LINE, PULLED = "Line1", "Software"  # trigger sources of the emulation
PATIENCE_MS = 1000
SHEET = (
    "full_well_e", "quantum_efficiency", "read_noise_e", "dark_e_per_s", "prnu", "delay_us", "jitter_us",
    "line_us", "overhead_rows", "max_frames", "shutter", "pixel_format",
)  # fmt: skip


class PictureFace:
    """A world's camera that takes the pictures. Every call of the world goes through `lock`."""

    def __init__(self, device: Camera, lock: AbstractContextManager[object]) -> None:
        self._device, self._lock = device, lock
        self._folder: Path | None = None

    def data_sheet(self) -> dict[str, float | str | int]:
        """The driver's settings: what the standard's features do not say of a camera."""
        return {name: getattr(self._device.spec, name) for name in SHEET}

    def begin(self, nodes: Any, n: int) -> bool:
        """Be set as the emulation is, before a grab of n images; True where they wait for the bench's
        triggers.

        nodes: the emulation's node map.
        """
        wanted = {name: nodes.GetNode(name).GetValue() for name in FEATURES}
        wanted["BlackLevel"] = round(wanted["BlackLevel"])
        wanted["TriggerSource"] = self._device.spec.trigger_sources[0]
        triggered = bool(wanted["TriggerMode"] == "On")
        with self._lock:
            self._device.open()
            self._device.configure(wanted)
            if triggered:
                self._device.arm(n)
        self.stop()
        self._folder = Path(tempfile.mkdtemp(prefix="labctl-pictures-"))
        for name, value in (("TestImageSelector", "Off"), ("ImageFilename", str(self._folder)),
                            ("ImageFileMode", "On")):  # fmt: skip
            nodes.GetNode(name).SetValue(value)
        if triggered:  # the names are read as the grab begins, what is in the files with each trigger
            self._write(np.zeros((n, wanted["Height"], wanted["Width"]), np.uint16))
        else:
            self.take(n)
        return triggered

    def take(self, n: int) -> int:
        """Pictures of n images, or of those that the bench's triggers brought; how many there are."""
        with self._lock:
            if self._device.settings.trigger_mode == "On":
                n = min(n, self._device.triggers_seen())
            if n == 0:
                return 0
            counts = self._device.acquire(n).counts
        self._write(counts)
        return len(counts)

    def stop(self) -> None:
        """Put the pictures away; the device is left as it is."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def _write(self, counts: NDArray[np.uint16]) -> None:
        if self._folder is None:
            raise DeviceStateError("no grab has begun", device=self._device.name, operation="take")
        for place, image in enumerate(counts << (DEPTH - self._device.spec.bit_depth)):
            Image.fromarray(image).save(self._folder / f"{place:06d}.png", compress_level=1)


class EmulatedCamera:
    """The SDK's open camera with a world behind it; all that is not here is the SDK's own.

    returning: the SDK's word for a wait whose end is no error.
    """

    def __init__(self, camera: Any, face: PictureFace, returning: Any) -> None:
        self._camera, self._face, self._returning = camera, face, returning
        self._awaited = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._camera, name)

    def StartGrabbingMax(self, n: int, strategy: Any) -> None:
        """As the SDK's; the world has taken its pictures before, or waits for triggers."""
        self._awaited = n if self._face.begin(self._camera.GetNodeMap(), n) else 0
        self._camera.StartGrabbingMax(n, strategy)

    def RetrieveResult(self, wait_ms: int, handling: Any) -> Any:
        """As the SDK's; triggers that the bench has sent are passed on before."""
        if self._awaited and (came := self._face.take(self._awaited)):
            self._awaited = 0
            source = self._camera.GetNodeMap().GetNode("TriggerSource")
            source.SetValue(PULLED)
            for _ in range(came):
                self._camera.WaitForFrameTriggerReady(PATIENCE_MS, self._returning)
                self._camera.ExecuteSoftwareTrigger()
            source.SetValue(LINE)
        return self._camera.RetrieveResult(wait_ms, handling)
