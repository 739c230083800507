"""A spatial light modulator that is a screen of this computer: levels are the greys of its pixels."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from labctl.devices import (
    ConfigError,
    DeviceUnavailable,
    Identity,
    ModulatorSpec,
    Scalar,
    ShowReceipt,
    WeightModulator,
)
from labctl.devices.weight_modulator import LevelArray, frame_checksum
from labctl_drivers.display.outputs import display_at
from labctl_drivers.display.window import MARK_BIT_PX
from labctl_drivers.display.window_wire import WindowWire
from labctl_drivers.link import Deadline, LinkSettings, Wired

EXTRA = "pygame is not installed; pip install 'analog-labctl[display]'"
N_LEVELS = 256  # a byte a pixel
ADDRESS = re.compile(r"screen:(\d+)(?:@(\S+))?")
RHYTHM_SHARE = 0.02  # of the panel's refresh, by which flips that wait for it may differ


class DisplaySettings(LinkSettings):
    """What a cable to a display cannot say: the panel, where it lies on the screen, how its screen is driven.

    vsync: "required" refuses a screen whose flips do not come in the panel's rhythm, "asked" takes what there
    is, "off" does not wait for the retrace. delay_frames: refresh periods from the flip to the panel's
    pixels (scan-out and the controller's own buffer). mark_top_px, mark_left_px: where 32 squares of 8 pixels
    with the frame's number are drawn, outside the panel (none: nowhere). vendor, model, serial: empty for
    what the display's EDID says. simulated: whether a twin looks at the screen.
    """

    height_px: int = Field(ge=1)
    width_px: int = Field(ge=1)
    top_px: int = Field(default=0, ge=0)
    left_px: int = Field(default=0, ge=0)
    kind: Literal["lcos-intensity", "lcos-phase"] = "lcos-intensity"
    settle_us: float = Field(ge=0)
    refresh_hz: float = Field(default=60.0, gt=0)
    delay_frames: float = Field(default=2.0, ge=0)
    vsync: Literal["required", "asked", "off"] = "required"
    mark_top_px: int | None = Field(default=None, ge=0)
    mark_left_px: int = Field(default=0, ge=0)
    vendor: str = ""
    model: str = ""
    serial: str = ""
    simulated: bool = False
    open_timeout_s: float = 20.0
    timeout_s: float = 5.0
    attempts: int = Field(default=2, ge=1, le=10)

    @model_validator(mode="after")
    def _mark_beside_panel(self) -> Self:
        if self.mark_top_px is None:
            return self
        top, left = self.mark_top_px, self.mark_left_px
        rows_apart = top >= self.top_px + self.height_px or top + MARK_BIT_PX <= self.top_px
        columns_apart = left >= self.left_px + self.width_px or left + 32 * MARK_BIT_PX <= self.left_px
        if not (rows_apart or columns_apart):
            raise ValueError(f"mark_top_px is {top}; allowed: outside the panel's region, or no mark")
        return self


class DisplaySLM(Wired[WindowWire], WeightModulator):
    """A panel at `screen:N`, the computer's N-th from 0 (X: `screen:N@:1` on X display :1).

    A display answers nothing but its EDID, which names it where the settings do not: settle time and refresh
    are the settings', a receipt's checksum is of the frame handed over (`read_back` is false), and `shown`
    reads the window's buffer. `show` with `wait` sleeps `delay_frames` and `settle_us` after the flip. After
    `close` the screen belongs to the desktop.
    """

    Settings = DisplaySettings
    settings: DisplaySettings

    def __init__(self, name: str, address: str, **settings: Any) -> None:
        super().__init__(name, address, **settings)
        parts = ADDRESS.fullmatch(address)
        if parts is None:
            raise ConfigError(
                f"device {name!r}: address is {address!r}; allowed: screen:N, or screen:N@X-DISPLAY"
            )
        self._screen, self._x_display = int(parts[1]), parts[2] or ""
        s = self.settings
        delay_us = s.delay_frames * 1e6 / s.refresh_hz
        self._spec = ModulatorSpec(
            (s.height_px, s.width_px), N_LEVELS, delay_us + s.settle_us, s.refresh_hz, s.kind
        )
        self._frame_id = 0
        self._checksum = "none"
        self._last: LevelArray | None = None

    @property
    def spec(self) -> ModulatorSpec:
        """As the settings say; the settle time counts from the flip."""
        return self._spec

    def _connect(self, deadline: Deadline) -> WindowWire:
        orders = {"screen": self._screen, "x_display": self._x_display, "title": f"labctl: {self.name}"}
        wire = WindowWire(self.settings.model_dump() | orders, self.wire_log, deadline)
        if "missing" in wire.facts:
            wire.close()
            raise DeviceUnavailable(f"{EXTRA} ({wire.facts['missing']})", device=self.name, operation="open")
        if "refused" in wire.facts:
            wire.close()
            raise self._fault("open", wire.facts["refused"])
        return wire

    def _identify(self, wire: WindowWire, deadline: Deadline) -> Identity:
        s, facts = self.settings, wire.facts
        rhythm_us = facts["rhythm_us"]
        if s.vsync == "required" and abs(rhythm_us * s.refresh_hz * 1e-6 - 1) > RHYTHM_SHARE:
            raise self._fault(
                "open",
                f"flips come every {rhythm_us:.0f} us and the panel refreshes every {1e6 / s.refresh_hz:.0f} "
                'us: they would tear; allowed: its refresh_hz, or vsync = "asked" or "off"',
            )
        place = f"screen {self._screen} of {facts['screens']} on {facts['driver']} {self._x_display}".strip()
        output = display_at(self._screen, (facts["height_px"], facts["width_px"]), self._x_display)
        edid = None if output is None else output.edid
        vendor, model, serial = ("unknown", "panel on a screen", "")
        if edid is not None:
            vendor, model, serial = edid.manufacturer, edid.model, edid.serial
        serial = s.serial or serial
        if not serial:
            told = (output.trouble if output else "") or "the display tells none (no EDID)"
            raise self._fault("open", f"the panel needs a serial number, and {told}: set `serial`")
        said = "no EDID" if edid is None else f"EDID: {edid.words}"
        about = f"{place}, {facts['width_px']} x {facts['height_px']}; {said}; {facts['versions']}"
        return Identity(s.vendor or vendor, s.model or model, serial, about, simulated=s.simulated)

    def _program(self, wire: WindowWire, deadline: Deadline) -> None:
        """A new window is dark: what was on display is shown again."""
        if self._last is not None:
            wire.put_frame(self._last)
            wire.ask(deadline, do="show", waits=False)

    def _make_safe(self, wire: WindowWire, deadline: Deadline) -> None:
        wire.ask(deadline, do="end")

    def _do_close(self) -> None:
        self._last = None  # a window that is opened to go dark need not show it
        super()._do_close()

    def _do_snapshot(self) -> Mapping[str, Scalar]:
        answer, facts = self._exchange(
            "snapshot", lambda wire, deadline: (wire.ask(deadline, do="count"), wire.facts)
        )
        return {
            "frame_id": self._frame_id,
            "frame_crc32": self._checksum,
            "flips_count": answer["flips"],
            "flip_us": float(facts["rhythm_us"]),
            "refresh_hz": self.settings.refresh_hz,
            "driver_name": facts["driver"],
            "screen_id": self._screen,
        }

    def _do_show(self, levels: LevelArray, wait: bool) -> ShowReceipt:
        begun_s = time.perf_counter()

        def put_up(wire: WindowWire, deadline: Deadline) -> str:
            wire.put_frame(levels)
            wire.send(do="show", waits=wait)
            checksum = frame_checksum(levels)  # while the window draws
            wire.answer(deadline)
            return checksum

        self._checksum = self._exchange("show", put_up)
        self._frame_id, self._last = self._frame_id + 1, levels
        if wait:
            time.sleep(1e-6 * self._spec.settle_time_us)
        duration_us = 1e6 * (time.perf_counter() - begun_s)
        return ShowReceipt(self._frame_id, self._checksum, False, wait, duration_us)

    def _do_shown(self) -> LevelArray:
        def read(wire: WindowWire, deadline: Deadline) -> LevelArray:
            wire.ask(deadline, do="read")
            return wire.frame()

        return self._exchange("shown", read)
