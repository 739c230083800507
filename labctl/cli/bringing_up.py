"""`labctl bringup`."""

from __future__ import annotations

from pathlib import Path

from labctl_calibration.bringup import bring_up
from labctl_calibration.store import RecordStore
from rich.text import Text

from labctl.cli.console import out
from labctl.cli.live import progress
from labctl.cli.sheet import print_path
from labctl.devices import Camera, LoopElectronics, WeightModulator
from labctl.rig import Rig, load_rig


def bring_up_rig(rig_name: str, folder: Path) -> None:
    """Measure a rig through its interfaces, say what was found, keep the records."""
    config = load_rig(rig_name)
    with progress(quiet=False) as watcher:
        watcher.doing(f"opening {rig_name}")
        with Rig(config) as rig:
            camera = next((d for d in rig.devices.values() if isinstance(d, Camera)), None)
            found = bring_up(
                rig.device(WeightModulator), rig.device(LoopElectronics), camera, tell=watcher.preparing
            )
            found.keep(RecordStore(folder))
    console = out()
    console.print(Text(config.name, "bold"))
    for line in found.findings:
        console.print(Text.assemble(("· ", "dim"), line), soft_wrap=True)
    console.print()
    for line in found.noise.findings:
        console.print(Text(line), soft_wrap=True)
    console.print()
    print_path(console, "records", folder)
    console.print(Text(f"labctl run sample_moons --rig {rig_name} --records {folder}", "dim"), soft_wrap=True)
