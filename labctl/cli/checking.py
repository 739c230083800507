"""`labctl check`: each test as it happens, and exit code 3 where one failed."""

from __future__ import annotations

from pathlib import Path

from labctl_calibration.store import RecordStore
from rich.text import Text

from labctl.cli.console import out
from labctl.devices import DeviceFault
from labctl.rig import check_rig, load_rig


def check_devices(rig_name: str, records: Path) -> None:
    """Test a rig. Raises DeviceFault naming every failed test."""
    config = load_rig(rig_name)
    console = out()
    console.print(Text(config.name, "bold"))
    console.print(Text(config.about, "dim"))
    console.print()
    failed = []
    width = max((len(device.name) for device in config.device), default=0)
    for finding in check_rig(config, RecordStore(records)):
        mark, style = ("✓ ", "green") if finding.ok else ("✗ ", "bold red")
        if finding.note:
            mark, style = "· ", "dim"
        where = (f"{finding.device:{width}}  {finding.test:11} ", "bold")
        console.print(
            Text.assemble((mark, style), where, (finding.found, "" if finding.ok else "red")), soft_wrap=True
        )
        if finding.remedy:
            console.print(Text.assemble(("  → ", "bold"), finding.remedy), soft_wrap=True)
        if not finding.ok:
            failed.append(f"{finding.device} ({finding.test})")
    if not config.device:
        console.print(Text("no devices: this rig computes on the host", "dim"))
    if failed:
        raise DeviceFault(f"failed: {', '.join(failed)}", device=config.name, operation="check")
