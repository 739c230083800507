"""`labctl run` and `labctl demo`."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labctl.cli.console import err, out, print_json
from labctl.cli.session import session

if TYPE_CHECKING:
    from labctl.procedures.recipe import MachineRecipe

DEFAULT_RIGS = {"loop": "optical-twin", "oscillator": "oscillator-twin"}  # by the recipe's law


def default_rig(recipe: MachineRecipe) -> str:
    """The rig of a run that names none: the recipe's own, or its law's."""
    return getattr(recipe, "rig", "") or DEFAULT_RIGS[recipe.law]


def run_protocol(
    name: str,
    rig_name: str | None,
    settings: list[str],
    folder: Path,
    *,
    report: bool,
    as_json: bool = False,
    quiet: bool = False,
    records: Path | None = None,
    compensated: bool = True,
    overrides: Sequence[str] = (),
    on_drift: str | None = None,
) -> None:
    """Run, watch, write the report, print what became of it."""
    session().out = folder
    began = time.monotonic()
    with _loading(quiet or as_json):
        from rich.text import Text

        from labctl.cli.live import progress
        from labctl.cli.sheet import head, print_path, print_pictures, print_sheet
        from labctl.procedures import LedgerRecipe, load_protocol, run, settings_of
        from labctl.reports import report as write_report
        from labctl.reports import summary
        from labctl.rig import load_rig, open_rig
        from labctl.rig.config import watched
        from labctl.runlog import RunReader

    protocol = load_protocol(name, settings_of(settings))
    if isinstance(protocol.recipe, LedgerRecipe):
        from labctl.cli.ledger import run_ledger

        run_ledger(protocol, rig_name, folder, as_json=as_json, quiet=quiet)
        return
    rig_name = rig_name or default_rig(protocol.recipe)
    with progress(quiet=quiet) as watcher:
        watcher.doing(f"opening {rig_name}")
        config = watched(load_rig(rig_name), on_drift)
        with open_rig(config, records=records, compensated=compensated, overrides=overrides) as rig:
            for words in rig.trust.stale:
                err().print(Text(f"warning: {words}", "yellow"), soft_wrap=True)
            watcher.doing(f"compiling {protocol.name}")
            result = run(protocol, rig, out=folder, watcher=watcher)
        page = write_report(result.file) if report else None
    pictures = sorted(page.parent.glob("*.png")) if page else []
    if quiet and not as_json:
        print(result.file)
        return
    with RunReader(result.file) as done:
        if as_json:
            print_json(
                {
                    "exit_code": 0,
                    **summary(done),
                    "report": None if page is None else str(page),
                    "pictures": [str(picture) for picture in pictures],
                    "host_s": round(time.monotonic() - began, 3),
                }
            )
            return
        console = out()
        console.print(head(done))
        print_sheet(console, done)
    if page:
        print_pictures(console, pictures)
        print_path(console, "report", page)
    print_path(console, "file", result.file)


def _loading(quiet: bool) -> Any:
    """A word on the screen while torch is loaded."""
    console = err()
    console.quiet = quiet or not sys.stderr.isatty()
    return console.status("starting", spinner="dots")
