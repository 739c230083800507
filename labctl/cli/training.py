"""`labctl train`: a training recipe becomes checkpoints with their cards."""

from __future__ import annotations

from pathlib import Path

from rich.text import Text

from labctl.cli.console import out
from labctl.cli.live import progress
from labctl.cli.session import session
from labctl.cli.sheet import print_path
from labctl.models.recipe import load_recipe, train_from_recipe
from labctl.models.training import Progress
from labctl.procedures import settings_of


def train_network(recipe: str, settings: list[str], folder: Path) -> None:
    """Train, code, re-fit, measure, save; says where each checkpoint is."""
    session().out = folder
    plan = load_recipe(recipe, settings_of(settings))
    with progress(quiet=False) as watcher:
        watcher.doing(f"training {plan.name}")

        def told(event: Progress) -> None:
            loss = sum(event.loss) / len(event.loss)
            watcher.training(f"{plan.name}: {event.stage}, loss {loss:.3f}", event.done, event.total)

        paths = train_from_recipe(plan, out=folder, progress=told)
    console = out()
    for path in paths:
        print_path(console, "network", path)
    console.print(
        Text(f"labctl run sample_moons --set model={paths[0]} uses it in place of the zoo's", "dim")
    )
