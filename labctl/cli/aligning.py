"""`labctl align`."""

from __future__ import annotations

import os
import sys
import webbrowser
from pathlib import Path

from rich.text import Text

from labctl.cli.console import err, out
from labctl.cli.live import progress
from labctl.dashboard import align, emitters_of
from labctl.devices import Camera, WeightModulator
from labctl.rig import Rig, load_rig


def align_rig(rig_name: str, folder: Path, *, port: int, browser: bool) -> None:
    """Open a rig and its alignment page; ends with q in the page, or Ctrl-C here."""
    config = load_rig(rig_name)

    def ready(address: str) -> None:
        out().print(Text(address, "bold"), soft_wrap=True)
        err().print(Text("keys are in the page; q there or Ctrl-C here ends, emitters off", "dim"))
        # without a display a browser for terminals would take this one over
        display = sys.platform in ("darwin", "win32") or {"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys()
        if browser and not (display and webbrowser.open(address)):
            err().print(Text("no browser could be opened: open the address in one", "yellow"))

    rig = Rig(config)
    rig.build()
    for role in (Camera, WeightModulator):
        rig.device(role)  # says what the rig lacks before anything is switched on
    emitters_of(rig)
    with progress(quiet=False) as watcher:
        watcher.doing(f"opening {rig_name}, finding its spots")
        rig.open()
    try:
        align(rig, port=port, folder=folder, ready=ready)
    finally:
        rig.close()
