"""`labctl protocols`, `labctl rigs` and `labctl runs`: short lists, one line each."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from rich.table import Table
from rich.text import Text

from labctl.cli.console import out


def list_protocols() -> None:
    """Name and purpose of every shipped recipe."""
    from labctl.procedures import load_protocol, protocol_names

    recipes = {name: load_protocol(name).recipe for name in protocol_names()}
    kinds = {
        "tour": "Several recipes in one run",
        "sample": "Generate samples",
        "generate": "Generate pictures on an oscillator board",
        "diffuse": "Sample pictures by a chain of equilibria on an oscillator board",
        "generate-scan": "Measure an oscillator board over a range",
        "scan": "Measure over a range",
        "ledger": "Compare on paper, without a rig",
    }
    for kind, heading in kinds.items():
        names = [name for name, recipe in recipes.items() if recipe.kind == kind]
        print_list(heading, ((name, recipes[name].about or recipes[name].title) for name in names))
    out().print(Text("labctl run PROTOCOL    labctl validate PROTOCOL shows all that a recipe sets", "dim"))


def list_rigs() -> None:
    """Name and description of every shipped rig."""
    from labctl.rig import load_rig, rig_names

    print_list("Rigs", ((name, load_rig(name).about) for name in rig_names()))
    out().print(Text("labctl run PROTOCOL --rig RIG    labctl check RIG tests its devices", "dim"))


def list_run_files(folder: Path) -> None:
    """One line a run file, oldest first; unreadable ones last, with the reason."""
    from labctl.cli.sheet import STATUS_STYLES
    from labctl.runlog import list_runs

    found = list_runs(folder)
    console = out()
    if not found:
        console.print(Text(f"no run files below {folder}", "dim"))
        return
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    for heading in ("started", "status", "steps", "rig", "file"):
        table.add_column(heading, justify="right" if heading == "steps" else "left", overflow="fold")
    for run in found:
        name = str(run.path.relative_to(folder))
        style = STATUS_STYLES.get(run.status, "red")
        if run.problem is not None:
            table.add_row("", Text(run.status, style), "", "", Text(run.problem, "red"))
            continue
        table.add_row(
            run.start_time[:19].replace("T", " "),
            Text(run.status, style),
            f"{run.steps_done}/{run.steps_planned}",
            run.rig,
            Text(name),
        )
    console.print(table)


def print_list(heading: str, rows: Iterable[tuple[str, str]]) -> None:
    """A heading, and below it one line for each name."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column()
    for name, about in rows:
        grid.add_row(f"  {name}", about)
    console = out()
    console.print(Text(heading, "dim"))
    console.print(grid)
    console.print()
