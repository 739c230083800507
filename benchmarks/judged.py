"""What pages on pictures out of oscillators share: cells of judged pictures, lines of a table, grids."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from common import cell

from labctl.models.oscillators.control_set import ControlFigures
from labctl.models.oscillators.model import OscillatorModel
from labctl.models.oscillators.scoring import Copies, Draw, PictureJudge
from labctl.models.pictures import Pictures

HEADER = ("| pictures | FD* | density | coverage | |", "|---|---|---|---|---|")


def figures(judge: PictureJudge, draw: Draw) -> dict[str, float]:
    """FD*, its standard error, density and coverage of what `draw` makes."""
    found = judge.scores(draw)
    return {
        "star": found.frechet_star,
        "error": found.spread,
        "density": found.density,
        "coverage": found.coverage,
    }


def scored(judge: PictureJudge, key: dict[str, object], draw: Callable[[], Draw]) -> dict[str, float]:
    """A cell of what `draw()` makes, judged; `draw` is asked only where the cell is not there yet."""
    full = {**key, "judge": judge.reference_name.sha256, "v": 1}
    return cell(full, lambda: figures(judge, draw()))


def made(model: OscillatorModel, **how: object) -> Draw:
    """How to draw from a generator or a chain; `how` goes to its `generate`."""
    return lambda count, seed: model.generate(count, seed=seed, **how)  # type: ignore[arg-type]


def line(what: str, row: dict[str, float], note: str = "") -> str:
    """A line of the table."""
    error = f" ± {row['error']:.3f}" if row["error"] else ""
    return f"| {what} | {row['star']:.3f}{error} | {row['density']:.2f} | {row['coverage']:.2f} | {note} |"


class Lines:
    """The lines of one model's table as they are judged; `key` is what all of its cells have in common."""

    def __init__(self, judge: PictureJudge, **key: object) -> None:
        self.judge, self.key = judge, key
        self.lines: list[str] = [*HEADER]

    def row(self, what: str, draw: Callable[[], Draw], note: str = "", **key: object) -> dict[str, float]:
        """Judge one more, as `scored`; its figures."""
        found = scored(self.judge, {**self.key, "what": what, **key}, draw)
        self.lines.append(line(what, found, note))
        return found

    def known(self, what: str, figures: ControlFigures, note: str = "") -> dict[str, float]:
        """A line of figures that ship with a model; the same figures. `note`: of those that were trained."""
        found = {
            "star": figures.frechet_star,
            "error": figures.frechet_star_standard_error,
            "density": figures.density,
            "coverage": figures.coverage,
        }
        self.lines.append(line(what, found, f"float{note}" if figures.parameters else ""))
        return found


def judged_by(judge: PictureJudge) -> str:
    """The floor and the Gaussian that FD* lies between, and in whose features."""
    reference, name = judge.reference, judge.classifier_name
    return (
        f"FD floor {reference.floors[-1]:.3f} ({reference.counts[-1]} test pictures), Gaussian "
        f"{reference.gaussian:.3f}; features of {name.name} ({name.sha256[:8]})."
    )


def nearness(near: Copies) -> str:
    """Whether pictures are copies, in a line."""
    return (
        f"- Nearest training picture: rms {near.made:.3f} from generated ones, {near.test:.3f} from test ones "
        f"(medians); {near.nearer:.1%} of generated ones nearer than 99% of test ones are."
    )


def verdict(met: bool) -> str:
    """In a word."""
    return "met" if met else "missed"


def tiled(pictures: Pictures) -> np.ndarray:
    """100 pictures in ten rows, with a grey line between them."""
    framed = np.pad(pictures[:100], ((0, 0), (0, 1), (0, 1)), constant_values=0.5)
    side = framed.shape[1]
    return framed.reshape(10, 10, side, side).transpose(0, 2, 1, 3).reshape(10 * side, 10 * side)


def save_grids(shown: Mapping[str, Pictures], path: Path, dpi: int) -> None:
    """A PNG of 100 pictures of each, side by side under their titles."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(shown), figsize=(8 * len(shown), 8.4))
    for axis, (title, pictures) in zip(axes, shown.items(), strict=True):
        axis.imshow(tiled(pictures), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axis.set_title(title)
        axis.axis("off")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=dpi, bbox_inches="tight")
    plt.close(figure)
