"""Chains of equilibria as files: float tables, or the codes of a program in a few kB, with a card."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from labctl.devices.errors import CheckpointError, ProgramError
from labctl.devices.topology import Topology
from labctl.models.checkpoint import none_left, opened, write_tensors
from labctl.models.oscillators.board_law import injection_scales, law_of
from labctl.models.oscillators.checkpoint import (
    OscillatorCard,
    card_fields,
    code_tables,
    floats,
    program_in,
    wiring,
)
from labctl.models.oscillators.diffuser import STRENGTH_BITS, Diffuser
from labctl.models.oscillators.settings import DiffuserShape
from labctl.physics.oscillators import OscillatorLaw
from labctl.sampling.equilibria import PIXEL_MAP

CHAIN_KIND: Final = "oscillator-chain"
_CODES = ("in_phase", "quadrature")


class ChainCard(OscillatorCard):
    """The model card of a chain."""

    kind: Literal["oscillator-chain"] = CHAIN_KIND
    shape: DiffuserShape


@dataclass(frozen=True, eq=False)
class LoadedChain:
    """A chain with its card, as loaded from `path`."""

    diffuser: Diffuser
    card: ChainCard
    path: Path


def describe_chain(diffuser: Diffuser, name: str, **fields: Any) -> ChainCard:
    """A card with sizes, hashes, versions and commit filled in; `fields` are the rest."""
    return ChainCard(name=name, shape=diffuser.shape, **card_fields(diffuser), **fields)


def save_chain(
    diffuser: Diffuser, path: Path | str, card: ChainCard, *, overwrite: bool = False
) -> ChainCard:
    """Write a chain and its card; returns the card with its sha256.

    Raises CheckpointError when a file is there already and `overwrite` is false, or cannot be written.
    """
    program = diffuser.program
    if program is None:
        law = diffuser.law
        tensors: dict[str, NDArray[Any]] = {
            "coupling": law.coupling.numpy(),
            "in_phase": law.in_phase.numpy(),
            "quadrature": law.quadrature.numpy(),
            "strength": diffuser.strength.numpy(),
        }
    else:
        step = diffuser.shape.anchor_limit / (2**STRENGTH_BITS - 1)
        codes = np.rint(diffuser.strength.numpy() / step).astype(np.uint8)
        tensors = {**code_tables(program, _CODES), "strength": codes}
    content = write_tensors(path, tensors, card.model_dump(mode="json"), overwrite=overwrite)
    return ChainCard.model_validate(content)


def load_chain(name_or_path: Path | str) -> LoadedChain:
    """A shipped chain by name, or one by path.

    Raises CheckpointError as `load_generator` does.
    """
    path, tensors, card = opened(name_or_path, CHAIN_KIND, ChainCard)
    shape, pixels = card.shape, card.side**2
    try:
        topology = wiring(path, card, shape)
        if card.bits is None:
            program, law = None, _law(path, tensors, topology, shape)
            strength = floats(path, tensors, "strength", (shape.levels, pixels))
        else:
            program = program_in(
                path, tensors, topology, card, _CODES,
                duration=np.full(shape.segments, shape.duration),
                pixel_map=PIXEL_MAP, nodes=injection_scales(shape.injection_limit),
            )  # fmt: skip
            law = law_of(program)
            codes = floats(path, tensors, "strength", (shape.levels, pixels))
            strength = codes * (shape.anchor_limit / (2**STRENGTH_BITS - 1))
    except ProgramError as error:
        raise CheckpointError(f"{path}: {error}") from error
    none_left(path, tensors)
    if not bool((strength > 0).all()):
        raise CheckpointError(f"{path}: tensor strength has {float(strength.min())}; allowed: above 0")
    diffuser = Diffuser(card.side, shape, topology, law, strength, program=program)
    return LoadedChain(diffuser, card, path)


def _law(
    path: Path, tensors: dict[str, NDArray[Any]], topology: Topology, shape: DiffuserShape
) -> OscillatorLaw:
    nodes = (shape.segments, topology.n)
    zero = torch.zeros(nodes)
    return OscillatorLaw(
        coupling=floats(path, tensors, "coupling", (shape.segments, topology.n_edges)),
        in_phase=floats(path, tensors, "in_phase", nodes),
        quadrature=floats(path, tensors, "quadrature", nodes),
        second=zero,
        detuning=zero,
    )
