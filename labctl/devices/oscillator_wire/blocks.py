"""Blocks of the oscillator board's protocol: data sheet, program image, queues and results as bytes.

Codes stand side by side without gaps, the lowest bit first (code 0's lowest bit is bit 0 of byte 0); signed
ones in two's complement. Numbers beside them are little-endian.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from typing import Any, get_args, get_type_hints

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from labctl.devices.errors import ProgramError
from labctl.devices.oscillator_spec import BoardSpec
from labctl.devices.oscillator_values import BoardImage, Codes, FrequencyCount, Phases, RunCodes
from labctl.devices.oscillator_wire.frames import FormatError
from labctl.devices.topology import Topology, TopologyKind
from labctl.devices.values import Identity, Scalar

_AT_ONCE = 1 << 16  # codes (a multiple of 8) spread into single bits at a time
_QUEUE = struct.Struct("<IIIIB")  # samples, step, segments played, reads, what follows
_ANCHORS, _STARTS = 1, 2
_RESULT = struct.Struct("<IIQd")  # samples, reads, ticks of the evolution, temperature
_GATE = struct.Struct("<d")
_COUNTS = struct.Struct("<dq")
_KINDS = get_args(TopologyKind)
_SEPARATE = ("topology", "usable")  # fields of the data sheet that are no plain numbers
_ALLOWED = {  # what the layout of the blocks can carry
    "coupling_bits": 32, "scale_bits": 32, "start_bits": 32, "amplitude_bits": 32, "read_bits": 32,
    "depth": 2**16 - 1, "max_ticks": 2**32 - 1, "max_reads": 2**16 - 1, "max_queue": 2**32 - 1,
}  # fmt: skip


# Codes side by side


def pack_codes(tables: Sequence[tuple[Codes, int]]) -> bytes:
    """Tables of codes, each of so many bits, one after the other without gaps; zeros fill the last byte."""
    spread = []
    for codes, bits in tables:
        flat = np.ascontiguousarray(codes, "<i8").ravel()
        for at in range(0, len(flat), _AT_ONCE):
            octets = flat[at : at + _AT_ONCE].view(np.uint8).reshape(-1, 8)
            spread.append(np.unpackbits(octets, axis=1, bitorder="little")[:, :bits].ravel())
    return np.packbits(np.concatenate(spread), bitorder="little").tobytes() if spread else b""


@dataclass(frozen=True)
class Packed:
    """One table of a block: its shape, the bits of a code, whether it has a sign."""

    shape: tuple[int, ...]
    bits: int
    signed: bool = False

    @property
    def count(self) -> int:
        """Codes."""
        return math.prod(self.shape)


def packed_bytes(tables: Sequence[Packed]) -> int:
    """Size of tables without gaps."""
    return -(-sum(table.count * table.bits for table in tables) // 8)


def unpack_codes(what: str, data: bytes, tables: Sequence[Packed]) -> list[Codes]:
    """The tables, int64; FormatError naming the block where its size is another or its filling not zero."""
    size = packed_bytes(tables)
    if len(data) != size:
        raise FormatError(f"{what}: {len(data)} bytes of codes; allowed: {size}")
    bits_in, at, found = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little"), 0, []
    for table in tables:
        values = np.empty(table.count, np.int64)
        for first in range(0, table.count, _AT_ONCE):
            part = values[first : first + _AT_ONCE]
            spread = np.zeros((len(part), 64), np.uint8)
            spread[:, : table.bits] = bits_in[at : at + len(part) * table.bits].reshape(-1, table.bits)
            part[:] = np.packbits(spread, axis=1, bitorder="little").view("<i8").ravel()
            at += len(part) * table.bits
        if table.signed:
            sign = 1 << (table.bits - 1)
            values = (values ^ sign) - sign
        found.append(values.reshape(table.shape))
    if bits_in[at:].any():
        raise FormatError(f"{what}: bits behind the last code; allowed: zeros")
    return found


# Program image


def image_tables(spec: BoardSpec, segments: int) -> dict[str, Packed]:
    """A program's tables in the order of the block.

    Its size is `spec.image_bytes(segments)`, but where couplings have one bit: -1, 0 and 1 take two.
    """
    k, n = segments, spec.n
    return {
        "coupling": Packed((k, spec.topology.n_edges), max(2, spec.coupling_bits), signed=True),
        "in_phase": Packed((k, n), spec.injection.bits, signed=True),
        "quadrature": Packed((k, n), spec.injection.bits, signed=True),
        "second": Packed((k, n), spec.second.bits, signed=True),
        "detuning": Packed((k, n), spec.detuning.bits, signed=True),
        "scale": Packed((k,), spec.scale_bits),
        "ticks": Packed((k,), 32),
        "start_phase": Packed((n,), spec.start_bits),
        "start_amplitude": Packed((n,), spec.amplitude_bits),
    }


def encode_image(spec: BoardSpec, image: BoardImage) -> bytes:
    """A checked image as a block."""
    tables = image_tables(spec, image.segments)
    return pack_codes([(getattr(image, name), table.bits) for name, table in tables.items()])


def decode_image(spec: BoardSpec, segments: int, data: bytes) -> BoardImage:
    """A program of so many segments; FormatError where the size is another."""
    if not 1 <= segments <= spec.depth:
        raise FormatError(f"image: {segments} segments; allowed: 1 to {spec.depth}")
    tables = image_tables(spec, segments)
    found = unpack_codes("image", data, list(tables.values()))
    return BoardImage(spec.topology.hash, **dict(zip(tables, found, strict=True)))


# Run queue and its result


@dataclass(frozen=True, eq=False)
class Queue:
    """Checked codes of one run, every segment named, and the ticks [T] after the release at which to read."""

    codes: RunCodes
    read_ticks: Codes


def encode_queue(spec: BoardSpec, codes: RunCodes, read_ticks: Codes) -> bytes:
    """A checked run; FormatError for a step number that does not fit into 32 bits."""
    if codes.play is None:
        raise FormatError("queue: play is missing; allowed: every segment named")
    if not 0 <= codes.step_id < 2**32:
        raise FormatError(f"queue: step_id is {codes.step_id}; allowed: 0 to {2**32 - 1}")
    a, b, start = codes.anchor_in_phase, codes.anchor_quadrature, codes.start_phase
    flags = (_ANCHORS if a is not None else 0) | (_STARTS if start is not None else 0)
    head = _QUEUE.pack(len(codes.sample_id), codes.step_id, len(codes.play), len(read_ticks), flags)
    lists = codes.play.astype("<u2").tobytes() + np.asarray(read_ticks).astype("<u8").tobytes()
    tables: list[tuple[Codes, int]] = []
    if a is not None and b is not None:
        tables += [(a, spec.injection.bits), (b, spec.injection.bits)]
    if start is not None:
        tables.append((start, spec.start_bits))
    return head + lists + codes.sample_id.astype("<u4").tobytes() + pack_codes(tables)


def decode_queue(spec: BoardSpec, data: bytes) -> Queue:
    """A run; FormatError where sizes do not fit the board or the block."""
    reader = _Reader("queue", data)
    samples, step, played, reads, flags = reader.struct(_QUEUE)
    reader.within("samples", samples, 1, spec.max_queue)
    reader.within("segments played", played, 1, spec.depth)
    reader.within("reads", reads, 1, spec.max_reads)
    reader.within("flags", flags, 0, _ANCHORS | _STARTS)
    play, ticks = reader.array("<u2", played), reader.array("<u8", reads)
    sample_id = reader.array("<u4", samples)
    shape, tables = (samples, spec.n), []
    if flags & _ANCHORS:
        tables += [Packed(shape, spec.injection.bits, signed=True)] * 2
    if flags & _STARTS:
        tables.append(Packed(shape, spec.start_bits))
    found = unpack_codes("queue", reader.rest(), tables)
    anchors = (found[0], found[1]) if flags & _ANCHORS else (None, None)
    start = found[-1] if flags & _STARTS else None
    return Queue(RunCodes(sample_id, step, play, anchors[0], anchors[1], start), ticks)


def encode_phases(spec: BoardSpec, phases: Phases) -> bytes:
    """What a run gave; its times as ticks."""
    batch, reads, _ = phases.codes.shape
    ticks = np.rint(phases.read_at_us / spec.tick_us).astype("<u8")
    run_ticks = round(phases.run_us / spec.tick_us)
    flags = [(np.asarray(part, np.int64), 1) for part in (phases.locked, phases.overflow)]
    head = _RESULT.pack(batch, reads, run_ticks, phases.temperature_c)
    return head + ticks.tobytes() + pack_codes([(phases.codes, spec.read_bits), *flags])


def decode_phases(spec: BoardSpec, data: bytes) -> Phases:
    """What a run gave; FormatError where sizes do not fit the board or the block."""
    reader = _Reader("result", data)
    batch, reads, run_ticks, temperature_c = reader.struct(_RESULT)
    reader.within("samples", batch, 1, spec.max_queue)
    reader.within("reads", reads, 1, spec.max_reads)
    ticks = reader.array("<u8", reads)
    tables = [Packed((batch, reads, spec.n), spec.read_bits), Packed((batch,), 1), Packed((batch,), 1)]
    codes, locked, overflow = unpack_codes("result", reader.rest(), tables)
    return Phases(
        codes=codes,
        locked=locked.astype(np.bool_),
        overflow=overflow.astype(np.bool_),
        temperature_c=temperature_c,
        read_at_us=np.asarray(ticks * spec.tick_us),
        run_us=float(run_ticks) * spec.tick_us,
    )


# Frequency counts


def encode_gate(gate_us: float, detuning: Codes) -> bytes:
    """A checked order to count: the gate, and n trim codes of 32 bits."""
    return _GATE.pack(gate_us) + detuning.astype("<i4").tobytes()


def decode_gate(spec: BoardSpec, data: bytes) -> tuple[float, Codes]:
    """(gate in us, trim codes [n]); FormatError where the size is another."""
    reader = _Reader("gate", data)
    (gate_us,) = reader.struct(_GATE)
    trims = reader.array("<i4", spec.n)
    reader.end()
    return gate_us, trims


def encode_counts(count: FrequencyCount) -> bytes:
    """What was counted: the gate, the reference's count, n counts of 64 bits."""
    head = _COUNTS.pack(count.gate_us, count.reference_count)
    return head + np.asarray(count.counts).astype("<i8").tobytes()


def decode_counts(spec: BoardSpec, data: bytes) -> FrequencyCount:
    """What was counted; FormatError where the size is another."""
    reader = _Reader("counts", data)
    gate_us, reference = reader.struct(_COUNTS)
    counts = reader.array("<i8", spec.n)
    reader.end()
    return FrequencyCount(counts, reference, gate_us)


# Data sheet, identity, settings


class _Wiring(BaseModel):
    """heard: whom each oscillator hears, in order; masked: edges that carry nothing."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: str
    n_hidden: int
    heard: tuple[tuple[int, ...], ...]
    masked: tuple[int, ...]
    sites: tuple[tuple[float, float], ...] | None


_HINTS = {name: hint for name, hint in get_type_hints(BoardSpec).items() if name not in _SEPARATE}
_Sheet = create_model(  # type: ignore[call-overload]
    "_Sheet",
    __config__=ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False),
    wiring=(_Wiring, ...),
    **{f.name: (_HINTS[f.name], ...) for f in fields(BoardSpec) if f.name in _HINTS},
)


def encode_spec(spec: BoardSpec) -> bytes:
    """The data sheet as JSON; numbers in full."""
    wiring = spec.topology
    ends = np.searchsorted(wiring.target, np.arange(wiring.n + 1))
    plain = {f.name: getattr(spec, f.name) for f in fields(spec) if f.name not in _SEPARATE}
    document = {
        "wiring": {
            "kind": wiring.kind,
            "n_hidden": wiring.n_hidden,
            "heard": [wiring.source[a:b].tolist() for a, b in pairwise(ends)],
            "masked": np.flatnonzero(~spec.usable).tolist(),
            "sites": None if wiring.sites is None else wiring.sites.tolist(),
        },
        **{name: _as_plain(value) for name, value in plain.items()},
    }
    return json.dumps(document, separators=(",", ":")).encode()


def decode_spec(data: bytes) -> BoardSpec:
    """A data sheet; FormatError naming the field that makes no sense."""
    try:
        sheet: Any = _Sheet.model_validate_json(data)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"])
        raise FormatError(f"data sheet: {where}: {problem['msg']}") from None
    for name, most in _ALLOWED.items():
        if not 1 <= getattr(sheet, name) <= most:
            raise FormatError(f"data sheet: {name} is {getattr(sheet, name)}; allowed: 1 to {most}")
    for name in ("injection", "second", "detuning"):
        if not 2 <= getattr(sheet, name).bits <= 32:
            raise FormatError(f"data sheet: {name}.bits is {getattr(sheet, name).bits}; allowed: 2 to 32")
    for name in ("max_scale_units", "tick_us", "f0_hz", "eps"):
        if not getattr(sheet, name) > 0:
            raise FormatError(f"data sheet: {name} is {getattr(sheet, name)}; allowed: above 0")
    wiring = sheet.wiring
    heard = [len(sources) for sources in wiring.heard]
    target = np.repeat(np.arange(len(heard), dtype=np.int32), heard)
    source: NDArray[Any] = np.array([j for sources in wiring.heard for j in sources], np.int64)
    sites = None if wiring.sites is None else np.array(wiring.sites, np.float64)
    if wiring.kind not in _KINDS:
        raise FormatError(
            f"data sheet: wiring.kind is {wiring.kind!r}; allowed: grid, king, all-to-all, edges"
        )
    try:
        topology = Topology(wiring.kind, len(heard), target, source, sites, wiring.n_hidden)
    except ProgramError as error:
        raise FormatError(f"data sheet: {error}") from None
    usable: NDArray[np.bool_] = np.ones(topology.n_edges, np.bool_)
    for edge in wiring.masked:
        if not 0 <= edge < topology.n_edges:
            raise FormatError(f"data sheet: wiring.masked is {edge}; allowed: 0 to {topology.n_edges - 1}")
        usable[edge] = False
    return BoardSpec(topology=topology, usable=usable, **{name: getattr(sheet, name) for name in _HINTS})


def encode_identity(identity: Identity) -> str:
    """Who the board is, as JSON."""
    return json.dumps(asdict(identity))


def decode_identity(text: str) -> Identity:
    """Who the board is; FormatError where a field is missing or of another type."""
    found = _object("identity", text)
    wanted = get_type_hints(Identity)
    if set(found) != set(wanted) or not all(type(found[name]) is kind for name, kind in wanted.items()):
        raise FormatError(f"identity: {text}; allowed: {', '.join(wanted)}")
    return Identity(**found)


def decode_settings(text: str) -> dict[str, Scalar]:
    """Settings; FormatError where one is no scalar."""
    found = _object("settings", text)
    for name, value in found.items():
        if not isinstance(value, str | int | float | bool):
            raise FormatError(f"settings: {name} is {value!r}; allowed: a text, a number or a truth value")
    return found


def _object(what: str, text: str) -> dict[str, Any]:
    try:
        found = json.loads(text, parse_constant=lambda name: None)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{what}: no JSON ({error})") from None
    if not isinstance(found, dict):
        raise FormatError(f"{what}: {type(found).__name__}; allowed: an object")
    return found


def _as_plain(value: Any) -> Any:
    return asdict(value) if hasattr(value, "__dataclass_fields__") else value


class _Reader:
    """Takes a block apart from its beginning; FormatError where it ends too early."""

    def __init__(self, what: str, data: bytes) -> None:
        self._what, self._data, self._at = what, data, 0

    def struct(self, layout: struct.Struct) -> tuple[Any, ...]:
        """The next numbers, all finite."""
        values = layout.unpack(self._take(layout.size))
        if any(isinstance(value, float) and not math.isfinite(value) for value in values):
            raise FormatError(f"{self._what}: {values}; allowed: finite numbers")
        return values

    def array(self, kind: str, count: int) -> Codes:
        """The next integers, int64."""
        raw = np.frombuffer(self._take(np.dtype(kind).itemsize * count), kind)
        if kind == "<u8" and (raw >= 2**63).any():
            raise FormatError(f"{self._what}: {raw.max()}; allowed: below 2^63")
        return raw.astype(np.int64)

    def within(self, field: str, value: int, low: int, high: int) -> None:
        """Refuse a number outside low .. high."""
        if not low <= value <= high:
            raise FormatError(f"{self._what}: {field} is {value}; allowed: {low} to {high}")

    def rest(self) -> bytes:
        """Whatever is left."""
        return self._data[self._at :]

    def end(self) -> None:
        """Refuse anything that is left."""
        if self._at != len(self._data):
            raise FormatError(f"{self._what}: {len(self._data)} bytes; allowed: {self._at}")

    def _take(self, size: int) -> bytes:
        part = self._data[self._at : self._at + size]
        if len(part) != size:
            raise FormatError(f"{self._what}: ends after {len(self._data)} bytes; allowed: whole blocks")
        self._at += size
        return part
