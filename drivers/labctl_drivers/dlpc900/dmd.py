"""A micromirror device behind a DLPC900: frames are patterns on the fly, repeated for ever."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from functools import partial
from importlib.util import find_spec
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from labctl.devices import (
    ConfigError,
    DeviceUnavailable,
    DeviceValueError,
    Identity,
    ModulatorSpec,
    Scalar,
    ShowReceipt,
    WeightModulator,
)
from labctl.devices.weight_modulator import LevelArray, frame_checksum
from labctl_drivers.dlpc900 import commands as c
from labctl_drivers.dlpc900.erle import encode, encode_still
from labctl_drivers.dlpc900.hid_wire import HidWire, Refused, Reports, SocketReports, UsbReports
from labctl_drivers.link import Deadline, LinkSettings, Wired, WrongBox, require_firmware

T = TypeVar("T")
Work = Callable[[HidWire, Deadline], T]
TWIN_TAG = b"LABCTL TWIN"  # in a twin's firmware tag
MIRROR_SHAPE_PX = c.MIRRORS[1][1]


class DmdSettings(LinkSettings):
    """What the controller does not say of its mirrors.

    exposure_us: after which a frame that stays is latched anew; blank_us: how long light is gone then, and at
    the beginning of each plane of a sequence (measure both with a photodiode; 0: it is steady).
    report_us: time of one report of 64 bytes on USB (full speed: one each millisecond). max_upload_s: a frame
    that compresses to more than can be sent in that time is refused.
    """

    serial: str = Field(min_length=1)
    settle_us: float = Field(default=120.0, ge=0)
    exposure_us: int = Field(default=1000, ge=105, le=c.MAX_EXPOSURE_US)
    min_plane_us: int = Field(default=105, ge=105)
    blank_us: float = Field(default=0.0, ge=0)
    report_us: float = Field(default=1000.0, gt=0)
    max_upload_s: float = Field(default=120.0, gt=0)


class Dlpc900DMD(Wired[HidWire], WeightModulator):
    """Mirrors at `hid:` or `hid:SERIAL` (USB), or `socket:HOST:PORT` (reports over TCP: a twin).

    The controller shows no image back: a receipt's checksum is of the frame that was sent (`read_back` is
    false), every block of which the controller has confirmed; `shown` is that frame, if the sequencer still
    runs. Closing leaves the mirrors off.
    """

    Settings = DmdSettings
    settings: DmdSettings

    def __init__(self, name: str, address: str, **settings: Any) -> None:
        super().__init__(name, address, **settings)
        kind, _, self._place = address.partition(":")
        if kind not in ("hid", "socket") or (kind == "socket" and ":" not in self._place):
            raise ConfigError(
                f"device {name!r}: address is {address!r}; allowed: hid:, hid:SERIAL or socket:HOST:PORT"
            )
        self._kind = kind
        s = self.settings
        self._spec = ModulatorSpec(
            MIRROR_SHAPE_PX, 2, s.settle_us, 1e6 / s.min_plane_us, "dmd",
            repeat_us=float(s.exposure_us) if s.blank_us else 0.0,
            max_planes=c.PLANES, min_plane_us=float(s.min_plane_us), blank_us=s.blank_us,
        )  # fmt: skip
        self._frame_id, self._upload_s = 0, 0.0
        self._frame: LevelArray = np.zeros(MIRROR_SHAPE_PX, np.uint16)
        self._image: tuple[bytes, tuple[int, ...]] | None = None  # encoded, exposures
        self._repeat_us = self._spec.repeat_us

    @property
    def spec(self) -> ModulatorSpec:
        """As the controller's guide and the settings say."""
        return self._spec

    def _connect(self, deadline: Deadline) -> HidWire:
        reports: Reports
        if self._kind == "socket":
            reports = SocketReports(self._place, deadline)
        elif find_spec("hid") is None:
            message = "hidapi is not installed; pip install 'analog-labctl[dlpc900]'"
            raise DeviceUnavailable(message, device=self.name, operation="open")
        else:
            reports = UsbReports(self._place)
        return HidWire(reports, self.wire_log)

    def _identify(self, wire: HidWire, deadline: Deadline) -> Identity:
        return self._heard("open", self._identity_of)(wire, deadline)

    def _identity_of(self, wire: HidWire, deadline: Deadline) -> Identity:
        kind = wire.ask(c.FIRMWARE_TYPE, deadline)
        if not kind or kind[0] not in c.MIRRORS:
            mirrors = c.TWO_CONTROLLERS.get(kind[0] if kind else 0, "unknown mirrors")
            raise WrongBox(f"{mirrors}; allowed: {c.MIRRORS[1][0]} (those with two controllers are not)")
        version = wire.ask(c.VERSION, deadline, least=4)
        patch, minor, major = int.from_bytes(version[:2], "little"), version[2], version[3]
        tag = kind[1:].rstrip(b"\x00 ")
        found = Identity(
            "Texas Instruments", f"DLPC900 with {c.MIRRORS[kind[0]][0]}", self.settings.serial,
            f"{major}.{minor}.{patch} {tag.decode('ascii', 'replace')}".strip(),
            simulated=tag.startswith(TWIN_TAG),
        )  # fmt: skip
        require_firmware(found, c.OLDEST_FIRMWARE)
        return found

    def _program(self, wire: HidWire, deadline: Deadline) -> None:
        """After a reconnection, what was shown; the controller forgets it without power."""
        if self._image is not None:
            image, exposures_us = self._image
            longer = Deadline.after(self._limit_s(image))
            self._heard("open", partial(_put_up, image, exposures_us, False))(wire, longer)

    def _make_safe(self, wire: HidWire, deadline: Deadline) -> None:
        self._heard("close", self._darken(confirmed=True))(wire, deadline)

    def _command_safe(self, wire: HidWire, deadline: Deadline) -> None:
        self._darken(confirmed=False)(wire, deadline)

    def _darken(self, *, confirmed: bool) -> Work[None]:
        dark = encode_still(np.zeros(MIRROR_SHAPE_PX, np.uint16))
        return partial(_put_up, dark, (self.settings.exposure_us,), False, confirmed=confirmed)

    def _do_close(self) -> None:
        self._image = None
        try:
            super()._do_close()
        finally:
            self._frame = np.zeros(MIRROR_SHAPE_PX, np.uint16)

    def _do_snapshot(self) -> Mapping[str, Scalar]:
        status = self._run("snapshot", lambda wire, deadline: wire.ask(c.MAIN_STATUS, deadline))
        return {
            "frame_id": self._frame_id,
            "frame_crc32": frame_checksum(self._frame),
            "upload_s": self._upload_s,
            "main_status_codes": status[0],
        }

    def _do_show(self, levels: LevelArray, wait: bool) -> ShowReceipt:
        receipt = self._display("show", levels[None], (self.settings.exposure_us,), wait)
        self._repeat_us = self._spec.repeat_us
        return receipt

    def _do_show_sequence(
        self, planes: LevelArray, durations_us: NDArray[np.float64], wait: bool
    ) -> ShowReceipt:
        exposures = tuple(round(float(duration)) for duration in durations_us)
        for asked, whole in zip(durations_us, exposures, strict=True):
            if asked != whole or whole > c.MAX_EXPOSURE_US:
                raise DeviceValueError(
                    f"durations_us has {asked:g}; allowed: whole microseconds up to {c.MAX_EXPOSURE_US}",
                    device=self.name, operation="show_sequence",
                )  # fmt: skip
        receipt = self._display("show_sequence", planes, exposures, wait)
        self._repeat_us = float(sum(exposures))
        return receipt

    def _do_repeat_us(self) -> float:
        return self._repeat_us

    def _do_shown(self) -> LevelArray:
        status = self._run("shown", lambda wire, deadline: wire.ask(c.MAIN_STATUS, deadline))
        if self._frame_id and not (status and status[0] & c.RUNNING):
            raise self._fault("shown", "the sequencer does not run: the mirrors show something else")
        return self._frame.copy()

    def _display(
        self, operation: str, planes: LevelArray, exposures_us: tuple[int, ...], wait: bool
    ) -> ShowReceipt:
        begun_s = time.perf_counter()
        image = encode(planes) if len(planes) > 1 else encode_still(planes[0])
        self._require_budget(operation, image)
        self._run(operation, partial(_put_up, image, exposures_us, wait), self._limit_s(image))
        self._upload_s = time.perf_counter() - begun_s
        self._image, self._frame_id = (image, exposures_us), self._frame_id + 1
        self._frame = planes.reshape(-1, planes.shape[2])
        if wait:
            time.sleep(1e-6 * len(planes) * self._spec.settle_time_us)
        duration_us = 1e6 * (time.perf_counter() - begun_s)
        return ShowReceipt(self._frame_id, frame_checksum(self._frame), False, wait, duration_us)

    def _run(self, operation: str, work: Work[T], timeout_s: float | None = None) -> T:
        return self._exchange(operation, self._heard(operation, work), timeout_s=timeout_s)

    def _heard(self, operation: str, work: Work[T]) -> Work[T]:
        """`work`, the controller's own errors as this device's."""

        def carried_out(wire: HidWire, deadline: Deadline) -> T:
            try:
                return work(wire, deadline)
            except Refused as error:
                raise self._fault(operation, str(error)) from None

        return carried_out

    def _require_budget(self, operation: str, image: bytes) -> None:
        budget_s, needed_s = self.settings.max_upload_s, upload_s(len(image), self.settings.report_us)
        if needed_s > budget_s:
            raise DeviceValueError(
                f"the frame compresses to {len(image)} bytes, about {needed_s:.0f} s on USB; allowed: "
                f"max_upload_s = {budget_s:g}",
                device=self.name, operation=operation,
            )  # fmt: skip

    def _limit_s(self, image: bytes) -> float:
        """For an upload: twice what it should take."""
        return self.settings.timeout_s + 2 * upload_s(len(image), self.settings.report_us)


def upload_s(n_bytes: int, report_us: float) -> float:
    """Modelled time of an image on the wire: 8 reports out and one back for each 504 bytes."""
    per_block = c.BUFFER_BYTES // c.REPORT_BYTES + 1
    return math.ceil(n_bytes / c.LOAD_BYTES) * per_block * report_us * 1e-6


def _put_up(
    image: bytes,
    exposures_us: tuple[int, ...],
    waits: bool,
    wire: HidWire,
    deadline: Deadline,
    *,
    confirmed: bool = True,
) -> None:
    """The guide's "pattern on the fly" example, step by step; stopped first, as mcSIM (QI2lab) does."""
    tell = wire.tell if confirmed else wire.order
    tell(c.RUN, bytes([c.STOP]), deadline)
    tell(c.DISPLAY_MODE, bytes([c.ON_THE_FLY]), deadline)
    for plane, exposure_us in enumerate(exposures_us):
        tell(c.DEFINE, c.definition(plane, exposure_us, plane), deadline)
    tell(c.CONFIGURE, len(exposures_us).to_bytes(2, "little") + bytes(4), deadline)
    tell(c.INIT_LOAD, bytes(2) + len(image).to_bytes(4, "little"), deadline)
    for at in range(0, len(image), c.LOAD_BYTES):
        block = image[at : at + c.LOAD_BYTES]
        tell(c.LOAD_IMAGE, len(block).to_bytes(2, "little") + block, deadline)
    tell(c.RUN, bytes([c.START]), deadline, tag=int(waits))
