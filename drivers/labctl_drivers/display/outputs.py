"""Which display hangs on which screen: by X (xrandr) or, where that says nothing, by the kernel's list.

SDL counts screens as X does its outputs in use, the primary one first. A screen whose size is not the
output's is not taken for it. Windows and macOS are not asked.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from labctl.devices import DataError
from labctl_drivers.display.edid import Edid, parse

ASK_S = 3.0
DRM = Path("/sys/class/drm")
OUTPUT = re.compile(r"^(?P<name>\S+) connected (?P<primary>primary )?(?P<width>\d+)x(?P<height>\d+)[+-]")
EDID_KEY, HEX = re.compile(r"^\s+EDID:"), re.compile(r"^\s+([0-9a-fA-F]{32})$")


@dataclass(frozen=True)
class Output:
    """A socket with a display: shape_px is (height, width) of its picture, None where only the kernel knows
    it. edid: None where the display (or the system) says nothing; trouble says what is wrong with it.
    """

    name: str
    shape_px: tuple[int, int] | None
    edid: Edid | None
    trouble: str = ""


def display_at(screen: int, shape_px: tuple[int, int], x_display: str = "") -> Output | None:
    """The display of SDL's screen of this number and size; None where nobody can say.

    x_display: the X server, "" for the environment's.
    """
    outputs = x_outputs(x_display)
    if screen < len(outputs) and outputs[screen].shape_px == shape_px:
        return outputs[screen]
    if outputs or x_display:
        return None
    fits = [one for one in kernel_outputs() if one.edid is not None and one.edid.preferred_px == shape_px]
    return fits[0] if len(fits) == 1 else None


def x_outputs(x_display: str = "") -> list[Output]:
    """Outputs in use of an X server, in SDL's order; none without xrandr or a server."""
    environment = os.environ | ({"DISPLAY": x_display} if x_display else {})
    if not environment.get("DISPLAY"):
        return []
    try:
        ended = subprocess.run(
            ["xrandr", "--props"], env=environment, capture_output=True, text=True, timeout=ASK_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return read_xrandr(ended.stdout.splitlines())


def read_xrandr(lines: Sequence[str]) -> list[Output]:
    """What `xrandr --props` prints, the primary output first."""
    first: list[Output] = []
    others: list[Output] = []
    for at, line in enumerate(lines):
        found = OUTPUT.match(line)
        if found is None:
            continue
        shape = int(found["height"]), int(found["width"])
        (first if found["primary"] else others).append(_output(found["name"], shape, _hex_after(lines, at)))
    return first + others


def kernel_outputs(folder: Path = DRM) -> list[Output]:
    """Connected outputs of every graphics card, by name."""
    found = []
    for place in sorted(folder.glob("card*-*")):
        try:
            if (place / "status").read_text().strip() == "connected":
                found.append(_output(place.name.partition("-")[2], None, (place / "edid").read_bytes()))
        except OSError:
            continue
    return found


def _hex_after(lines: Sequence[str], at: int) -> bytes:
    """The EDID below an output's line; b"" without one."""
    digits: list[str] | None = None
    for line in lines[at + 1 :]:
        if not line[:1].isspace():
            break  # the next output
        if digits is None:
            digits = [] if EDID_KEY.match(line) else None
        elif found := HEX.match(line):
            digits.append(found[1])
        else:
            break
    return bytes.fromhex("".join(digits or []))


def _output(name: str, shape_px: tuple[int, int] | None, data: bytes) -> Output:
    if not data:
        return Output(name, shape_px, None)
    try:
        return Output(name, shape_px, parse(data, name))
    except DataError as error:
        return Output(name, shape_px, None, str(error))
