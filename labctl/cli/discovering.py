"""`labctl discover`: what is attached, kind by kind."""

from __future__ import annotations

from rich.text import Text

from labctl.cli.console import out
from labctl.rig import discover


def list_attached(ask: bool = True) -> None:
    """Print every kind of thing, what was found of it and what it answers, or why nothing could be."""
    console = out()
    for heading, found, trouble in discover(ask):
        console.print(Text(heading, "bold"))
        for thing in found:
            console.print(Text(f"  {thing.address:32} {thing.about}".rstrip()), soft_wrap=True)
            if thing.answer:
                console.print(Text.assemble(("    → ", "bold"), thing.answer), soft_wrap=True)
        if trouble:
            console.print(Text(f"  {trouble}", "yellow"), soft_wrap=True)
        elif not found:
            console.print(Text("  none", "dim"))
