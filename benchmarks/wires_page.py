"""All bars of instruments on wires in one run.

`python benchmarks/wires_page.py` runs the four benchmarks of wires one after the other, each in a process of
its own, and keeps what they print in results/wires.md. Nothing else should run meanwhile.
"""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

from sheet import Sheet

HERE = Path(__file__).parent
OUT = HERE / "results" / "wires.md"
PARTS = (
    ("SCPI over sockets and HiSLIP", "wires.py"),
    ("An oscillator board on a serial line", "wires_serial.py"),
    ("A panel that is a screen", "wires_display.py"),
    ("GigE Vision: 512 x 512 Mono12, 50 frames a second", "wires_camera.py"),
)


def main() -> None:
    """Run every part, keep what they print as one page."""
    sheet = Sheet()
    sheet.say("# Instruments on wires")
    sheet.say()
    sheet.say(f"`python benchmarks/wires_page.py`, Python {platform.python_version()}.")
    for title, script in PARTS:
        done = subprocess.run(
            [sys.executable, str(HERE / script)], stdout=subprocess.PIPE, text=True, check=True
        )
        printed = done.stdout.rstrip().splitlines()
        sheet.say()
        sheet.say(f"## {title}")
        sheet.say()
        plain = not printed[0].startswith("|")
        for line in ["```text", *printed, "```"] if plain else printed:
            sheet.say(line)
    sheet.write(OUT)


if __name__ == "__main__":
    main()
