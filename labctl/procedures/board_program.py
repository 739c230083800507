"""What every part of a run on an oscillator board checks and keeps: program, energy, real pictures."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from labctl.config_files import nearest
from labctl.devices import BoardSpec, ConfigError, DataError, ProgramError, Scalar
from labctl.energy import OscillatorWork, oscillator_account, shipped_constants
from labctl.engines import OscillatorEngine
from labctl.models.oscillators.checkpoint import OscillatorCard, check_data
from labctl.models.oscillators.scoring import PictureJudge
from labctl.models.picture_data import PictureData, picture_data
from labctl.procedures.records import as_bytes
from labctl.programs import OscillatorProgram
from labctl.rig import Rig
from labctl.runlog import OscillatorRecord

REAL_SHOWN = 10  # of each class


def check_known(model: str, zoo: Iterable[str], what: str) -> None:
    """ConfigError where a model is neither in the zoo nor a file; `what` it should be, in words."""
    names = list(zoo)
    if model not in names and not Path(model).is_file():
        raise ConfigError(
            f"model {model!r} is neither a shipped {what} nor a file{nearest(model, names)}; shipped: "
            f"{', '.join(names) or 'none'}"
        )


def check_wiring(model: str, program: OscillatorProgram, rig: Rig) -> None:
    """ProgramError where a rig's board is wired otherwise than a model's program."""
    wired, board = program.topology, rig.oscillators.spec.topology
    if board.hash != wired.hash:
        raise ProgramError(
            f"{model} is wired as {wired.summary}; rig {rig.name} is {board.summary}; allowed: a rig of the "
            "model's topology"
        )


def check_bits(card: OscillatorCard, bits: int, otherwise: str = "") -> None:
    """ConfigError where a model has couplings of other bits, or floats; `otherwise` what else would do."""
    if card.bits != bits:
        has = f"{card.bits} bits" if card.bits else "floats"
        raise ConfigError(
            f"bits is {bits}, but {card.name} has couplings of {has}; allowed: what it was trained for"
            f"{otherwise}"
        )


def judge_of(card: OscillatorCard) -> PictureJudge:
    """The nets that judged a model. CheckpointError where nets of those names are others now, ConfigError
    where they were trained on other data than its card names.
    """
    judge = PictureJudge.named_by(card)
    check_data(card, judge.data, judge.classifier.side)
    return judge


def image_energy(
    program: OscillatorProgram,
    spec: BoardSpec,
    *,
    duration: float,
    reads: int,
    batch: int,
    anchor_writes: int = 0,
) -> dict[str, Scalar]:
    """Of one image, by the ledger's constants with this board's own frequency and coupling rate.

    duration: evolution of an image, units. The rest as of `OscillatorWork`.
    """
    own = {"f0_hz": spec.f0_hz, "eps": spec.eps}
    account = oscillator_account(
        OscillatorWork(
            n=program.topology.n,
            visible=program.n_visible,
            cells=program.topology.n_edges,
            bits=program.bits,
            duration=duration,
            segments=program.segments,
            node_bits=program.nodes.injection.bits,
            reads=reads,
            read_bits=spec.read_bits,
            anchor_writes=anchor_writes,
            batch=batch,
        ),
        shipped_constants().replaced(own, "board").values(),
    )
    return {
        "energy_core_j": float(account.core_total_j),
        "energy_wall_j": float(account.wall_total_j),
    }


def data_of(card: OscillatorCard) -> PictureData | None:
    """The pictures that a model was trained on; None where the set is not at hand."""
    try:
        return picture_data(str(card.dataset["name"]), card.side)
    except DataError:
        return None


def real_pictures(card: OscillatorCard) -> tuple[NDArray[np.uint8] | None, NDArray[np.int64] | None]:
    """Real pictures to show beside, class by class, with labels; none where the set is not at hand."""
    data = data_of(card)
    if data is None:
        return None, None
    rows = [np.flatnonzero(data.test_labels == k)[:REAL_SHOWN] for k in range(len(data.classes))]
    chosen = np.concatenate(rows)
    return as_bytes(data.test_pictures[chosen]), data.test_labels[chosen].astype(np.int64)


def program_record(program: OscillatorProgram, engine: OscillatorEngine) -> OscillatorRecord:
    """The program as the run file keeps it."""
    spec, topology = engine.spec, program.topology
    return OscillatorRecord(
        target=topology.target,
        source=topology.source,
        coupling_codes=program.coupling.codes,
        scale=program.coupling.scale,
        bits=program.bits,
        in_phase_codes=program.in_phase,
        quadrature_codes=program.quadrature,
        second_codes=program.second,
        detuning_codes=program.detuning,
        start_phase_codes=program.start_phase,
        start_amplitude_codes=program.start_amplitude,
        duration_us=program.duration * spec.unit_us,
        visible=program.visible,
        pixel_map=program.pixel_map,
        sites=topology.sites,
        settings={
            "program_sha256": program.hash,
            "topology": topology.summary,
            "program_bytes": program.n_bytes,
            "node_bits": program.nodes.injection.bits,
            "injection_full_scale": program.nodes.injection.range_units,
            "second_full_scale": program.nodes.second.range_units,
            "detuning_full_scale": program.nodes.detuning.range_units,
        },
    )
