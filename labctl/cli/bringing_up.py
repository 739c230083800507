"""`labctl bringup`."""

from __future__ import annotations

from pathlib import Path

from labctl_calibration.bringup import bring_up
from labctl_calibration.oscillators import ESSENTIAL
from labctl_calibration.procedure import Devices
from labctl_calibration.store import RecordStore
from labctl_calibration.taking import keep_all, take_all
from rich.text import Text

from labctl.cli.console import out
from labctl.cli.live import progress
from labctl.cli.sheet import print_path
from labctl.devices import Camera, LoopElectronics, OscillatorBoard, WeightModulator
from labctl.rig import Rig, RigConfig, load_rig


def bring_up_rig(rig_name: str, folder: Path) -> None:
    """Measure a rig through its interfaces, say what was found, keep the records."""
    config = load_rig(rig_name)
    if config.engine == "oscillator":
        _bring_up_oscillators(config, folder)
        return
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


def _bring_up_oscillators(config: RigConfig, folder: Path) -> None:
    with progress(quiet=False) as watcher:
        watcher.doing(f"opening {config.name}")
        with Rig(config) as rig:
            devices = Devices({OscillatorBoard: rig.device(OscillatorBoard)})
            taken, _ = take_all(ESSENTIAL, devices, watcher.preparing)
            keep_all(taken, RecordStore(folder))
    console = out()
    console.print(Text(config.name, "bold"))
    found = [one.measured for one in taken.values()]
    for measured in found:
        for quantity in measured.quantities:
            sd = f" ± {quantity.sd:.1g}" if quantity.sd else ""
            words = f", {quantity.words}" if quantity.words else ""
            beyond = "" if quantity.accepted else f"; allowed: {quantity.allowed}"
            line = f"{quantity.name} {quantity.value:.3g}{sd} {quantity.unit}".rstrip()
            console.print(Text.assemble(("· ", "dim"), f"{line}{words}{beyond}"), soft_wrap=True)
    for line in (line for measured in found for line in measured.findings):
        console.print(Text.assemble(("! ", "dim"), line), soft_wrap=True)
    console.print()
    print_path(console, "records", folder)
    console.print(
        Text(f"labctl run generate_digits --rig {config.name} --records {folder}", "dim"), soft_wrap=True
    )
