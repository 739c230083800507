"""`labctl data`: public data sets, verified by checksum."""

from __future__ import annotations

from pathlib import Path

from rich.text import Text

from labctl.cli.console import err, out
from labctl.cli.listing import print_list
from labctl.cli.sheet import print_path
from labctl.models.data_sets import DATA_SETS, data_set
from labctl.models.fetch import data_dir, fetch, is_present


def list_data() -> None:
    """Name, state and licence of every known set."""
    print_list(
        f"Data sets, kept in {data_dir()}",
        (
            (name, f"{'here' if is_present(name) else 'not here'}; {entry.licence}")
            for name, entry in DATA_SETS.items()
        ),
    )


def fetch_data(names: list[str], source: Path | None) -> None:
    """Bring sets here, saying what is tried; a name that is no set's is refused before the first."""
    console = err()
    for entry in [data_set(name) for name in names]:
        found = fetch(entry.name, from_dir=source, say=lambda line: console.print(Text(line, "dim")))
        print_path(out(), "data", found.directory)
        out().print(Text(f"from {found.source}", "dim"))
