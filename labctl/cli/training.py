"""`labctl train`: a training recipe becomes checkpoints with their cards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.text import Text

from labctl.cli.console import out
from labctl.cli.live import progress
from labctl.cli.session import session
from labctl.cli.sheet import print_path
from labctl.config_files import set_dotted
from labctl.models.picture_making import train_pictures
from labctl.models.picture_recipes import PictureRecipe, parse_picture_recipe
from labctl.models.recipe import TrainRecipe, load_recipe, recipe_content, shipped_recipes, train_from_recipe
from labctl.models.training import Progress
from labctl.procedures import settings_of


def train_network(name: str, settings: list[str], folder: Path) -> None:
    """Train, code, re-fit, measure, save; says where each checkpoint is."""
    session().out = folder
    recipe = _recipe(name, settings_of(settings))
    with progress(quiet=False) as watcher:
        watcher.doing(f"training {recipe.name}")

        def told(event: Progress) -> None:
            watcher.training(f"{recipe.name}: {event.stage}", event.done, event.total)

        if isinstance(recipe, TrainRecipe):
            paths = train_from_recipe(recipe, out=folder, progress=told)
        else:
            paths = train_pictures(recipe, out=folder, progress=told)
    console = out()
    for path in paths:
        print_path(console, "saved", path)
    if isinstance(recipe, TrainRecipe):
        console.print(Text(f"labctl run sample_moons --set model={paths[-1]} samples it", "dim"))


def _recipe(name: str, settings: dict[str, Any]) -> TrainRecipe | PictureRecipe:
    """Recipes with a `kind` make nets for pictures, the others networks of points."""
    path = shipped_recipes().get(name, Path(name))
    content = recipe_content(path) if path.is_file() else {}
    if "kind" not in content:
        return load_recipe(name, settings)
    for key, value in settings.items():
        set_dotted(content, key, value)
    return parse_picture_recipe(content, str(path))
