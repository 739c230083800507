"""What travels in blocks beside the interfaces' own value types."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labctl.devices.loop_chain import ChainCodes
from labctl.devices.specs import DriveSpec, LoopSpec, ModulatorSpec
from labctl.devices.values import Scalar
from labctl.devices.weight_modulator import LevelArray

Codes = NDArray[np.int64]
FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class About:
    """First part of `SYSTem:DESCribe?`: enough to see whether the rest can be understood."""

    kind: str
    protocol: tuple[int, int]
    simulated: bool


@dataclass(frozen=True)
class LoopDescription(About):
    """Of loop electronics."""

    spec: LoopSpec


@dataclass(frozen=True)
class DriveDescription(About):
    """Of emitter drivers."""

    spec: DriveSpec


@dataclass(frozen=True)
class PanelDescription(About):
    """Of a modulator behind a controller."""

    spec: ModulatorSpec


@dataclass(frozen=True)
class Readings:
    """A snapshot: settings and readings by name, units in the names."""

    values: Mapping[str, Scalar]


@dataclass(frozen=True)
class CodeTable:
    """Codes [n] or [B, n]."""

    codes: Codes


@dataclass(frozen=True)
class DriveQueue:
    """Patterns [B, n] of an input drive, with the labels that a twin draws its noise by."""

    codes: Codes
    step_id: int
    sample_id: Codes | None


@dataclass(frozen=True)
class Trace:
    """trace_counts [S, B, n] at trace_time_us [S]."""

    trace_counts: FloatArray
    trace_time_us: FloatArray


@dataclass(frozen=True)
class Levels:
    """A frame [height, width], or planes one below the other."""

    levels: LevelArray


@dataclass(frozen=True)
class Planes:
    """Planes [P, height, width], each for its duration [P]."""

    planes: LevelArray
    durations_us: FloatArray


@dataclass(frozen=True)
class ChainTables:
    """What the sequencer holds for all samples: fields of `ChainCodes`."""

    bias: Codes
    gain: Codes
    leak: Codes
    gain_range: Codes
    rows: Codes
    base: Codes
    inject_state: Codes
    inject_register: Codes
    start_state: Codes
    start_register: Codes
    step_ids: Codes


@dataclass(frozen=True)
class ChainQueue:
    """What belongs to each sample: the other fields of `ChainCodes`."""

    register: Codes
    start: Codes
    table: Codes
    sample_id: Codes
    inject_add: Codes | None
    start_add: Codes | None


def split_chain(codes: ChainCodes) -> tuple[ChainTables, ChainQueue]:
    """Tables and queue of a chain."""
    halves = (
        {f.name: getattr(codes, f.name) for f in dataclasses.fields(k)} for k in (ChainTables, ChainQueue)
    )
    return ChainTables(**next(halves)), ChainQueue(**next(halves))


def joined_chain(tables: ChainTables, queue: ChainQueue) -> ChainCodes:
    """The chain again."""
    return ChainCodes(
        **{f.name: getattr(part, f.name) for part in (tables, queue) for f in dataclasses.fields(part)}
    )
