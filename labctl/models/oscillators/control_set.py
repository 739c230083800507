"""What stands beside a generator of oscillators, as a small file: figures and pictures of each control."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from labctl.devices.errors import CheckpointError
from labctl.models.checkpoint import opened, shipped_cards, write_tensors
from labctl.models.oscillators.checkpoint import NetName, OscillatorCard

KIND: Final = "generator-controls"
Bytes = NDArray[np.uint8]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ControlFigures(_Record):
    """One control: what it is in words, its figures, and how long it trained (0: not by gradients).

    `parameters` are those that its training moved; None where nothing was.
    """

    name: str
    what: str
    frechet_star: float
    frechet_star_standard_error: float = Field(ge=0)
    density: float
    coverage: float
    parameters: int | None = None
    training_s: int = Field(default=0, ge=0)


class ControlsCard(_Record):
    """The card: judge, data and the figures of every control, over `judged_pictures` each.

    `generator` is the model whose objective, data and number of steps the trained ones share. The floor is
    the Frechet distance of fresh real pictures (FD* 0), `frechet_gaussian` that of a Gaussian's (FD* 1).
    """

    format_version: Literal[1] = 1
    kind: Literal["generator-controls"] = KIND
    name: str
    description: str = ""
    sha256: str = ""
    side: int = Field(ge=1)
    generator: NetName
    dataset: dict[str, Any]
    classifier: NetName
    reference: NetName
    judged_pictures: int
    frechet_floor: float
    frechet_gaussian: float
    controls: tuple[ControlFigures, ...] = Field(min_length=1)
    seed: int
    training_s: int
    trained_on: str
    commit: str | None = None
    versions: dict[str, str] = Field(default_factory=dict)
    licence: str = "Apache-2.0"


@dataclass(frozen=True, eq=False)
class ControlSet:
    """The card, and pictures [P, side, side] of each control by its name."""

    card: ControlsCard
    pictures: Mapping[str, Bytes]


def save_controls(
    card: ControlsCard, pictures: Mapping[str, Bytes], path: Path | str, *, overwrite: bool = False
) -> ControlsCard:
    """Write a set and its card; returns the card with its sha256.

    Raises CheckpointError where a file is there already and `overwrite` is false, or cannot be written.
    """
    content = write_tensors(path, dict(pictures), card.model_dump(mode="json"), overwrite=overwrite)
    return ControlsCard.model_validate(content)


def load_controls(name_or_path: Path | str) -> ControlSet:
    """A shipped set by name, or one by path.

    Raises CheckpointError for an unknown name, a missing or malformed file or card, a wrong hash, and
    pictures that are missing, superfluous or of another shape than the card's.
    """
    path, tensors, card = opened(name_or_path, KIND, ControlsCard)
    names = [control.name for control in card.controls]
    if sorted(tensors) != sorted(names):
        raise CheckpointError(
            f"{path}: pictures of {', '.join(sorted(tensors))}; allowed: {', '.join(names)}"
        )
    for name, pictures in tensors.items():
        if pictures.dtype != np.uint8 or pictures.ndim != 3 or pictures.shape[1:] != (card.side, card.side):
            raise CheckpointError(
                f"{path}: pictures of {name} are {pictures.dtype} {pictures.shape}; allowed: uint8 "
                f"[P, {card.side}, {card.side}]"
            )
    return ControlSet(card, tensors)


def controls_beside(card: OscillatorCard) -> ControlSet | None:
    """The shipped controls that the judge of this model has judged too; None where there are none."""
    for name, content in shipped_cards(KIND).items():
        judges = [content.get(judge, {}).get("sha256") for judge in ("classifier", "reference")]
        if judges == [card.classifier.sha256, card.reference.sha256]:
            return load_controls(name)
    return None
