"""Generators of oscillators as files: float tables, or the codes of a program in a few kB, with a card."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from labctl.config_files import first_problem
from labctl.devices.errors import CheckpointError, ConfigError, ProgramError
from labctl.devices.topology import Topology, grid
from labctl.models.checkpoint import card_path, find_checkpoint, provenance, read_tensors, write_tensors
from labctl.models.oscillators.generator import (
    PIXEL_MAP,
    OscillatorGenerator,
    OscillatorParameters,
    node_scales,
)
from labctl.models.oscillators.settings import OscillatorShape
from labctl.programs import OscillatorProgram
from labctl.programs.codes import CodedMatrix

KIND: Final = "oscillator-generator"
_CODES = ("in_phase", "quadrature", "second", "detuning", "start_phase", "start_amplitude")
_SHAPES = {"phase": ("n",), "amplitude": ("n",), "coupling": ("k", "e")}


class NetName(BaseModel):
    """A net that judged, by name and hash."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    sha256: str


class OscillatorCard(BaseModel):
    """The model card of whatever is made of oscillators.

    `objective` and `why` say what made it; `program_hash` is that of its program. `settings` and `coded` are
    those of the float training and of the coded one after it; `skipped` the steps left out as not finite.
    `training_s` is wall time, `trained_on` the kind of machine, never which one.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format_version: Literal[1] = 1
    kind: str
    name: str
    description: str = ""
    sha256: str = ""
    side: int = Field(ge=1)
    topology_hash: str
    bits: int | None = None
    program_hash: str | None = None
    program_bytes: int | None = None
    parameters: int = 0
    objective: str
    why: str = ""
    dataset: dict[str, Any]
    classifier: NetName
    reference: NetName
    seed: int
    settings: dict[str, Any]
    coded: dict[str, Any] | None = None
    parent_sha256: str | None = None
    skipped: int = 0
    metrics: dict[str, float] = Field(default_factory=dict)
    training_s: int
    trained_on: str
    commit: str | None = None
    versions: dict[str, str] = Field(default_factory=dict)
    licence: str = "Apache-2.0"


class GeneratorCard(OscillatorCard):
    """The model card of a generator."""

    kind: Literal["oscillator-generator"] = KIND
    shape: OscillatorShape


Card = TypeVar("Card", bound=OscillatorCard)


class Described(Protocol):
    """What a card tells of the model itself."""

    @property
    def side(self) -> int: ...
    @property
    def topology(self) -> Topology: ...
    @property
    def program(self) -> OscillatorProgram | None: ...
    @property
    def bits(self) -> int | None: ...
    @property
    def n_parameters(self) -> int: ...


@dataclass(frozen=True, eq=False)
class LoadedGenerator:
    """A generator with its card, as loaded from `path`."""

    generator: OscillatorGenerator
    card: GeneratorCard
    path: Path


def describe_generator(generator: OscillatorGenerator, name: str, **fields: Any) -> GeneratorCard:
    """A card with sizes, hashes, versions and commit filled in; `fields` are the rest."""
    return GeneratorCard(name=name, shape=generator.shape, **card_fields(generator), **fields)


def card_fields(model: Described) -> dict[str, Any]:
    """Sizes and hashes of a model for its card, with versions and commit."""
    program = model.program
    return {
        "side": model.side,
        "topology_hash": model.topology.hash,
        "bits": model.bits,
        "program_hash": None if program is None else program.hash,
        "program_bytes": None if program is None else program.n_bytes,
        "parameters": model.n_parameters,
        **provenance(),
    }


def save_generator(
    generator: OscillatorGenerator, path: Path | str, card: GeneratorCard, *, overwrite: bool = False
) -> GeneratorCard:
    """Write a generator and its card; returns the card with its sha256.

    Raises CheckpointError when a file is there already and `overwrite` is false, or cannot be written.
    """
    program = generator.program
    if program is None:
        tensors: dict[str, NDArray[Any]] = {
            name: table.numpy().astype(np.float32) for name, table in generator.parameters.tables().items()
        }
    else:
        tensors = {
            "coupling_codes": program.coupling.codes.astype(np.int8),
            "coupling_scale": program.coupling.scale,
        }
        for name in _CODES:
            kind = np.uint8 if name.startswith("start") else np.int8
            tensors[name] = getattr(program, name).astype(kind)
    content = write_tensors(path, tensors, card.model_dump(mode="json"), overwrite=overwrite)
    return GeneratorCard.model_validate(content)


def load_generator(name_or_path: Path | str) -> LoadedGenerator:
    """A shipped generator by name, or one by path.

    Raises CheckpointError for an unknown name, a missing or malformed file or card, a wrong hash (of file,
    topology or program), and tables that are missing, superfluous, of wrong shape or not finite.
    """
    path, tensors, card = opened(name_or_path, KIND, GeneratorCard)
    try:
        topology = grid(card.side, card.side, card.shape.radius, card.shape.hidden_share)
        same(path, "topology_hash", card.topology_hash, topology.hash)
        if card.bits is None:
            parameters, program = _floats(path, tensors, topology, card.shape), None
        else:
            program = _program(path, tensors, topology, card)
            parameters = OscillatorParameters.of(program)
    except ProgramError as error:
        raise CheckpointError(f"{path}: {error}") from error
    none_left(path, tensors)
    generator = OscillatorGenerator(card.side, card.shape, topology, parameters, program)
    return LoadedGenerator(generator, card, path)


def opened(
    name_or_path: Path | str, kind: str, form: type[Card]
) -> tuple[Path, dict[str, NDArray[Any]], Card]:
    """File, tensors and card of a checkpoint of one kind; CheckpointError for another or a malformed card."""
    path = find_checkpoint(name_or_path)
    tensors, content = read_tensors(path)
    if content.get("kind") != kind:
        raise CheckpointError(f"{path}: the card's kind is {content.get('kind')!r}, wanted {kind!r}")
    try:
        return path, tensors, form.model_validate(content)
    except ValidationError as error:
        raise CheckpointError(str(first_problem(error, str(card_path(path)), form))) from None


def none_left(path: Path, tensors: dict[str, NDArray[Any]]) -> None:
    """CheckpointError where a file holds more than was taken out of it."""
    if tensors:
        raise CheckpointError(f"{path}: tensors the card does not account for: {', '.join(sorted(tensors))}")


def check_data(card: OscillatorCard, name: str, side: int) -> None:
    """ConfigError where the card names other data than the set `name` at `side` pixels a side."""
    if (named := card.dataset.get("name")) != name or card.side != side:
        raise ConfigError(
            f"{card.name}: its card names {named} at {card.side} pixels a side; allowed here: "
            f"{name} at {side}"
        )


def _floats(
    path: Path, tensors: dict[str, NDArray[Any]], topology: Topology, shape: OscillatorShape
) -> OscillatorParameters:
    sizes = {"k": shape.segments, "n": topology.n, "e": topology.n_edges}
    tables = {}
    for name in ("coupling", "in_phase", "quadrature", "second", "detuning", "phase", "amplitude"):
        tables[name] = floats(path, tensors, name, tuple(sizes[key] for key in _SHAPES.get(name, ("k", "n"))))
    return OscillatorParameters.of_tables(tables)


def floats(path: Path, tensors: dict[str, NDArray[Any]], name: str, wanted: tuple[int, ...]) -> torch.Tensor:
    """A table of finite floats taken out of a file; CheckpointError for another shape."""
    value = take(path, tensors, name)
    if value.shape != wanted or not np.isfinite(value).all():
        raise CheckpointError(f"{path}: tensor {name} {value.shape}; allowed: finite, of shape {wanted}")
    return torch.as_tensor(value.astype(np.float32))


def _program(
    path: Path, tensors: dict[str, NDArray[Any]], topology: Topology, card: GeneratorCard
) -> OscillatorProgram:
    shape = card.shape
    program = OscillatorProgram(
        topology=topology,
        coupling=CodedMatrix(
            take(path, tensors, "coupling_codes"), take(path, tensors, "coupling_scale"), card.bits or 0
        ),
        duration=np.full(shape.segments, shape.duration / shape.segments),
        visible=np.arange(card.side**2),
        pixel_map=PIXEL_MAP,
        nodes=node_scales(shape),
        **{name: take(path, tensors, name).astype(np.int64) for name in _CODES},
    )
    same(path, "program_hash", card.program_hash, program.hash)
    return program


def same(path: Path, field: str, said: str | None, found: str) -> None:
    """CheckpointError where a card says something else of its tables than they do."""
    if said != found:
        raise CheckpointError(f"{path}: the card's {field} is {said}; allowed: {found}, that of its tables")


def take(path: Path, tensors: dict[str, NDArray[Any]], name: str) -> NDArray[Any]:
    """A tensor taken out of a file; CheckpointError where it is missing."""
    if name not in tensors:
        raise CheckpointError(f"{path}: tensor {name} is missing")
    return tensors.pop(name)
