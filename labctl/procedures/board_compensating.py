"""Programs in the codes of the board that a rig's records are of; what that took is kept and found."""

from __future__ import annotations

import hashlib

import numpy as np
from labctl_calibration.oscillators.compensation import METHOD, compensated
from labctl_calibration.oscillators.fitted import FittedBoard

from labctl.devices import BoardImage, Coercion, ConfigError, DataError
from labctl.devices.oscillator_values import IMAGE_TABLES
from labctl.engines import FittedCodes
from labctl.procedures.recipe import GenerateRecipe
from labctl.programs import OscillatorProgram
from labctl.rig import Rig


def require_one_board(recipe: GenerateRecipe, rig: Rig, *, scanned: bool) -> None:
    """ConfigError for runs on other boards than the one that was measured, on a rig with its records."""
    if not rig.board_records:
        return
    others = (("board", recipe.board, 0), ("mismatch", recipe.mismatch, 1.0), ("scan", scanned, False))
    for key, value, allowed in others:
        if value != allowed:
            raise ConfigError(
                f"{key} is {value!r}, and rig {rig.name} is compensated by the records of its own board; "
                f"allowed: {allowed!r}, or no compensation"
            )


def fitted_codes(program: OscillatorProgram, rig: Rig, *, beyond_averaging: bool) -> FittedCodes | None:
    """The program as the rig's board needs it, made now or found where it was kept; None without records.

    Raises what `compensated` does.
    """
    records, store = rig.board_records, rig.records
    if not records or store is None:
        return None
    spec = rig.oscillators.spec
    named = " ".join((program.hash, METHOD, str(beyond_averaging), *rig.board_ids))
    path = store.folder / f"compensated-{hashlib.sha256(named.encode()).hexdigest()[:16]}.npz"
    if path.is_file():
        try:
            with np.load(path) as kept:
                image = BoardImage(
                    spec.topology.hash, *(np.asarray(kept[name], np.int64) for name in IMAGE_TABLES)
                )
                notes = tuple(
                    Coercion(str(field), float(asked), float(given), str(unit), int(count))
                    for field, asked, given, unit, count in kept["notes"]
                )
        except (OSError, ValueError, KeyError) as error:
            raise DataError(
                f"{path}: is no compensated program: {error}; delete it, it is made anew"
            ) from None
        return FittedCodes(image, notes, FittedBoard.of(spec, records).paths.phases)
    made = compensated(program, spec, records, beyond_averaging=beyond_averaging)
    rows = [[n.field, str(n.requested), str(n.applied), n.unit, str(n.count)] for n in made.coercions]
    part = path.with_suffix(".part.npz")
    try:
        np.savez(
            part,
            notes=np.array(rows, dtype=np.str_).reshape(-1, 5),
            **{name: getattr(made.image, name) for name in IMAGE_TABLES},
        )
        part.replace(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror or error}") from None
    return FittedCodes(made.image, made.coercions, made.fitted.paths.phases)
