"""`labctl align`: frames measured while somebody looks, keys obeyed, pictures saved."""

from __future__ import annotations

import base64
import datetime
import json
import math
import time
from collections import deque
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from labctl_calibration import nominal_panel_record
from labctl_calibration.alignment import Alignment, Look, advice
from numpy.typing import NDArray

from labctl.dashboard.server import Page, served
from labctl.devices import Camera, DataError, InputDrive, LoopElectronics, WeightModulator
from labctl.rig import Rig

FASTEST_HZ = 10.0  # a person sees no more, and the bench has other owners of its machine's cores
OVERVIEW_EVERY, OVERVIEW_STEP = 5, 4  # the whole sensor: every so many frames, so many pixels as one
EXPOSURE_FACTOR = 1.25
GRID_STEP_PX, PANEL_STEP_PX, LARGE = 0.25, 1, 4  # of a jog; with shift LARGE times as far
KEPT = 64  # frames whose numbers can still be saved
SHOWN_LEVELS = 254  # 255 is a saturated pixel
PNG = b"\x89PNG\r\n\x1a\n"
ARROWS = {"ArrowUp": (-1, 0), "ArrowDown": (1, 0), "ArrowLeft": (0, -1), "ArrowRight": (0, 1)}


def emitters_of(rig: Rig) -> LoopElectronics | InputDrive:
    """What lights a rig's panel: its loop's electronics, or emitters that the host drives.

    ConfigError where it has neither.
    """
    loops = (device for device in rig.devices.values() if isinstance(device, LoopElectronics))
    return next(loops, None) or rig.device(InputDrive)


class _Aligning:
    """One session: what keys do, and the message that a look becomes."""

    def __init__(self, rig: Rig, folder: Path) -> None:
        modulator, camera = rig.device(WeightModulator), rig.device(Camera)
        record = nominal_panel_record(modulator.spec, rig.config.n_channels, "design")
        self.bench = Alignment(modulator, emitters_of(rig), camera, record)
        self.rig, self.folder = rig, folder
        self.max_code = camera.spec.max_code
        self.jogs, self.frozen = "grid", False
        self.frames = 0
        self._overview: dict[str, Any] = {}
        self._times_s: deque[float] = deque(maxlen=20)
        self._measured_of: dict[int, dict[str, Any]] = {}

    def obey(self, key: str) -> bool:
        """Do what a key asks; False where it asks for the end."""
        name = key.removeprefix("shift+")
        if name in ARROWS:
            self._jog(*ARROWS[name], LARGE if key != name else 1)
        elif name == "q":
            return False
        elif name == " ":
            self.frozen = not self.frozen
        elif name == "r":
            self.bench.register()
        elif name == "t":
            self.jogs = "panel" if self.jogs == "grid" else "grid"
        elif name == "p":
            self.bench.show("cells" if self.bench.pattern == "all" else "all")
        elif name in ("+", "-"):
            self.bench.expose(EXPOSURE_FACTOR ** (1 if name == "+" else -1))
        return True

    def _jog(self, down: int, right: int, times: int) -> None:
        if self.jogs == "panel":
            self.bench.jog_panel(down * times * PANEL_STEP_PX, right * times * PANEL_STEP_PX)
        else:
            self.bench.jog_grid(down * times * GRID_STEP_PX, right * times * GRID_STEP_PX)

    def message(self) -> dict[str, Any]:
        """One frame, measured, for the page."""
        look = self.bench.look()
        self.frames += 1
        self._times_s.append(time.monotonic())
        numbers = self._measured(look)
        self._measured_of = {**dict(list(self._measured_of.items())[1 - KEPT :]), self.frames: numbers}
        first = advice(look)
        if (self.frames - 1) % OVERVIEW_EVERY == 0:
            self._overview = self._image(_coarse(look.counts)) | {
                "step": OVERVIEW_STEP, "frame": self.frames
            }  # fmt: skip
        return {
            "rig": self.rig.name,
            "simulated": self.rig.simulated,
            "said": first or look.said,
            "wrong": bool(first),
            "frozen": self.frozen,
            "jogs": self.jogs,
            "pattern": look.pattern,
            "numbers": numbers,
            "image": self._image(look.counts_near) | {"top": look.top, "left": look.left},
            "overview": self._overview,
            "pitch": look.pitch_px,
            "grid": np.round(look.grid_px, 3).tolist(),
            # where the picture's rows begin: the grid before jogs, so that jogs move the grid on the screen
            "home": np.round(look.grid_px[0] - look.grid_shift_px, 3).tolist(),
            "centres": [
                [None if math.isnan(y) else [round(y, 3), round(x, 3)] for y, x in path]
                for path in look.spots.centre_px.tolist()
            ],
        }

    def _measured(self, look: Look) -> dict[str, Any]:
        """What operators look at; None where there is nothing to measure."""
        span = self._times_s[-1] - self._times_s[0]
        values = {
            "exposure_us": look.exposure_us,
            "peak_percent": 100 * look.peak_share,
            "saturated_px": look.saturated_px,
            "dark_counts": look.spots.dark_counts,
            "spots_lit": int(look.spots.lit.sum()),
            "spots": look.spots.lit.size,
            "spot_width_px": look.spots.width_px,
            "sharpness": look.spots.sharpness,
            "residual_px": look.residual_px,
            "off_down_px": look.off_px[0],
            "off_right_px": look.off_px[1],
            "contrast": look.contrast,
            "frame_hz": (len(self._times_s) - 1) / span if span > 0 else math.nan,
            "temperature_c": look.temperature_c,
            "panel_down_px": look.panel_shift_px[0],
            "panel_right_px": look.panel_shift_px[1],
            "grid_down_px": look.grid_shift_px[0],
            "grid_right_px": look.grid_shift_px[1],
            "frame": self.frames,
        }
        return {name: None if math.isnan(value) else value for name, value in values.items()}

    def _image(self, counts: NDArray[np.uint16]) -> dict[str, Any]:
        """Counts as bytes of `SHOWN_LEVELS`, the largest count as 255."""
        black = self.bench.camera.settings.black_level_codes
        above = np.clip(counts.astype(np.float64) - black, 0, None) / (self.max_code - black)
        shown = np.rint(SHOWN_LEVELS * above).astype(np.uint8)
        shown[counts >= self.max_code] = 255
        height, width = counts.shape
        return {"height": height, "width": width, "data": base64.b64encode(shown.tobytes()).decode()}

    def save(self, frame: int, picture: bytes) -> str:
        """Keep a picture that the page drew of a frame, and the frame's numbers; returns its path."""
        numbers = self._measured_of.get(frame)
        if numbers is None or not picture.startswith(PNG):
            return f"not saved: allowed: a PNG of one of the last {KEPT} frames"
        stamp = datetime.datetime.now(datetime.UTC).strftime("%Y%m%d-%H%M%S-%f")[:-3]
        file = self.folder / f"align-{self.rig.name}-{stamp}.png"
        about = {"rig": self.rig.name, "simulated": self.rig.simulated, "saved_at": stamp, **numbers}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            file.write_bytes(picture)
            file.with_suffix(".json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            return f"not saved: {self.folder}: {error.strerror or error}"
        return str(file)


def align(rig: Rig, *, port: int, folder: Path, ready: Callable[[str], None]) -> None:
    """Serve the alignment page of an open rig until somebody presses q; `ready` gets its address.

    Frames are taken while a page asks for them; the calling thread alone touches the devices. In the end,
    however it comes, the emitters are off and the panel dark. Raises ConfigError where the rig lacks a
    camera, a panel or emitters, or the port cannot be had; DataError where the folder is a file.
    """
    session = _Aligning(rig, folder)
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder}: is a file; allowed: a folder for pictures")
    page = Page(page_html(), session.save)
    with served(page, port) as address:
        try:
            session.bench.light()
            ready(address)
            _follow(session, page)
        finally:
            page.publish({"closed": True})
            session.bench.dark()


def _follow(session: _Aligning, page: Page) -> None:
    """Look, publish, obey, until the end is asked for."""
    page.publish(session.message())
    due_s = time.monotonic()
    while True:
        key = page.command(max(due_s - time.monotonic(), 0.0) if page.watched else 0.1)
        if key is not None:
            was_frozen = session.frozen
            if not session.obey(key):
                return
            if was_frozen and session.frozen:
                continue
        elif session.frozen or not page.watched:
            due_s = time.monotonic() + 1 / FASTEST_HZ
            continue
        page.publish(session.message())
        due_s = time.monotonic() + 1 / FASTEST_HZ


def page_html() -> str:
    """The page, self-contained."""
    return (resources.files("labctl.dashboard") / "align.html").read_text("utf-8")


def _coarse(counts: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """The brightest of each square of pixels, so that a small spot or a saturated pixel is not lost."""
    step = OVERVIEW_STEP
    height, width = (size // step * step for size in counts.shape)
    return np.asarray(counts[:height, :width].reshape(height // step, step, -1, step).max(axis=(1, 3)))
