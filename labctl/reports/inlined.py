"""Self-contained pages: templates of this room, pictures inside the page and as PNG files beside it."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from matplotlib.figure import Figure

from labctl.reports.sections import Picture
from labctl.reports.style import DARK, LIGHT, Theme, to_png


def pages() -> Environment:
    """The templates, escaped by default."""
    return Environment(
        loader=PackageLoader("labctl.reports", "."),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def drawn(name: str, alt: str, draw: Callable[[Theme], Figure], folder: Path) -> Picture:
    """Draw in both themes; the light one is also written as a PNG file, for papers and talks."""
    light = draw(LIGHT)
    png = to_png(light, LIGHT)
    (folder / f"{name}.png").write_bytes(png)
    return Picture(
        name=name,
        alt=alt,
        light=_inline(png),
        dark=_inline(to_png(draw(DARK), DARK)),
        width=round(light.get_figwidth() * 112),
    )


def _inline(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()
