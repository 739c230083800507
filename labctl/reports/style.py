"""One look for every picture, on white paper and on a dark page."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure


@dataclass(frozen=True)
class Theme:
    """Colours of a picture. `accent` is the run's own, `other` what it is compared with."""

    name: str
    paper: str
    ink: str
    faint: str
    rule: str
    accent: str
    other: str
    warning: str
    classes: tuple[str, ...]

    def diverging(self) -> LinearSegmentedColormap:
        """Negative to positive through the paper's own tone."""
        middle = "#f7f7f5" if self.name == "light" else "#3a4047"
        return LinearSegmentedColormap.from_list(
            f"signed-{self.name}",
            ["#8c3a0a", "#d97a2b", middle, "#4a8fc7", "#123f73"]
            if self.name == "light"
            else ["#ffb27a", "#c96a22", middle, "#3f87c2", "#a5d3ff"],
        )

    def density(self) -> LinearSegmentedColormap:
        """Paper to accent."""
        return LinearSegmentedColormap.from_list(f"density-{self.name}", [self.paper, self.accent, self.ink])


_CLASSES = (
    "#2f6db5",
    "#d97a2b",
    "#3c9d6b",
    "#b5473c",
    "#7d62b3",
    "#8a6d4f",
    "#c9699f",
    "#7a7f85",
    "#a8a030",
    "#35a5b5",
)

LIGHT = Theme(
    name="light",
    paper="#ffffff",
    ink="#1d232a",
    faint="#6b747e",
    rule="#d5d9dd",
    accent="#2f6db5",
    other="#8d949b",
    warning="#b5473c",
    classes=_CLASSES,
)
DARK = Theme(
    name="dark",
    paper="#1b1f24",
    ink="#e6e9ec",
    faint="#9aa4ae",
    rule="#3a4149",
    accent="#6aaaf0",
    other="#8f98a1",
    warning="#f0857a",
    classes=_CLASSES,
)


@contextmanager
def drawing(theme: Theme) -> Iterator[None]:
    """Matplotlib settings of a theme, for as long as a picture is drawn."""
    settings: Any = {
        "figure.facecolor": theme.paper,
        "savefig.facecolor": theme.paper,
        "axes.facecolor": theme.paper,
        "axes.edgecolor": theme.faint,
        "axes.labelcolor": theme.ink,
        "axes.titlecolor": theme.ink,
        "text.color": theme.ink,
        "xtick.color": theme.faint,
        "ytick.color": theme.faint,
        "xtick.labelcolor": theme.ink,
        "ytick.labelcolor": theme.ink,
        "font.family": "DejaVu Sans",
        "font.size": 8.5,
        "axes.titlesize": 9.5,
        "axes.labelsize": 8.5,
        "xtick.labelsize": 8,
        "ytick.labelsize": 8,
        "legend.fontsize": 8,
        "legend.frameon": False,
        "axes.linewidth": 0.7,
        "xtick.major.width": 0.7,
        "ytick.major.width": 0.7,
        "xtick.major.size": 3,
        "ytick.major.size": 3,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlelocation": "left",
        "axes.titlepad": 7,
        "mathtext.fontset": "dejavusans",
        "figure.constrained_layout.use": True,
    }
    with mpl.rc_context(settings):
        yield


def to_png(figure: Figure, theme: Theme = LIGHT, dpi: int = 170) -> bytes:
    """A figure as PNG bytes."""
    buffer = io.BytesIO()
    with drawing(theme):
        figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()


def bare(axes: Axes) -> None:
    """An axes without ticks and spines, for pictures."""
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
