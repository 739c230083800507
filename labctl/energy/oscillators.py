"""Energy and time of one image of an oscillator board, from numbers of its program.

    E = t_unit T [N P_osc + directed cells P_unit max(1, 2^(b-1) - 1) + N P_inj] + reads N_vis E_tdc
        + n_load (cells + nodes) bits E_bit + N E_init + host,        t_unit = 1 / (2 pi f0 eps)

A cell is one *directed* coupling: what i hears from j and what j hears from i are two. A cell of b bits is
made of max(1, 2^(b-1) - 1) equal units, the largest code's magnitude; its sign costs none. Static power,
whatever the code: all units of all cells are on. Ours, no published circuit was read.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from labctl.devices.errors import ProgramError
from labctl.energy.account import Account, total
from labctl.energy.constants import Value
from labctl.energy.host import behind_supply_j, cable_s, host_j

MOST_BITS, MOST_READ_BITS = 16, 32


@dataclass(frozen=True)
class OscillatorWork:
    """What one image asks of a board. n, cells, segments, loads and duration may be one a draw [S].

    n: oscillators; visible: those read; cells: directed couplings with a cell; bits: of a coupling code.
    duration: of the whole evolution in units of 1/K_unit, all segments together (in a chain: all settles).
    segments: parameter sets the program holds. loads: how many of them are written into the cells for one
    image (None: all; 0: every segment has cells' memory of its own). node_values codes of node_bits bits
    belong to each oscillator and segment (injection in-phase, quadrature, second harmonic, detuning).
    reads: how often all visible phases are read, with read_bits bits; inits: how often all initial phases
    are set; anchor_writes: how often two anchor codes of every visible one are written (a chain's step).
    batch: images made with one program, which pay its programming and the host's commands together.

    Raises ProgramError for numbers that no program has.
    """

    n: Value
    visible: int
    cells: Value
    bits: int
    duration: Value
    segments: Value = 1
    loads: Value | None = None
    node_values: int = 4
    node_bits: int = 8
    reads: int = 1
    read_bits: int = 8
    inits: int = 1
    anchor_writes: int = 0
    batch: int = 1

    def __post_init__(self) -> None:
        for field, limit in (("bits", MOST_BITS), ("node_bits", MOST_BITS), ("read_bits", MOST_READ_BITS)):
            _check(1 <= getattr(self, field) <= limit, field, getattr(self, field), f"1 to {limit}")
        for field in ("visible", "batch"):
            _check(getattr(self, field) >= 1, field, getattr(self, field), "1 or more")
        for field in ("reads", "inits", "anchor_writes", "node_values"):
            _check(getattr(self, field) >= 0, field, getattr(self, field), "0 or more")
        if isinstance(self.n, int | float):
            _check(self.n >= self.visible, "n", self.n, f"{self.visible} or more, the visible ones")
            if isinstance(self.cells, int | float):
                most = self.n * (self.n - 1)
                _check(0 <= self.cells <= most, "cells", self.cells, f"0 to {most:g}, all pairs both ways")
        if isinstance(self.duration, int | float):
            _check(0 < self.duration < math.inf, "duration", self.duration, "more than 0 units")
        if isinstance(self.segments, int | float):
            _check(self.segments >= 1, "segments", self.segments, "1 or more")
        if isinstance(self.loads, int | float):
            _check(self.loads >= 0, "loads", self.loads, "0 or more")

    @property
    def segment_bits(self) -> Value:
        """Bits of one segment's parameters."""
        return self.cells * self.bits + self.n * (self.node_values * self.node_bits)

    @property
    def loaded(self) -> Value:
        """Segments written into the cells for one image."""
        return self.segments if self.loads is None else self.loads


def units_of(bits: int) -> int:
    """Equal units of a cell of b bits, sign apart: max(1, 2^(b-1) - 1)."""
    return max(1, (1 << (bits - 1)) - 1)


def unit_time_s(constants: Mapping[str, Value]) -> Value:
    """1/K_unit in seconds: 1 / (2 pi f0 eps)."""
    return 1.0 / (2.0 * math.pi * constants["f0_hz"] * constants["eps"])


def board_power_w(work: OscillatorWork, constants: Mapping[str, Value]) -> dict[str, Value]:
    """Power of the running board by part, W."""
    return {
        "oscillators": work.n * constants["p_osc_w"],
        "couplings": work.cells * constants["p_unit_w"] * units_of(work.bits),
        "injection": work.n * constants["p_inj_w"],
    }


def oscillator_account(work: OscillatorWork, constants: Mapping[str, Value]) -> Account:
    """Cost of one image. Core: the evolution, init, reload, read-out and the program's share of writing."""
    evolve_s = unit_time_s(constants) * work.duration
    power = board_power_w(work, constants)
    bit_j, bus = constants["e_bit_j"], constants["bus_bits_per_s"]
    program_bits = work.segment_bits * work.segments
    anchor_bits = work.anchor_writes * work.visible * 2 * work.node_bits
    core: dict[str, Value] = {part: evolve_s * watts for part, watts in power.items()}
    core["reload"] = (work.loaded * work.segment_bits + anchor_bits) * bit_j
    core["read-out"] = work.reads * work.visible * constants["e_tdc_j"]
    core["initial phases"] = work.inits * work.n * constants["e_init_j"]
    core["programming"] = program_bits * bit_j / work.batch
    period_s = 1.0 / constants["f0_hz"]
    read_bits = work.reads * work.visible * work.read_bits
    cable = cable_s(constants, program_bits / 8 / work.batch + read_bits / 8, 2 / work.batch)
    latency: dict[str, Value] = {
        "evolution": evolve_s,
        "reload": (work.loaded * work.segment_bits + anchor_bits) / bus,
        "initial phases": work.inits * constants["init_periods"] * period_s,
        "read-out": work.reads * constants["read_periods"] * period_s + read_bits / bus,
        "programming and cable": cable,
    }
    converted = total({part: core[part] for part in ("reload", "read-out", "initial phases", "programming")})
    awake_s = total(latency)
    board_w = total(power) + constants["p_ref_w"]
    wall: dict[str, Value] = {
        "board": behind_supply_j(constants, board_w * awake_s),
        "memory, converters": behind_supply_j(constants, converted),
        "host": host_j(constants, awake_s),
    }
    return Account(core, wall, latency)


def _check(holds: bool, field: str, value: object, allowed: str) -> None:
    if not holds:
        raise ProgramError(f"oscillator program: {field} = {value!r}: allowed: {allowed}")
