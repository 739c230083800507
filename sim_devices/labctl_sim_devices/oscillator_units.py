"""One board of a population: every true parameter, drawn by seed, term by term."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from labctl_sim_devices.oscillator_distributions import OscillatorDistribution
from labctl_sim_devices.oscillator_profile import OscillatorProfile
from labctl_sim_devices.terms import Draw, Parameter, TermTruth, with_explicit

FloatArray = NDArray[np.float64]
OSCILLATOR_TERMS = tuple(OscillatorDistribution.model_fields)


@dataclass(frozen=True, eq=False)
class OscillatorTruth(TermTruth):
    """True parameters of one board: n oscillators, e directed cells; rates in units of eps omega0.

    dead: 1 where a cell passes nothing on; listed: 1 where the data sheet says so. read_bow: amplitudes of
    the sine and the cosine of twice the phase.
    """

    detuning: Annotated[FloatArray, Parameter("detuning", "n", 0.0)]
    coupling_gain: Annotated[FloatArray, Parameter("coupling_gain", "e", 0.0)]
    coupling_offset: Annotated[FloatArray, Parameter("coupling_offset", "e", 0.0)]
    bow_even: Annotated[FloatArray, Parameter("coupling_bow", "e", 0.0)]
    bow_odd: Annotated[FloatArray, Parameter("coupling_bow", "e", 0.0)]
    dead: Annotated[FloatArray, Parameter("dead_cells", "e", 0.0)]
    listed: Annotated[FloatArray, Parameter("dead_cells", "e", 0.0)]
    injection_gain: Annotated[FloatArray, Parameter("injection", "n", 0.0)]
    injection_phase_rad: Annotated[FloatArray, Parameter("injection", "n", 0.0)]
    read_skew_rad: Annotated[FloatArray, Parameter("read_path", "n", 0.0)]
    read_bow_rad: Annotated[FloatArray, Parameter("read_path", "n2", 0.0)]
    lag_rad: Annotated[FloatArray, Parameter("phase_lag", "e", 0.0)]
    units_per_c: Annotated[FloatArray, Parameter("temperature", "n", 0.0)]
    rise_c: Annotated[FloatArray, Parameter("temperature", "", 0.0)]
    room_c: Annotated[FloatArray, Parameter("temperature", "", 0.0)]
    supply: Annotated[FloatArray, Parameter("supply", "n", 0.0)]
    lock_loss: Annotated[FloatArray, Parameter("lock_loss", "", 0.0)]
    detuning_walk: Annotated[FloatArray, Parameter("ageing", "", 0.0)]
    settings: dict[str, float] = field(default_factory=dict)


def _shape(code: str, n: int, e: int) -> tuple[int, ...]:
    sizes = {"n": n, "e": e}
    return tuple(sizes[c] if c in sizes else int(c) for c in code)


def draw_board(profile: OscillatorProfile, seed: int) -> OscillatorTruth:
    """The board number `seed` of the profile's population; arrays of [truth] stand instead of draws.

    Raises ConfigError naming the field for an array of a wrong name or shape.
    """
    n, e = profile.wiring.n, profile.wiring.n_edges
    parameters = OscillatorTruth.parameters()
    shapes = {name: _shape(p.shape, n, e) for name, p in parameters.items()}
    values: dict[str, Any] = {name: np.full(shapes[name], p.absent) for name, p in parameters.items()}
    board = OscillatorTruth(**values)
    population, draw = profile.unit or OscillatorDistribution(), Draw(seed)
    for name, rule in _RULES.items():
        table = getattr(population, name)
        if table is not None:
            drawn = rule(table, draw, n, e)
            settings = {**board.settings, **drawn.pop("settings", {})}
            board = replace(board, settings=settings, **drawn)
    return with_explicit(board, profile.truth, shapes)


def _over(term: str, field_name: str, which: str) -> Callable[[Any, Draw, int, int], dict[str, Any]]:
    """A normal over oscillators or cells."""

    def rule(t: Any, draw: Draw, n: int, e: int) -> dict[str, Any]:
        return {field_name: t.mean + t.sd * draw.normal(term, n if which == "n" else e)}

    return rule


def _bow(t: Any, draw: Draw, n: int, e: int) -> dict[str, Any]:
    even, odd = draw.normal("coupling_bow", 2, e)
    return {"bow_even": t.even_sd * even, "bow_odd": t.odd_sd * odd}


def _dead(t: Any, draw: Draw, n: int, e: int) -> dict[str, Any]:
    order = np.argsort(draw.normal("dead_cells", e), kind="stable")
    count = round(t.share * e)
    dead, listed = np.zeros(e), np.zeros(e)
    dead[order[:count]] = 1.0
    listed[order[: round(t.listed * count)]] = 1.0
    return {"dead": dead, "listed": listed}


def _injection(t: Any, draw: Draw, n: int, e: int) -> dict[str, Any]:
    gain, phase = draw.normal("injection", 2, n)
    return {"injection_gain": t.gain_sd * gain, "injection_phase_rad": t.phase_sd_rad * phase}


def _read_path(t: Any, draw: Draw, n: int, e: int) -> dict[str, Any]:
    return {
        "read_skew_rad": t.skew_sd_rad * draw.normal("read_path", n),
        "read_bow_rad": t.bow_sd_rad * draw.normal("read_path", n, 2, part=1),
    }


def _lag(t: Any, draw: Draw, n: int, e: int) -> dict[str, Any]:
    return {"lag_rad": t.mean_rad + t.sd_rad * draw.normal("phase_lag", e)}


def _temperature(t: Any, draw: Draw, n: int, e: int) -> dict[str, Any]:
    return {
        "units_per_c": t.units_per_c + t.units_per_c_sd * draw.normal("temperature", n),
        "rise_c": np.asarray(t.rise_c),
        "room_c": np.asarray(t.room_c),
        "settings": {"rise_us": t.rise_us, "room_us": t.room_us},
    }


def _lock_loss(t: Any, draw: Draw, n: int, e: int) -> dict[str, Any]:
    return {"lock_loss": np.asarray(t.probability)}


def _ageing(t: Any, draw: Draw, n: int, e: int) -> dict[str, Any]:
    return {"detuning_walk": np.asarray(t.units_per_sqrt_hour)}


_RULES: dict[str, Callable[[Any, Draw, int, int], dict[str, Any]]] = {
    "detuning": _over("detuning", "detuning", "n"),
    "coupling_gain": _over("coupling_gain", "coupling_gain", "e"),
    "coupling_offset": _over("coupling_offset", "coupling_offset", "e"),
    "coupling_bow": _bow,
    "dead_cells": _dead,
    "injection": _injection,
    "read_path": _read_path,
    "phase_lag": _lag,
    "temperature": _temperature,
    "supply": _over("supply", "supply", "n"),
    "lock_loss": _lock_loss,
    "ageing": _ageing,
}
