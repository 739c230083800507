"""Checkpoints: a safetensors file and, beside it, a model card in JSON that holds its sha256.

One file is one network at one precision: `moons.safetensors` (float weights), `moons-4bit.safetensors`
(codes). The shipped ones are in the package's `zoo` folder and are loaded by name.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load as parse_safetensors
from safetensors.numpy import save as format_safetensors

from labctl.config_files import first_problem
from labctl.devices.errors import CheckpointError, ProgramError
from labctl.models.network import RowTableNetwork
from labctl.programs.codes import CodedMatrix
from labctl.sampling.parametrisation import Kind, Preconditioning
from labctl.version import __version__, source_commit

FORMAT_VERSION: Final = 1
SUFFIX = ".safetensors"
NETWORK_KIND: Final = "row-table-network"

Tensors = dict[str, NDArray[Any]]
Card = TypeVar("Card", bound=BaseModel)


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DatasetCard(_Record):
    """What the network was trained on: standardised = (own - mean) / std."""

    name: str
    checksum: str
    mean: tuple[float, ...]
    std: tuple[float, ...]


class ModelCard(_Record):
    """The model card of a denoiser.

    `sha256` is that of the safetensors file, filled in on saving; `parent_sha256` that of the float network
    these codes were made from; `parameters` counts the weights in the matrices, not the host's row functions.
    `training_s` is the wall time of the training (codes: of the re-fit), `trained_on` the kind of machine.
    """

    format_version: Literal[1] = FORMAT_VERSION
    kind: Literal["row-table-network"] = NETWORK_KIND
    name: str
    description: str = ""
    sha256: str = ""
    sizes: tuple[int, ...]
    n_classes: int = 0
    preconditioning: Kind = "edm"
    sigma_data: float = 1.0
    input_scale: float = 1.0
    width: int = 64
    harmonics: int = 4
    bits: int | None = None
    parameters: int = 0
    dataset: DatasetCard | None = None
    seed: int | None = None
    settings: dict[str, Any] = Field(default_factory=dict)
    refit: dict[str, Any] | None = None
    parent_sha256: str | None = None
    metrics: dict[str, float] = Field(default_factory=dict)
    training_s: int | None = None
    trained_on: str | None = None
    commit: str | None = None
    versions: dict[str, str] = Field(default_factory=dict)
    licence: str = "Apache-2.0"
    notes: dict[str, Any] = Field(default_factory=dict)


@dataclass(frozen=True)
class Checkpoint:
    """A network with its card, as loaded from `path`."""

    network: RowTableNetwork
    card: ModelCard
    path: Path


def describe(network: RowTableNetwork, name: str, **fields: Any) -> ModelCard:
    """A card for `network` (one replica) with shape, versions and commit filled in; `fields` are the rest."""
    return ModelCard(
        name=name,
        sizes=tuple(network.sizes),
        n_classes=network.n_classes,
        preconditioning=network.preconditioning.kind,
        sigma_data=network.preconditioning.sigma_data,
        input_scale=network.preconditioning.input_scale,
        width=network.width,
        harmonics=network.harmonics,
        bits=network.bits,
        parameters=sum(w.size for w in network.weights()),
        **provenance(),
        **fields,
    )


def provenance() -> dict[str, Any]:
    """What every card says of the code that made its checkpoint."""
    versions = {"labctl": __version__, "torch": torch.__version__, "numpy": np.__version__}
    return {"commit": source_commit(), "versions": versions}


def save_network(
    network: RowTableNetwork, path: Path | str, card: ModelCard, *, overwrite: bool = False
) -> ModelCard:
    """Write a one-replica network and its card; returns the card with its sha256.

    Raises CheckpointError when a file is there already and `overwrite` is false, or cannot be written.
    """
    tensors: Tensors = {
        name: value[0].numpy().astype(np.float32)
        for name, value in network.state_dict().items()
        if not name.startswith("raw_")
    }
    codes = network.codes
    for layer, weights in enumerate(network.weights()):
        if codes is None:
            tensors[f"weights_{layer}"] = weights.astype(np.float32)
        else:
            tensors[f"codes_{layer}"] = codes[layer].codes
            tensors[f"scale_{layer}"] = codes[layer].scale
    content = write_tensors(path, tensors, card.model_dump(), overwrite=overwrite)
    return ModelCard.model_validate(content)


def load_checkpoint(name_or_path: Path | str) -> Checkpoint:
    """Load a shipped network by name, or a file by path (with or without .safetensors).

    Raises CheckpointError for an unknown name, a missing or malformed file or card, a wrong hash, and
    tensors that are missing, superfluous, of wrong shape or not finite.
    """
    path, tensors, card = opened(name_or_path, NETWORK_KIND, ModelCard)
    return Checkpoint(_rebuild(path, tensors, card), card, path)


def load_network(name_or_path: Path | str) -> RowTableNetwork:
    """The network of `load_checkpoint`, without its card."""
    return load_checkpoint(name_or_path).network


def list_zoo() -> dict[str, ModelCard]:
    """The cards of the shipped denoisers, by name."""
    return {name: ModelCard.model_validate(content) for name, content in shipped_cards(NETWORK_KIND).items()}


def shipped_cards(kind: str) -> dict[str, dict[str, Any]]:
    """The cards of one kind in the zoo as they stand there, by name."""
    cards = {path.stem: _read_card(path) for path in sorted(zoo_folder().glob("*.json"))}
    return {name: card for name, card in cards.items() if card.get("kind") == kind}


def zoo_folder() -> Path:
    """The folder of shipped checkpoints, inside the installed package."""
    return Path(str(resources.files("labctl.models"))) / "zoo"


def find_checkpoint(name_or_path: Path | str) -> Path:
    """The safetensors file of a shipped name or a path; CheckpointError when there is none."""
    given = Path(name_or_path)
    for candidate in (given, given.with_name(given.name + SUFFIX)):
        if candidate.is_file():
            return candidate
    shipped = sorted(p.name.removesuffix(SUFFIX) for p in zoo_folder().glob(f"*{SUFFIX}"))
    if given.name == str(name_or_path) and given.name.removesuffix(SUFFIX) in shipped:
        return zoo_folder() / (given.name.removesuffix(SUFFIX) + SUFFIX)
    near = difflib.get_close_matches(given.name, shipped, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise CheckpointError(f"{name_or_path}: no such file, nor a shipped network ({', '.join(shipped)}){hint}")


# -- files of any kind of model -----------------------------------------------------------------------------


def card_path(path: Path | str) -> Path:
    """The model card beside a safetensors file."""
    return Path(path).with_suffix(".json")


def write_tensors(
    path: Path | str, tensors: Mapping[str, NDArray[Any]], card: Mapping[str, Any], *, overwrite: bool = False
) -> dict[str, Any]:
    """Write tensors and card (any JSON-able mapping); returns the card with `sha256` set.

    `path` must end in .safetensors. Raises CheckpointError where a file exists (unless `overwrite`) or the
    folder cannot be written. The card is written last, and each file appears whole or not at all.
    """
    path = Path(path)
    if path.suffix != SUFFIX:
        raise CheckpointError(f"{path}: a checkpoint's name ends in {SUFFIX}")
    if not overwrite and (path.exists() or card_path(path).exists()):
        raise CheckpointError(f"{path}: exists already; choose another name or ask for overwriting")
    data = format_safetensors({name: np.ascontiguousarray(value) for name, value in tensors.items()})
    content = {**card, "sha256": hashlib.sha256(data).hexdigest()}
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for target, payload in ((path, data), (card_path(path), text.encode())):
            part = target.with_name(target.name + ".part")
            part.write_bytes(payload)
            os.replace(part, target)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be written: {error.strerror or error}") from error
    return content


def read_tensors(path: Path | str) -> tuple[Tensors, dict[str, Any]]:
    """Tensors and card of a checkpoint of any kind; the file's sha256 must be the card's."""
    path = Path(path)
    content = _read_card(card_path(path))
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from error
    found = hashlib.sha256(data).hexdigest()
    if found != content.get("sha256"):
        raise CheckpointError(
            f"{path}: sha256 is {found}, the card says {content.get('sha256')}: file and card do not belong "
            "together, or the file is damaged"
        )
    try:
        return dict(parse_safetensors(data)), content
    except SafetensorError as error:
        raise CheckpointError(f"{path}: not a safetensors file: {error}") from error


def opened(name_or_path: Path | str, kind: str, form: type[Card]) -> tuple[Path, Tensors, Card]:
    """File, tensors and card of a checkpoint of one kind; CheckpointError for another or a malformed card."""
    path = find_checkpoint(name_or_path)
    tensors, content = read_tensors(path)
    if content.get("kind") != kind:
        raise CheckpointError(f"{path}: the card's kind is {content.get('kind')!r}, wanted {kind!r}")
    try:
        return path, tensors, form.model_validate(content)
    except ValidationError as error:
        raise CheckpointError(str(first_problem(error, str(card_path(path)), form))) from None


def take(path: Path, tensors: Tensors, name: str) -> NDArray[Any]:
    """A tensor taken out of a file; CheckpointError where it is missing."""
    if name not in tensors:
        raise CheckpointError(f"{path}: tensor {name} is missing")
    return tensors.pop(name)


def none_left(path: Path, tensors: Tensors) -> None:
    """CheckpointError where a file holds more than was taken out of it."""
    if tensors:
        raise CheckpointError(f"{path}: tensors the card does not account for: {', '.join(sorted(tensors))}")


def _read_card(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: the model card is missing") from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{path}: the model card cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: the model card holds {type(content).__name__}, wanted an object")
    return content


def _rebuild(path: Path, tensors: Tensors, card: ModelCard) -> RowTableNetwork:
    for name, tensor in tensors.items():
        if np.issubdtype(tensor.dtype, np.floating) and not np.isfinite(tensor).all():
            raise CheckpointError(f"{path}: tensor {name} holds values that are not finite")
    layers = range(len(card.sizes))
    try:
        coded = None
        if card.bits is not None:
            coded = [
                [
                    CodedMatrix(
                        take(path, tensors, f"codes_{i}"), take(path, tensors, f"scale_{i}"), card.bits
                    )
                    for i in layers
                ]
            ]
        network = RowTableNetwork(
            card.sizes,
            n_classes=card.n_classes,
            preconditioning=Preconditioning(card.preconditioning, card.sigma_data, card.input_scale),
            width=card.width,
            harmonics=card.harmonics,
            coded=coded,
        )
    except ProgramError as error:
        raise CheckpointError(f"{path}: {error}") from error
    state: dict[str, torch.Tensor] = {}
    for name, wanted in network.state_dict().items():
        stored = name.replace("raw_", "weights_")
        value = torch.as_tensor(take(path, tensors, stored).astype(np.float32))[None]
        if value.shape != wanted.shape:
            raise CheckpointError(
                f"{path}: tensor {stored} has shape {tuple(value.shape[1:])}, "
                f"the card's sizes {list(card.sizes)} want {tuple(wanted.shape[1:])}"
            )
        state[name] = value
    none_left(path, tensors)
    network.load_state_dict(state)
    return network
