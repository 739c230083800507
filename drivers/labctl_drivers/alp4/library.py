"""The entry points of ViALUX's ALP library that still frames need, by ctypes.

Names, arguments and numbers are those of the open wrapper ALP4lib 1.1.0 (wavefrontshaping), which is written
after the vendor's "ALP-4 high-speed API" description. The vendor's library itself comes with the device.
"""

from __future__ import annotations

import ctypes as ct
from typing import Final

from labctl_drivers.link import Deadline, WireLog, WireLost

DEFAULT: Final = 0
DEVICE_NUMBER, VERSION, DEV_STATE = 2000, 2001, 2002  # to inquire of a device
DISPLAY_HEIGHT, DISPLAY_WIDTH = 2057, 2058
BIN_MODE, BIN_UNINTERRUPTED = 2104, 2106  # of a sequence: no dark phase between its pictures
GONE: Final = (1001, 1011, 1012)  # not found or not ready, communication, removed
ERRORS: Final = {
    1001: "device not found or not ready",
    1002: "device not idle",
    1003: "device identifier not valid",
    1004: "device already allocated",
    1005: "a parameter is invalid",
    1006: "error accessing user data",
    1007: "memory not available",
    1008: "sequence in use",
    1009: "stopped while image data was transferred",
    1010: "initialization error",
    1011: "communication error",
    1012: "device removed",
    1013: "on-board FPGA is unconfigured",
    1014: "not supported by this version of the driver file",
    1018: "mirrors did not wake up from power float",
    1019: "support in ALP drivers missing",
    1020: "SDRAM initialization failed",
}
_LONG, _ID = ct.c_long, ct.c_ulong
ENTRIES: Final = {
    "AlpDevAlloc": (_LONG, _LONG, ct.POINTER(_ID)),
    "AlpDevInquire": (_ID, _LONG, ct.POINTER(_LONG)),
    "AlpDevHalt": (_ID,),
    "AlpDevFree": (_ID,),
    "AlpSeqAlloc": (_ID, _LONG, _LONG, ct.POINTER(_ID)),
    "AlpSeqControl": (_ID, _ID, _LONG, _LONG),
    "AlpSeqTiming": (_ID, _ID, _LONG, _LONG, _LONG, _LONG, _LONG),
    "AlpSeqPut": (_ID, _ID, _LONG, _LONG, ct.c_void_p),
    "AlpSeqFree": (_ID, _ID),
    "AlpProjStartCont": (_ID, _ID),
}


class Refused(Exception):
    """The library's own error, in words."""


class AlpWire:
    """A device, allocated. Calls return when they are done: a deadline cannot cut them short."""

    def __init__(self, path: str, number: int, log: WireLog) -> None:
        """The device with this serial number (0: the first) of the library at `path`."""
        self._log = log
        try:
            library = ct.CDLL(path)
            self._entries = {name: getattr(library, name) for name in ENTRIES}
        except (OSError, AttributeError) as error:
            raise Refused(f"{path} is no ALP library ({error}); ViALUX delivers it with the device") from None
        for name, entry in self._entries.items():
            entry.argtypes, entry.restype = ENTRIES[name], _LONG
        device, self._shown, self._device = _ID(0), 0, 0
        self.call("AlpDevAlloc", number, DEFAULT, ct.byref(device))
        self._device = device.value

    def inquire(self, what: int) -> int:
        """A property of the device."""
        value = _LONG(0)
        self.call("AlpDevInquire", self._device, what, ct.byref(value))
        return value.value

    def put_up(self, pixels: bytes, picture_us: int, deadline: Deadline) -> None:
        """Show a picture of bytes (0 or 255, top row first), latched every picture_us, for ever."""
        device, before, sequence = self._device, self._shown, _ID(0)
        self.call("AlpSeqAlloc", device, 1, 1, ct.byref(sequence))
        new = sequence.value
        self.call("AlpSeqControl", device, new, BIN_MODE, BIN_UNINTERRUPTED)
        self.call("AlpSeqTiming", device, new, DEFAULT, picture_us, DEFAULT, DEFAULT, DEFAULT)
        buffer = ct.create_string_buffer(pixels, len(pixels))
        self.call("AlpSeqPut", device, new, 0, 0, ct.addressof(buffer))
        if before:
            self.call("AlpDevHalt", device)
        self.call("AlpProjStartCont", device, new)
        self._shown = new
        if before:
            self.call("AlpSeqFree", device, before)

    def close(self) -> None:
        """Let go of the device; mirrors are released."""
        device, self._device = self._device, 0
        if device:
            for name in ("AlpDevHalt", "AlpDevFree"):
                self._entries[name](device)

    def call(self, name: str, *arguments: object) -> None:
        """One entry point; Refused or WireLost where it does not return ALP_OK."""
        self._log.sent(f"{name}{arguments}".encode())
        code = self._entries[name](*arguments)
        self._log.received(str(code).encode())
        if code:
            words = f"{name} failed: {ERRORS.get(code, 'error')} ({code})"
            raise WireLost(words) if code in GONE else Refused(words)
