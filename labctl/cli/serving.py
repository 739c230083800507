"""`labctl twin serve`: a simulated bench on local wires, until it is stopped."""

from __future__ import annotations

import threading
from pathlib import Path

from rich.text import Text

from labctl.cli.console import err, out
from labctl.cli.sheet import print_path
from labctl.devices import ConfigError
from labctl.rig import ServedRig, load_rig

EXAMPLES = {"loop": "sample_moons", "oscillator": "generate_digits"}  # a recipe of the rig's law


def serve_twins(rig_name: str, file: Path | None, modulator: str) -> None:
    """Serve, write the rig file, say what is where; returns only by KeyboardInterrupt."""
    served = ServedRig(load_rig(rig_name), modulator=modulator)
    try:
        config = served.start()
        path = file or Path(f"{Path(rig_name).stem}-wired.toml")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(served.rig_file(), "utf-8")
        except OSError as error:
            raise ConfigError(f"{path}: cannot be written: {error.strerror or error}") from None
        console = out()
        for device in config.device:
            console.print(Text(f"{device.name:12} {device.driver:24} {device.address}"), soft_wrap=True)
        for name, why in served.refused.items():
            console.print(Text(f"{name:12} left out: {why}", "yellow"), soft_wrap=True)
        print_path(console, "rig", path)
        example = f"labctl run {EXAMPLES[config.law]} --rig {path}"
        err().print(Text(f"{example}; Ctrl-C here ends it", "dim"), soft_wrap=True)
        threading.Event().wait()
    finally:
        served.stop()
