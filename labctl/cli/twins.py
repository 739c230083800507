"""`labctl twin`: profiles of simulated benches."""

from __future__ import annotations

from pathlib import Path

from rich.text import Text

from labctl.cli.console import out
from labctl.cli.sheet import print_path
from labctl.rig import import_profile


def import_published(file: Path, profile: Path | None) -> None:
    """Import a published parameter file, and say what was written and how to run it."""
    found = import_profile(file, profile or Path(f"{file.stem}.toml"))
    console = out()
    print_path(console, "profile", found.profile)
    print_path(console, "rig", found.rig)
    dead = f"; dead input channels: {', '.join(map(str, found.dead_channels))}" if found.dead_channels else ""
    console.print(Text(f"{found.n_channels} channels, {found.parameters:,} numbers{dead}", "dim"))
    console.print(Text(f"labctl run sample_moons --rig {found.rig}", "dim"))
