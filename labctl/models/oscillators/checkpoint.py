"""Generators of oscillators as files: float tables, or the codes of a program in a few kB, with a card."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from labctl.devices.errors import CheckpointError, ConfigError, ProgramError
from labctl.devices.topology import Topology
from labctl.models.checkpoint import none_left, opened, provenance, take, write_tensors
from labctl.models.oscillators.generator import (
    PIXEL_MAP,
    OscillatorGenerator,
    OscillatorParameters,
    node_scales,
)
from labctl.models.oscillators.model import OscillatorModel
from labctl.models.oscillators.settings import GridShape, OscillatorShape
from labctl.programs import NodeScales, OscillatorProgram
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


@dataclass(frozen=True, eq=False)
class LoadedGenerator:
    """A generator with its card, as loaded from `path`."""

    generator: OscillatorGenerator
    card: GeneratorCard
    path: Path


def describe_generator(generator: OscillatorGenerator, name: str, **fields: Any) -> GeneratorCard:
    """A card with sizes, hashes, versions and commit filled in; `fields` are the rest."""
    return GeneratorCard(name=name, shape=generator.shape, **card_fields(generator), **fields)


def card_fields(model: OscillatorModel) -> dict[str, Any]:
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
        tensors = code_tables(program, _CODES)
    content = write_tensors(path, tensors, card.model_dump(mode="json"), overwrite=overwrite)
    return GeneratorCard.model_validate(content)


def load_generator(name_or_path: Path | str) -> LoadedGenerator:
    """A shipped generator by name, or one by path.

    Raises CheckpointError for an unknown name, a missing or malformed file or card, a wrong hash (of file,
    topology or program), and tables that are missing, superfluous, of wrong shape or not finite.
    """
    path, tensors, card = opened(name_or_path, KIND, GeneratorCard)
    try:
        topology = wiring(path, card, card.shape)
        if card.bits is None:
            parameters, program = _floats(path, tensors, topology, card.shape), None
        else:
            shape = card.shape
            program = program_in(
                path, tensors, topology, card, _CODES,
                duration=np.full(shape.segments, shape.duration / shape.segments),
                pixel_map=PIXEL_MAP, nodes=node_scales(shape),
            )  # fmt: skip
            parameters = OscillatorParameters.of(program)
    except ProgramError as error:
        raise CheckpointError(f"{path}: {error}") from error
    none_left(path, tensors)
    generator = OscillatorGenerator(card.side, card.shape, topology, parameters, program=program)
    return LoadedGenerator(generator, card, path)


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


def code_tables(program: OscillatorProgram, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """A program's tables as a file keeps them: couplings with their scale, and the tables `names`."""
    tables: dict[str, NDArray[Any]] = {
        "coupling_codes": program.coupling.codes.astype(np.int8),
        "coupling_scale": program.coupling.scale,
    }
    for name in names:
        tables[name] = getattr(program, name).astype(np.uint8 if name.startswith("start") else np.int8)
    return tables


def program_in(
    path: Path,
    tensors: dict[str, NDArray[Any]],
    topology: Topology,
    card: OscillatorCard,
    names: Sequence[str],
    *,
    duration: NDArray[np.float64],
    pixel_map: str,
    nodes: NodeScales,
) -> OscillatorProgram:
    """The program whose tables `code_tables` wrote; tables not among `names` are 0. duration [K], units.

    CheckpointError where one is missing, or the card's hash is another's.
    """
    coupling = CodedMatrix(
        take(path, tensors, "coupling_codes"), take(path, tensors, "coupling_scale"), card.bits or 0
    )
    of_nodes = np.zeros((len(duration), topology.n), np.int64)
    tables = {name: of_nodes[0] if name.startswith("start") else of_nodes for name in _CODES}
    tables |= {name: take(path, tensors, name).astype(np.int64) for name in names}
    program = OscillatorProgram(
        topology=topology,
        coupling=coupling,
        duration=duration,
        visible=np.arange(card.side**2),
        pixel_map=pixel_map,
        nodes=nodes,
        **tables,
    )
    same(path, "program_hash", card.program_hash, program.hash)
    return program


def wiring(path: Path, card: OscillatorCard, shape: GridShape) -> Topology:
    """That of a model's shape; CheckpointError where the card's hash is another's."""
    topology = shape.wired(card.side)
    same(path, "topology_hash", card.topology_hash, topology.hash)
    return topology


def same(path: Path, field: str, said: str | None, found: str) -> None:
    """CheckpointError where a card says something else of its tables than they do."""
    if said != found:
        raise CheckpointError(f"{path}: the card's {field} is {said}; allowed: {found}, that of its tables")
