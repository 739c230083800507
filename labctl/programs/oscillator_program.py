"""Programs of oscillator boards: segments of fixed duration, couplings and node parameters as codes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labctl.devices import BoardImage, BoardSpec, Coercion, Converter, ProgramError, Topology, turn_codes
from labctl.programs.codes import CodedMatrix, encode, full_scale_code
from labctl.programs.pixel_maps import PIXEL_MAPS, pixels_of
from labctl.programs.rounding import to_codes

FloatArray = NDArray[np.float64]
Floats = NDArray[np.floating]
Codes = NDArray[np.int64]
DEFAULT_EPS = 0.005  # conventions, section 1: coupling rate over omega0 of the default profile
MAX_PULL = 0.1  # of omega0: largest max_i sum_j |K_ij| eps that the phase-averaged law is trusted with
MIN_PERIODS = 10  # of a segment
START_BITS = AMPLITUDE_BITS = 8
NODE_TABLES = ("in_phase", "quadrature", "second", "detuning")


@dataclass(frozen=True)
class NodeScales:
    """Converters of the node parameters: a and b share `injection`. Defaults are the boards' here [A]."""

    injection: Converter = field(default_factory=lambda: Converter(8, 3.0))
    second: Converter = field(default_factory=lambda: Converter(8, 1.0))
    detuning: Converter = field(default_factory=lambda: Converter(8, 1.0))

    def of(self, table: str) -> Converter:
        """The converter of a node table."""
        return {"second": self.second, "detuning": self.detuning}.get(table, self.injection)


@dataclass(frozen=True, eq=False)
class OscillatorProgram:
    """K segments on a topology of n oscillators and E edges, played one after the other, phases carried on.

    coupling: codes [K, E], one scale a segment (units at full scale). Node tables [K, n] are codes of
    `nodes`; in the law (conventions, section 1) in_phase is a (times cos theta), quadrature b, second l,
    detuning w. start_phase (8 bits a turn) and start_amplitude (8 bits over pi rad) [n]: theta_0 = phase +
    amplitude eps. duration [K] in units of 1 / (eps omega0). visible [m]: oscillators that are read, in the
    order of the pixels; pixel_map says how. Raises ProgramError for shapes and codes that make no sense.
    """

    topology: Topology
    coupling: CodedMatrix
    in_phase: Codes
    quadrature: Codes
    second: Codes
    detuning: Codes
    start_phase: Codes
    start_amplitude: Codes
    duration: FloatArray
    visible: NDArray[np.integer]
    pixel_map: str = "cosine"
    nodes: NodeScales = field(default_factory=NodeScales)

    def __post_init__(self) -> None:
        n, segments = self.topology.n, len(self.coupling.codes)
        if self.coupling.codes.shape != (segments, self.topology.n_edges):
            raise ProgramError(
                f"coupling has shape {self.coupling.codes.shape}; allowed: (segments, "
                f"{self.topology.n_edges}) on {self.topology.summary}"
            )
        for name in NODE_TABLES:
            top = self.nodes.of(name).max_code
            self._fix(name, _whole(name, getattr(self, name), (segments, n), -top, top))
        for name, bits in (("start_phase", START_BITS), ("start_amplitude", AMPLITUDE_BITS)):
            self._fix(name, _whole(name, getattr(self, name), (n,), 0, 2**bits - 1))
        duration = np.array(self.duration, np.float64)
        if duration.shape != (segments,) or not (np.isfinite(duration).all() and (duration > 0).all()):
            raise ProgramError(f"duration is {duration}; allowed: {segments} numbers above 0, in units")
        self._fix("duration", duration)
        visible = _whole("visible", self.visible, (np.size(self.visible),), 0, n - 1).astype(np.int32)
        if len(np.unique(visible)) != len(visible):
            raise ProgramError("visible names an oscillator twice; allowed: each once")
        self._fix("visible", visible)
        if self.pixel_map not in PIXEL_MAPS:
            raise ProgramError(f"pixel_map is {self.pixel_map!r}; allowed: {', '.join(PIXEL_MAPS)}")

    def _fix(self, name: str, table: NDArray[np.generic]) -> None:
        table.flags.writeable = False
        object.__setattr__(self, name, table)

    @property
    def segments(self) -> int:
        """K."""
        return len(self.duration)

    @property
    def bits(self) -> int:
        """Of a coupling."""
        return self.coupling.bits

    @property
    def n_visible(self) -> int:
        """Oscillators that are read."""
        return len(self.visible)

    def node_values(self, table: str) -> FloatArray:
        """A node table [K, n] in units."""
        codes: Codes = getattr(self, table)
        return np.asarray(codes * self.nodes.of(table).units_per_code)

    @property
    def start_rad(self) -> FloatArray:
        """Start phases [n]."""
        return np.asarray(self.start_phase * (2 * np.pi / 2**START_BITS))

    @property
    def amplitude_rad(self) -> FloatArray:
        """Noise amplitudes [n] of the start phases."""
        return np.asarray(self.start_amplitude * (np.pi / (2**AMPLITUDE_BITS - 1)))

    def pixels(self, visible_rad: ArrayLike) -> FloatArray:
        """Pixels of visible phases, element by element."""
        return pixels_of(self.pixel_map, visible_rad)

    @property
    def n_bytes(self) -> int:
        """Size of the codes, packed without gaps, durations and scales as 4 bytes each."""
        nodes = sum(self.nodes.of(name).bits for name in NODE_TABLES)
        segment = self.topology.n_edges * self.bits + self.topology.n * nodes + 64
        return -(-(self.segments * segment + self.topology.n * (START_BITS + AMPLITUDE_BITS)) // 8)

    @cached_property
    def hash(self) -> str:
        """SHA-256 of wiring, tables, durations, read-out: all that decides what the program does."""
        digest = hashlib.sha256(f"{self.topology.hash} {self.bits} {self.pixel_map} {self.nodes!r}".encode())
        digest.update(np.ascontiguousarray(self.coupling.codes.astype("<i2")).tobytes())
        for floats in (self.coupling.scale, self.duration):
            digest.update(floats.astype("<f8").tobytes())
        for name in (*NODE_TABLES, "start_phase", "start_amplitude", "visible"):
            digest.update(getattr(self, name).astype("<i4").tobytes())
        return digest.hexdigest()

    def pull(self) -> tuple[float, int, int]:
        """max over segments and oscillators of sum_j |K_ij| in units, and where: (pull, segment, i)."""
        if not self.topology.n_edges:
            return 0.0, 0, 0
        strength = np.abs(self.coupling.weights())
        sums = np.stack([np.bincount(self.topology.target, row, self.topology.n) for row in strength])
        segment, i = (int(k) for k in np.unravel_index(int(sums.argmax()), sums.shape))
        return float(sums[segment, i]), segment, i

    def check_averaging(self, eps: float) -> None:
        """Refuse what the phase-averaged law is not trusted with at this eps (conventions, section 1).

        Raises ProgramError where max_i sum_j |K_ij| eps > 0.1 or a segment is shorter than 10 periods.
        """
        pull, segment, i = self.pull()
        if pull * eps > MAX_PULL:
            raise ProgramError(
                f"segment {segment}: couplings of oscillator {i} add up to {pull:.3g} units, "
                f"{pull * eps:.3g} of omega0 at eps {eps:g}; allowed: {MAX_PULL:g} of omega0 "
                f"({MAX_PULL / eps:.3g} units), or beyond_averaging"
            )
        period = 2 * np.pi * eps  # in units of time
        shortest = period * MIN_PERIODS
        k = int(self.duration.argmin())
        if self.duration[k] < shortest * (1 - 1e-9):
            raise ProgramError(
                f"segment {k} lasts {self.duration[k]:.3g} units, {self.duration[k] / period:.3g} periods "
                f"at eps {eps:g}; allowed: {MIN_PERIODS} periods ({shortest:.3g} units) or longer, or "
                "beyond_averaging"
            )


def code_program(
    topology: Topology,
    *,
    coupling: ArrayLike,
    duration: ArrayLike,
    in_phase: ArrayLike | None = None,
    quadrature: ArrayLike | None = None,
    second: ArrayLike | None = None,
    detuning: ArrayLike | None = None,
    start_rad: ArrayLike | None = None,
    amplitude_rad: ArrayLike | None = None,
    visible: Sequence[int] | NDArray[np.integer] | None = None,
    pixel_map: str = "cosine",
    bits: int = 4,
    scale: ArrayLike | None = None,
    nodes: NodeScales | None = None,
    eps: float = DEFAULT_EPS,
    beyond_averaging: bool = False,
) -> tuple[OscillatorProgram, tuple[Coercion, ...]]:
    """A program out of float parameters: couplings [K, E] and node tables [K, n] in units, angles [n] in rad.

    scale [K]: units at full scale; couplings beyond it are clipped and that is reported (None: each segment's
    largest |K|; at one bit its mean |K|). Node parameters must lie within `nodes`. visible: all that are not
    hidden where None. amplitude_rad up to pi. Raises ProgramError, also for what breaks the limits of the
    phase-averaged law at `eps`, unless `beyond_averaging`.
    """
    scales = nodes or NodeScales()
    notes: list[Coercion] = []
    weights = np.asarray(coupling, np.float64)
    if weights.ndim != 2 or weights.shape[1] != topology.n_edges or not len(weights):
        raise ProgramError(
            f"coupling has shape {weights.shape}; allowed: (segments, {topology.n_edges}) on "
            f"{topology.summary}"
        )
    if not np.isfinite(weights).all():
        row, col = (int(i) for i in np.argwhere(~np.isfinite(weights))[0])
        raise ProgramError(
            f"coupling is {weights[row, col]} in segment {row} on {topology.name(col)}; "
            "allowed: finite numbers"
        )
    if scale is None and topology.n_edges:
        coded = encode(weights, bits, "row")
    else:
        coded, notes = _with_scale(weights, bits, np.ones(len(weights)) if scale is None else scale)
    segments, n = len(weights), topology.n
    given = {"in_phase": in_phase, "quadrature": quadrature, "second": second, "detuning": detuning}
    tables = {
        name: np.zeros((segments, n), np.int64) if values is None
        else _node_codes(name, values, (segments, n), scales.of(name))
        for name, values in given.items()
    }  # fmt: skip
    shown = np.arange(topology.n_visible) if visible is None else np.asarray(visible)
    program = OscillatorProgram(
        topology=topology,
        coupling=coded,
        start_phase=turn_codes(_finite("start_rad", start_rad, n), START_BITS),
        start_amplitude=_amplitude_codes(_finite("amplitude_rad", amplitude_rad, n)),
        duration=np.broadcast_to(np.asarray(duration, np.float64), (segments,)),
        visible=shown,
        pixel_map=pixel_map,
        nodes=scales,
        **tables,
    )
    if not beyond_averaging:
        program.check_averaging(eps)
    return program, tuple(notes)


def board_image(
    program: OscillatorProgram, spec: BoardSpec, *, beyond_averaging: bool = False
) -> tuple[BoardImage, tuple[Coercion, ...]]:
    """The program in a board's own codes, and what its converters applied differently.

    Couplings keep their codes where the board has as many bits or more (the scale makes up for the rest).
    Raises ProgramError for another topology, more segments than the board holds, couplings finer or stronger
    than it has, a coupling on a masked or dead edge, parameters outside its converters, or what breaks the
    limits of the phase-averaged law at the board's eps, unless `beyond_averaging`.
    """
    if program.topology.hash != spec.topology.hash:
        raise ProgramError(
            f"the program is wired as {program.topology.summary}; allowed: this board's topology, "
            f"{spec.topology.summary}"
        )
    if program.segments > spec.depth:
        raise ProgramError(
            f"the program has {program.segments} segments; this board holds at most {spec.depth}"
        )
    if not beyond_averaging:
        program.check_averaging(spec.eps)
    dead = (program.coupling.codes != 0) & ~spec.usable
    if dead.any():
        segment, edge = (int(i) for i in np.argwhere(dead)[0])
        raise ProgramError(
            f"coupling is {program.coupling.codes[segment, edge]} in segment {segment} on "
            f"{program.topology.name(edge)}, which is masked or dead on this board; allowed: 0"
        )
    notes: list[Coercion] = []
    codes, scale = _board_couplings(program, spec, notes)
    nodes = {
        name: _board_nodes(name, program, {"second": spec.second, "detuning": spec.detuning}.get(
            name, spec.injection), notes)
        for name in NODE_TABLES
    }  # fmt: skip
    wanted_us = program.duration * spec.unit_us
    ticks = np.rint(wanted_us / spec.tick_us).astype(np.int64)
    if ticks.max() > spec.max_ticks or ticks.min() < 1:
        worst = wanted_us[int(ticks.argmax())] if ticks.max() > spec.max_ticks else wanted_us.min()
        raise ProgramError(
            f"duration is {worst:.4g} us; this board allows {spec.tick_us:.4g} to "
            f"{spec.max_ticks * spec.tick_us:.4g} us"
        )
    _note(notes, "duration", wanted_us, ticks * spec.tick_us, "us", spec.tick_us)
    amplitude = np.rint(program.amplitude_rad * (spec.max_amplitude_code / np.pi)).astype(np.int64)
    start = spec.start_codes(program.start_rad)
    away = np.angle(np.exp(1j * (spec.start_rad(start) - program.start_rad)))
    _note(notes, "start_phase", program.start_rad, program.start_rad + away, "rad", spec.start_rad(1))
    steps = spec.amplitude_rad(amplitude)
    _note(notes, "start_amplitude", program.amplitude_rad, steps, "rad", spec.amplitude_rad(1))
    return BoardImage(
        topology_hash=spec.topology.hash,
        coupling=codes,
        scale=scale,
        ticks=ticks,
        start_phase=start,
        start_amplitude=amplitude,
        **nodes,
    ), tuple(notes)


def injection_codes(name: str, values: ArrayLike, spec: BoardSpec) -> Codes:
    """Anchors [B, n] in units as codes of a board's injection converter; ProgramError beyond its range."""
    table = np.asarray(values, np.float64)
    return _node_codes(name, table, (*table.shape[:1], spec.n), spec.injection)


def _board_couplings(
    program: OscillatorProgram, spec: BoardSpec, notes: list[Coercion]
) -> tuple[Codes, Codes]:
    top, board_top = program.coupling.full_scale, spec.max_coupling_code
    if top > board_top:
        raise ProgramError(f"couplings have {program.bits} bits; this board allows 1 to {spec.coupling_bits}")
    times = board_top // top  # codes stretched by a whole number stay exact; the scale makes up for the rest
    scale = program.coupling.scale * (board_top / (top * times))
    empty = ~program.coupling.codes.any(axis=1) if program.topology.n_edges else np.ones(len(scale), bool)
    scale = np.where(empty, 0.0, scale)
    if scale.max() > spec.max_scale_units:
        k = int(scale.argmax())
        raise ProgramError(
            f"segment {k}: couplings of {program.coupling.scale[k]:.4g} units at full scale need a scale of "
            f"{scale[k]:.4g}; this board allows at most {spec.max_scale_units:g}"
        )
    codes = np.rint(scale / spec.scale_units_per_code).astype(np.int64)
    _note(notes, "scale", scale, codes * spec.scale_units_per_code, "units", spec.scale_units_per_code)
    return program.coupling.codes.astype(np.int64) * times, codes


def _board_nodes(name: str, program: OscillatorProgram, converter: Converter, notes: list[Coercion]) -> Codes:
    codes: Codes = getattr(program, name)
    if converter == program.nodes.of(name):
        return np.array(codes)
    values = program.node_values(name)
    recoded = _node_codes(name, values, codes.shape, converter)
    applied = recoded * converter.units_per_code
    _note(notes, name, values, applied, "units", converter.units_per_code)
    return recoded


def _note(
    notes: list[Coercion], name: str, asked: Floats, applied: Floats, unit: str, step: float | Floats
) -> None:
    """Report what differs by more than a thousandth of a code: rounding that the board's converters add."""
    off = np.abs(applied - asked)
    if off.size and off.max() > 1e-3 * step:
        worst = np.unravel_index(int(off.argmax()), off.shape)
        count = int((off > 1e-3 * step).sum())
        notes.append(Coercion(name, float(asked[worst]), float(applied[worst]), unit, count))


def _with_scale(weights: FloatArray, bits: int, scale: ArrayLike) -> tuple[CodedMatrix, list[Coercion]]:
    """Codes at a given scale a segment, with a note of what the scale clipped."""
    top = full_scale_code(bits)
    full = np.asarray(scale, np.float64)
    if full.shape != weights.shape[:1] or not (np.isfinite(full).all() and (full > 0).all()):
        raise ProgramError(f"scale is {full}; allowed: {len(weights)} finite numbers above 0")
    share = weights / full[:, None]
    if bits == 1:
        codes = np.where(share < 0, -1, 1).astype(np.int16)
    else:
        codes = np.rint(np.clip(share, -1.0, 1.0) * top).astype(np.int16)
    coded = CodedMatrix(codes, full, bits)
    notes: list[Coercion] = []
    beyond = np.abs(share) > 1 + 0.5 / top
    if beyond.any() and bits > 1:
        worst = np.unravel_index(int(np.abs(share).argmax()), share.shape)
        applied = float(coded.weights()[worst])
        notes.append(Coercion("coupling", float(weights[worst]), applied, "units", int(beyond.sum())))
    return coded, notes


def _node_codes(name: str, values: ArrayLike, shape: tuple[int, ...], converter: Converter) -> Codes:
    table = np.asarray(values, np.float64)
    if table.shape != shape:
        raise ProgramError(f"{name} has shape {table.shape}; allowed: {shape}")
    codes, clipped, note = to_codes(table, converter, name)
    # to within half a code of the end nothing is lost that rounding would not lose
    if (
        note is not None
        and np.abs(table[clipped]).max() > converter.range_units + converter.units_per_code / 2
    ):
        raise ProgramError(
            f"{name} is {note.requested:.4g}; allowed: -{converter.range_units:g} to "
            f"{converter.range_units:g} units"
        )
    return codes


def _amplitude_codes(amplitude_rad: FloatArray) -> Codes:
    if (amplitude_rad < 0).any() or (amplitude_rad > np.pi * (1 + 1e-6)).any():
        wrong = amplitude_rad[(amplitude_rad < 0) | (amplitude_rad > np.pi * (1 + 1e-6))][0]
        raise ProgramError(f"amplitude_rad is {wrong:.4g}; allowed: 0 to pi rad")
    codes: Codes = np.rint(amplitude_rad * ((2**AMPLITUDE_BITS - 1) / np.pi)).astype(np.int64)
    return codes


def _finite(name: str, values: ArrayLike | None, n: int) -> FloatArray:
    array = np.zeros(n) if values is None else np.asarray(values, np.float64)
    if array.shape != (n,) or not np.isfinite(array).all():
        raise ProgramError(f"{name} has shape {array.shape}; allowed: {n} finite numbers")
    return array


def _whole(name: str, table: ArrayLike, shape: tuple[int, ...], low: int, high: int) -> Codes:
    """A table of codes as int64 of its own; ProgramError naming the first that is out of range."""
    codes = np.asarray(table)
    if not np.issubdtype(codes.dtype, np.integer) or codes.shape != shape:
        raise ProgramError(f"{name} is {codes.dtype} of shape {codes.shape}; allowed: integers {shape}")
    wrong = (codes < low) | (codes > high)
    if wrong.any():
        where = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise ProgramError(f"{name} is {codes[where]} at {where}; allowed: {low} to {high}")
    return np.array(codes, np.int64)
