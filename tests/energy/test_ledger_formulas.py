"""Formulas against hand calculation, against the prototype's table, and in which way each constant acts."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labctl import load_protocol
from labctl.devices import ConfigError, ProgramError
from labctl.energy import (
    DigitalWork,
    OpticsWork,
    OscillatorWork,
    board_power_w,
    digital_account,
    optics_account,
    oscillator_account,
    shipped_constants,
    total,
    unit_time_s,
    units_of,
)

OWN = shipped_constants().values()
# The prototype's conventions: 1 GHz rings, eps 5%, no injection, no cost of initial phases.
PAGE = {**OWN, "f0_hz": 1e9, "eps": 0.05, "p_inj_w": 0.0, "e_init_j": 0.0}
SMALL = OscillatorWork(n=64, visible=64, cells=1092, bits=4, duration=3.0, segments=4, batch=256)
LIT = OpticsWork(n=48, settles=5, step_s=14.9e-6, upload_s=20e-3, batch=2000)


def page_work(n, visible, cells):
    """Sizes of the prototype's table: three node values of b bits, four segments loaded for every image."""
    return OscillatorWork(
        n=n, visible=visible, cells=cells, bits=4, duration=3.0, segments=4, node_values=3, node_bits=4
    )


# name: n, visible, directed cells; power mW, analog nJ, read-out nJ, reload nJ, as the prototype has them.
# Cells of the first two are those of a grid; of the extrapolated third the page gives none: they follow from
# its 331 mW, and reproduce its other figures.
TABLE = {
    "8x8": (64, 64, 1092, 9.0, 0.09, 0.06, 2.1),
    "14x14": (196, 196, 3900, 32, 0.30, 0.20, 7.2),
    "28x28 with hidden": (1176, 784, 42_297, 331, 3.2, 0.8, 73),
}


def grid_cells(side, radius, hidden=False):
    """Directed couplings of a grid (and of its cell centres) within a Chebyshev radius, one by one."""
    sites = [(i, j) for i in range(side) for j in range(side)]
    if hidden:
        sites += [(i + 0.5, j + 0.5) for i in range(side - 1) for j in range(side - 1)]
    return sum(max(abs(a - c), abs(b - d)) <= radius for a, b in sites for c, d in sites if (a, b) != (c, d))


@pytest.mark.parametrize(("side", "name"), [(8, "8x8"), (14, "14x14")])
def test_the_tables_cells_are_the_grids_directed_couplings(side, name) -> None:
    assert grid_cells(side, 2) == TABLE[name][2]


def test_the_shipped_rows_count_their_couplings() -> None:
    rows = {row.name: row for row in load_protocol("ledger_compare").recipe.oscillators}
    for name, side in (("8x8, radius 2", 8), ("14x14, radius 2", 14), ("28x28, radius 2", 28)):
        assert (rows[name].n, rows[name].cells) == (side**2, grid_cells(side, 2))
    chain = rows["8x8 chain, 10 steps"]
    assert (chain.n, chain.cells) == (64 + 49, grid_cells(8, 2, hidden=True))


@pytest.mark.parametrize("name", TABLE)
def test_the_prototypes_table_comes_out_by_its_conventions(name) -> None:
    n, visible, cells, power_mw, analog_nj, read_nj, reload_nj = TABLE[name]
    work = page_work(n, visible, cells)
    found = oscillator_account(work, PAGE).core_j
    power = board_power_w(work, PAGE)
    analog = found["oscillators"] + found["couplings"]
    assert total(power) * 1e3 == pytest.approx(power_mw, rel=0.015)
    assert analog * 1e9 == pytest.approx(analog_nj, rel=0.06)  # its second digit
    assert found["read-out"] * 1e9 == pytest.approx(read_nj, rel=0.07)
    assert found["reload"] * 1e9 == pytest.approx(reload_nj, rel=0.025)


@pytest.mark.parametrize(("split", "nj"), [(0.4, (0.12, 0.43, 4.6)), (0.8, (0.05, 0.17, 1.7))])
def test_the_tables_other_splits_of_the_chips_power_come_out_too(split, nj) -> None:
    node = 0.042 / 1968
    constants = {**PAGE, "p_osc_w": split * node, "p_unit_w": (1 - split) * node / 8}
    for (n, visible, cells, *_), wanted in zip(TABLE.values(), nj, strict=True):
        found = oscillator_account(page_work(n, visible, cells), constants).core_j
        # two digits are given; the extrapolated row's were rounded from figures we do not have
        assert (found["oscillators"] + found["couplings"]) * 1e9 == pytest.approx(wanted, rel=0.08)


def test_the_bench_board_of_the_prototype_takes_46_uj() -> None:
    """96 oscillators of 5 mW at 100 kHz, eps 5%, T = 3: about 0.5 W for 95 us; a tenth of eps: ten times."""
    board = {**PAGE, "f0_hz": 1e5, "p_osc_w": 5e-3}
    work = OscillatorWork(n=96, visible=96, cells=0, bits=4, duration=3.0)
    found = oscillator_account(work, board)
    assert found.latency_s["evolution"] == pytest.approx(95.5e-6, rel=1e-3)
    assert found.core_j["oscillators"] == pytest.approx(46e-6, rel=0.01)
    slower = oscillator_account(work, {**board, "eps": 0.005})
    assert slower.core_j["oscillators"] == pytest.approx(10 * found.core_j["oscillators"])


def test_where_our_conventions_change_the_table() -> None:
    """A cell for each direction is the table's own; node values of 8 bits, and one bit, are not."""
    ours = replace(page_work(64, 64, 1092), node_values=4, node_bits=8)
    assert ours.segment_bits == 1092 * 4 + 64 * 4 * 8 == 6416
    assert page_work(64, 64, 1092).segment_bits == (1092 + 3 * 64) * 4 == 5136
    both_ways, shared = (
        board_power_w(page_work(64, 64, cells), PAGE)["couplings"] for cells in (1092, 1092 // 2)
    )
    assert shared == pytest.approx(both_ways / 2), "a symmetric link that serves both ways would halve it"
    assert [units_of(bits) for bits in (1, 2, 3, 4, 8)] == [1, 1, 3, 7, 127]
    assert 2 ** (1 - 1) - 1 == 0, "the table's formula would give a cell of one bit no unit at all"


def test_the_default_board_takes_as_long_as_the_conventions_say() -> None:
    assert unit_time_s(OWN) * 3 == pytest.approx(1.9e-6, rel=0.01)


def test_an_oscillator_image_by_hand() -> None:
    work = OscillatorWork(
        n=10, visible=4, cells=20, bits=3, duration=2.0, segments=2, loads=1, reads=3, inits=2,
        anchor_writes=2, batch=5, node_values=4, node_bits=8, read_bits=6,
    )  # fmt: skip
    c = {
        **OWN, "f0_hz": 1e6, "eps": 0.01, "p_osc_w": 1e-3, "p_unit_w": 2e-5, "p_inj_w": 1e-4, "e_tdc_j": 1e-9,
        "e_bit_j": 1e-11, "e_init_j": 1e-10, "init_periods": 10.0, "read_periods": 2.0, "bus_bits_per_s": 1e6,
        "link_latency_s": 1e-3, "link_bytes_per_s": 1e4, "p_ref_w": 0.05, "p_host_w": 2.0,
        "supply_efficiency": 0.5,
    }  # fmt: skip
    found = oscillator_account(work, c)
    evolve_s = 2.0 / (2 * math.pi * 1e4)
    segment_bits = 20 * 3 + 10 * 4 * 8
    anchor_bits = 2 * 4 * 2 * 8
    assert found.core_j == pytest.approx(
        {
            "oscillators": evolve_s * 10e-3,
            "couplings": evolve_s * 20 * 3 * 2e-5,
            "injection": evolve_s * 1e-3,
            "reload": (segment_bits + anchor_bits) * 1e-11,
            "read-out": 3 * 4 * 1e-9,
            "initial phases": 2 * 10 * 1e-10,
            "programming": 2 * segment_bits * 1e-11 / 5,
        }
    )
    read_bits = 3 * 4 * 6
    cable_s = (2 / 5) * 1e-3 + (2 * segment_bits / 8 / 5 + read_bits / 8) / 1e4
    times = {
        "evolution": evolve_s,
        "reload": (segment_bits + anchor_bits) / 1e6,
        "initial phases": 2 * 10 * 1e-6,
        "read-out": 3 * 2e-6 + read_bits / 1e6,
        "programming and cable": cable_s,
    }
    assert found.latency_s == pytest.approx(times)
    awake_s = sum(times.values())
    board_w = 10e-3 + 20 * 3 * 2e-5 + 1e-3 + 0.05
    handled = sum(found.core_j[k] for k in ("reload", "read-out", "initial phases", "programming"))
    assert found.wall_j == pytest.approx(
        {"board": board_w * awake_s / 0.5, "memory, converters": handled / 0.5, "host": 2.0 * awake_s}
    )


def test_an_optical_image_by_hand() -> None:
    c = {
        **OWN, "p_led_w": 0.01, "p_slm_w": 4.0, "p_det_w": 0.02, "p_loop_w": 0.1, "e_dac_j": 1e-9,
        "e_adc_j": 2e-9, "p_host_w": 10.0, "supply_efficiency": 0.8, "link_latency_s": 1e-4,
        "link_bytes_per_s": 1e6,
    }  # fmt: skip
    found = optics_account(OpticsWork(n=48, settles=4, step_s=10e-6, upload_s=0.02, batch=100), c)
    loop_s = 40e-6
    assert found.core_j == pytest.approx(
        {
            "emitters": loop_s * 48 * 0.01,
            "panel": loop_s * 4.0,
            "detectors": loop_s * 2 * 48 * 0.02,
            "loop electronics": loop_s * 48 * 0.1,
            "converters": 4 * 48 * (1e-9 + 40 * 2e-9),
            "upload": 0.02 / 100 * 4.0,
        }
    )
    cable_s = 2 * 4 / 100 * 1e-4 + 4 * 48 * 24 / 1e6
    assert found.latency_s == pytest.approx({"settles": loop_s, "upload": 2e-4, "cable": cable_s})
    awake_s, power = loop_s + 2e-4 + cable_s, 0.48 + 4.0 + 1.92 + 4.8
    assert found.wall_j == pytest.approx(
        {"bench": power * awake_s / 0.8, "converters": 4 * 48 * 81e-9 / 0.8, "host": 10.0 * awake_s}
    )


def test_a_runs_own_cable_time_stands_for_the_modelled_one() -> None:
    found = optics_account(replace(LIT, cable_s=3e-3), OWN)
    assert found.latency_s["cable"] == 3e-3


def test_a_digital_image_by_hand() -> None:
    c = {**OWN, "p_cpu_w": 20.0, "p_cpu_rest_w": 5.0, "supply_efficiency": 0.5}
    found = digital_account(DigitalWork("a job", 1e-6), c)
    assert found.core_j == {"processor": pytest.approx(20e-6)}
    assert found.wall_total_j == pytest.approx(50e-6)
    metered = digital_account(DigitalWork("a job with a meter", 1e-3, watts=300.0), c)
    assert metered.core_total_j == metered.wall_total_j == pytest.approx(0.3)


def test_a_larger_batch_only_shares_out_more() -> None:
    one, many = (oscillator_account(replace(SMALL, batch=b), OWN) for b in (1, 1000))
    assert many.core_j["programming"] == pytest.approx(one.core_j["programming"] / 1000)
    assert many.latency_total_s < one.latency_total_s
    assert optics_account(replace(LIT, batch=1), OWN).core_j["upload"] == pytest.approx(20e-3 * 5.0)


def test_memory_of_its_own_for_every_segment_needs_no_reload() -> None:
    found = oscillator_account(replace(SMALL, loads=0), OWN)
    assert found.core_j["reload"] == 0
    assert found.latency_s["reload"] == 0
    assert found.core_j["programming"] > 0


CONSTANTS = shipped_constants()
FALLING = {"f0_hz", "eps", "bus_bits_per_s", "link_bytes_per_s", "supply_efficiency"}


def account_of(kind, values):
    if kind == "oscillators":
        return oscillator_account(SMALL, values)
    return (
        optics_account(LIT, values) if kind == "optics" else digital_account(DigitalWork("job", 1e-6), values)
    )


quantiles = st.floats(0.0, 1.0)


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(["oscillators", "optics", "digital"]),
    name=st.sampled_from(sorted(CONSTANTS.table)),
    us=st.lists(quantiles, min_size=len(CONSTANTS.table), max_size=len(CONSTANTS.table)),
    low=quantiles,
    high=quantiles,
)
def test_every_constant_acts_one_way_everywhere(kind, name, us, low, high) -> None:
    """Powers, energies and periods raise what they touch; rates and the supply's efficiency lower it."""
    low, high = sorted((low, high))
    values = {
        one: float(constant.at(np.array([u]))[0])
        for (one, constant), u in zip(CONSTANTS.table.items(), us, strict=True)
    }
    at = [{**values, name: float(CONSTANTS[name].at(np.array([u]))[0])} for u in (low, high)]
    first, last = (account_of(kind, one) for one in at)
    if name in FALLING:
        first, last = last, first
    for of in ("core_total_j", "wall_total_j", "latency_total_s"):
        assert getattr(first, of) <= getattr(last, of) * (1 + 1e-12)
    assert last.core_total_j <= last.wall_total_j * (1 + 1e-12), "the wall plug pays for the core"


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(2, 2000),
    degree=st.floats(0, 1),
    bits=st.integers(1, 8),
    duration=st.floats(0.1, 100),
    segments=st.integers(1, 16),
)
def test_more_of_anything_never_costs_less(n, degree, bits, duration, segments) -> None:
    work = OscillatorWork(
        n=n, visible=1, cells=int(degree * n * (n - 1)), bits=bits, duration=duration, segments=segments
    )
    cost = oscillator_account(work, OWN)
    for change in (
        {"n": n + 1},
        {"bits": bits + 1},
        {"duration": duration * 1.5},
        {"segments": segments + 1},
        {"reads": 2},
        {"anchor_writes": 3},
        {"visible": 2},
    ):
        more = oscillator_account(replace(work, **change), OWN)
        assert more.core_total_j >= cost.core_total_j
        assert more.wall_total_j >= cost.wall_total_j
        assert more.latency_total_s >= cost.latency_total_s


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"bits": 0}, "bits = 0: allowed: 1 to 16"),
        ({"bits": 40}, "bits = 40"),
        ({"visible": 0}, "visible = 0: allowed: 1 or more"),
        ({"visible": 65}, "n = 64: allowed: 65 or more"),
        ({"cells": 64 * 63 + 1}, "allowed: 0 to 4032"),
        ({"cells": -1}, "cells = -1"),
        ({"duration": 0.0}, "duration"),
        ({"duration": math.nan}, "duration"),
        ({"segments": 0}, "segments = 0"),
        ({"loads": -1}, "loads = -1"),
        ({"batch": 0}, "batch = 0"),
        ({"reads": -1}, "reads = -1"),
    ],
)
def test_programs_that_cannot_be_are_refused(change, said) -> None:
    with pytest.raises(ProgramError, match=said):
        replace(SMALL, **change)


@pytest.mark.parametrize(
    "change", [{"n": 0}, {"settles": 0}, {"batch": 0}, {"step_s": -1.0}, {"cable_s": math.nan}]
)
def test_optical_runs_that_cannot_be_are_refused(change) -> None:
    with pytest.raises(ProgramError, match=next(iter(change))):
        replace(LIT, **change)


@pytest.mark.parametrize("change", [{"seconds": 0.0}, {"seconds": math.inf}, {"watts": -1.0}])
def test_digital_jobs_that_cannot_be_are_refused(change) -> None:
    with pytest.raises(ConfigError, match=next(iter(change))):
        replace(DigitalWork("a job", 1e-6, 10.0), **change)
