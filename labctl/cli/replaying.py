"""`labctl replay`."""

from __future__ import annotations

from pathlib import Path

import typer
from rich.text import Text

from labctl.cli.console import out, print_json
from labctl.cli.live import progress
from labctl.cli.session import session
from labctl.cli.sheet import print_path
from labctl.devices import ReplayDiffers
from labctl.procedures import PanelMatch, Replay, replay


def replay_file(file: Path, folder: Path, records: Path, *, as_json: bool = False) -> None:
    """Run again, say for each panel whether the bits are the same; ReplayDiffers where they are not."""
    session().out = folder
    with progress(quiet=as_json) as watcher:
        watcher.doing(f"replaying {file.name}")
        found = replay(file, out=folder, records=records, watcher=watcher)
    if as_json:
        print_json(_document(found))
        raise typer.Exit(0 if found.equal else ReplayDiffers.exit_code)
    console = out()
    for panel in found.panels:
        name = f"{panel.name}: " if panel.name else ""
        console.print(Text(name + _verdict(panel)))
    for change in found.changes:
        console.print(Text(f"not as it was: {change}", "dim"))
    print_path(console, "file", found.file)
    if not found.equal:
        worst = next(panel for panel in found.panels if not panel.equal)
        where = f"panel {worst.name}, " if worst.name else ""
        raise ReplayDiffers(f"{found.original}: the replay differs, first in {where}{worst.first_difference}")


def _verdict(panel: PanelMatch) -> str:
    if panel.equal:
        return f"{panel.steps} steps, the same bits"
    return f"{panel.steps} steps, different from {panel.first_difference} on, by at most {panel.largest:.3g}"


def _document(found: Replay) -> dict[str, object]:
    return {
        "exit_code": 0 if found.equal else ReplayDiffers.exit_code,
        "original": str(found.original),
        "file": str(found.file),
        "equal": found.equal,
        "changes": list(found.changes),
        "panels": [
            {
                "name": panel.name,
                "steps": panel.steps,
                "equal": panel.equal,
                "first_difference": panel.first_difference,
                "largest_difference": panel.largest,
            }
            for panel in found.panels
        ],
    }
