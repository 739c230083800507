"""The reference firmware of the oscillator board, built and run in QEMU, for tests and benchmarks.

Its serial port is a pseudo-terminal; its clock is read out of its memory through QEMU's monitor, past the
protocol. Nobody installs this.
"""

from __future__ import annotations

import os
import re
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import termios
import time
import tty
from functools import lru_cache
from pathlib import Path

from labctl.devices.oscillator_wire import messages
from labctl.devices.oscillator_wire.frames import Frame, FrameReader

FOLDER = Path(__file__).parents[1] / "firmware"
SERIAL_AT, CLOCK_AT = 0x203F0000, 0x203F0008  # board.ld
NEEDS = ("arm-none-eabi-gcc", "qemu-system-arm", "make")
START_S = 10.0


def missing() -> str:
    """Why the firmware cannot be run here, in words; "" where it can."""
    absent = [name for name in NEEDS if shutil.which(name) is None]
    packages = "Debian: gcc-arm-none-eabi, qemu-system-arm, make"
    return f"{', '.join(absent)} not installed ({packages})" if absent else ""


@lru_cache(maxsize=1)
def built() -> Path:
    """The firmware, compiled from what is here now; RuntimeError with the compiler's words."""
    out = tempfile.mkdtemp(prefix="labctl-firmware-")
    command = ["make", "-C", str(FOLDER), f"OUT={out}", f"PYTHON={sys.executable}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"the firmware does not build: {done.stdout}{done.stderr}")
    return Path(out) / "firmware.elf"


class FirmwareBoard:
    """A Cortex-M3 that runs the firmware. `address`: its serial port."""

    def __init__(self, serial_number: int = 1) -> None:
        self._stopped = False
        self._folder = tempfile.TemporaryDirectory(prefix="labctl-qemu-")
        monitor = f"{self._folder.name}/monitor"
        self._qemu = subprocess.Popen(
            [
                "qemu-system-arm", "-M", "mps2-an385", "-display", "none", "-serial", "pty",
                "-monitor", f"unix:{monitor},server=on,wait=off", "-kernel", str(built()),
                "-device", f"loader,addr={SERIAL_AT:#x},data={serial_number:#x},data-len=4",
            ],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        self.address = self._printed_port()
        # held open: QEMU looks once a second whether somebody came back to a port that was left
        self._held = os.open(self.address, os.O_RDWR | os.O_NOCTTY)
        tty.setraw(self._held)
        self._monitor = socket.socket(socket.AF_UNIX)
        self._monitor.settimeout(START_S)
        self._monitor.connect(monitor)
        self._answer()
        self._wait_until_it_answers()

    @property
    def process_id(self) -> int:
        """Of QEMU."""
        return self._qemu.pid

    def clock_us(self) -> float:
        """What the sequencer's work has taken since the board was switched on, as its memory has it."""
        words = re.findall(r"0x([0-9a-f]{8})\b", self._command(f"xp /2wx {CLOCK_AT:#x}").split(":", 1)[1])
        low, high = (int(word, 16) for word in words[-2:])
        return (high << 32 | low) * 1e-3

    def restart(self) -> None:
        """Switch it off and on."""
        self._command("system_reset")

    def stop(self) -> None:
        """Take it away: its port is gone. Twice is harmless."""
        if not self._stopped:
            self._stopped = True
            self._monitor.close()
            os.close(self._held)
            self._qemu.kill()
        self._qemu.wait()
        if self._qemu.stdout is not None:
            self._qemu.stdout.close()
        self._folder.cleanup()

    def _printed_port(self) -> str:
        out, until = self._qemu.stdout, time.monotonic() + START_S
        while out is not None and select.select([out], [], [], max(0.0, until - time.monotonic()))[0]:
            line = out.readline()
            if found := re.search(r"redirected to (\S+)", line):
                return found[1]
            if not line:
                break
        self._qemu.kill()
        raise RuntimeError("QEMU names no serial port")

    def _wait_until_it_answers(self) -> None:
        status = Frame(0, messages.Status.KIND, 0, 0).encode()
        reader, until = FrameReader(), time.monotonic() + START_S
        while time.monotonic() < until:
            os.write(self._held, status)
            while select.select([self._held], [], [], 0.2)[0]:
                if reader.feed(os.read(self._held, 4096)):
                    time.sleep(0.02)
                    termios.tcflush(self._held, termios.TCIFLUSH)
                    return
        raise RuntimeError("the firmware does not answer")

    def _command(self, text: str) -> str:
        self._monitor.sendall(text.encode() + b"\n")
        return self._answer()

    def _answer(self) -> str:
        got = b""
        while not got.endswith(b"(qemu) "):
            got += self._monitor.recv(4096)
        return got.decode(errors="replace")
