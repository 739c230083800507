"""Writes board_tables.h: the firmware's board, its data sheet, and a table of sines.

python firmware/board_tables.py OUT. What the host is told (`SPEC`) and what the firmware computes with comes
from one place.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from labctl.devices import BoardSpec, Converter, LinkSpec, grid
from labctl.devices.oscillator_wire.blocks import encode_spec

TOPOLOGY = grid(8, 8, 2)
SPEC = BoardSpec(
    topology=TOPOLOGY,
    usable=np.ones(TOPOLOGY.n_edges, np.bool_),
    coupling_bits=4,
    scale_bits=12,
    max_scale_units=3.0,
    injection=Converter(8, 3.0),
    second=Converter(8, 1.0),
    detuning=Converter(8, 1.0),
    start_bits=8,
    amplitude_bits=8,
    depth=16,
    tick_us=1.0,
    max_ticks=1_048_576,
    f0_hz=1e5,
    eps=0.005,
    reference=None,
    read_bits=16,
    max_reads=16,
    max_turns=8,
    lock_limit_units=20.0,
    setup_us=500.0,
    read_us=50.0,
    max_queue=64,
    gate_range_us=(1000.0, 1e7),
    link=LinkSpec(latency_us=1000.0, mbyte_per_s=0.1),
)
TEMPERATURE_C = 25.0  # there is no thermometer to read
SINES = 4096  # a turn


def header(spec: BoardSpec) -> str:
    """The text of board_tables.h."""
    wiring = spec.topology
    starts = np.searchsorted(wiring.target, np.arange(wiring.n + 1))
    sines = np.rint(2**30 * np.sin(2 * np.pi * np.arange(SINES + 1) / SINES)).astype(np.int64)
    sheet = encode_spec(spec)
    turns_per_tick = spec.tick_us * 1e-6 * spec.f0_hz * spec.eps  # for each unit of rate
    numbers = {
        "OSCILLATORS": wiring.n,
        "EDGES": wiring.n_edges,
        "DEPTH": spec.depth,
        "MAX_TICKS": f"{spec.max_ticks}u",
        "MAX_READS": spec.max_reads,
        "MAX_QUEUE": spec.max_queue,
        "MAX_TURNS": spec.max_turns,
        "COUPLING_BITS": spec.coupling_bits,
        "MAX_COUPLING_CODE": spec.max_coupling_code,
        "SCALE_BITS": spec.scale_bits,
        "MAX_SCALE_CODE": spec.max_scale_code,
        "MAX_SCALE_UNITS": int(spec.max_scale_units),
        "START_BITS": spec.start_bits,
        "AMPLITUDE_BITS": spec.amplitude_bits,
        "MAX_AMPLITUDE_CODE": spec.max_amplitude_code,
        "READ_BITS": spec.read_bits,
        **{
            f"{name.upper()}_{what}": value
            for name in ("injection", "second", "detuning")
            for what, value in (
                ("BITS", getattr(spec, name).bits),
                ("UNITS", int(getattr(spec, name).range_units)),
            )
        },
        **{
            f"MAX_{name.upper()}_CODE": getattr(spec, name).max_code
            for name in ("injection", "second", "detuning")
        },
        "LOCK_LIMIT_Q24": int(spec.lock_limit_units * 2**24),
        "TURNS_PER_TICK_Q52": f"{round(turns_per_tick * 2**52)}ull",
        "UNITS_PER_TICK_Q32": f"{round(spec.tick_us / spec.unit_us * 2**32)}ull",
        "TICK_NS": f"{round(1e3 * spec.tick_us)}ull",
        "SETUP_NS": f"{round(1e3 * spec.setup_us)}ull",
        "READ_NS": f"{round(1e3 * spec.read_us)}ull",
        "LOAD_NS": f"{round(1e3 * spec.link.latency_us)}ull",
        "LOAD_NS_PER_BYTE": f"{round(1e3 / spec.link.mbyte_per_s)}ull",
        "F0_HZ": repr(spec.f0_hz),
        "EPS": repr(spec.eps),
        "GATE_LOW_US": repr(spec.gate_range_us[0]),
        "GATE_HIGH_US": repr(spec.gate_range_us[1]),
        "TEMPERATURE_C": repr(TEMPERATURE_C),
        "TOPOLOGY": f"0x{wiring.hash[:8]}u",
        "TOPOLOGY_HASH": f'"{wiring.hash}"',
        "DATA_SHEET_SIZE": f"{len(sheet)}u",
    }
    lines = [
        "/* Written by board_tables.py. */",
        "#ifndef BOARD_TABLES_H",
        "#define BOARD_TABLES_H",
        "#include <stdint.h>",
    ]
    lines += [f"#define {name} {value}" for name, value in numbers.items()]
    lines += [
        _array("int32_t", "SINES", sines),
        _array("uint16_t", "ROW_START", starts),
        _array("uint8_t", "SOURCE", wiring.source),
        _array("uint8_t", "DATA_SHEET", np.frombuffer(sheet, np.uint8)),
        "#endif",
    ]
    return "\n".join(lines) + "\n"


def _array(kind: str, name: str, values: np.ndarray) -> str:
    """Declared in every file, kept in one copy by the linker where it is used."""
    rows = [", ".join(str(int(v)) for v in values[at : at + 16]) for at in range(0, len(values), 16)]
    return (
        f"#ifdef DEFINE_TABLES\nconst {kind} {name}[{len(values)}] = {{\n"
        + ",\n".join(rows)
        + "\n};\n#else\n"
        f"extern const {kind} {name}[{len(values)}];\n#endif"
    )


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(header(SPEC), encoding="utf-8")
