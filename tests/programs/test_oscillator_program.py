"""Oscillator programs: coded as asked, hashed by what they do, refused where they make no sense."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from labctl_sim_devices import OscillatorBench, OscillatorBoardTwin, load_oscillator_profile

from labctl.devices import Converter, ProgramError, grid, of_edges
from labctl.programs import NodeScales, board_image, code_program, pixels_of

TOPOLOGY = grid(3, 3, 1)
E, N = TOPOLOGY.n_edges, TOPOLOGY.n


def spec_of(profile="board50", **overrides):
    values = {"rows": 3, "columns": 3, "radius": 1.0, **overrides}
    return OscillatorBoardTwin("b", OscillatorBench(load_oscillator_profile(profile, values))).spec


def coded(segments=2, **options):
    rng = np.random.default_rng(0)
    given_tables = {"coupling": rng.normal(0, 0.5, (segments, E)), "duration": 1.0, **options}
    return code_program(TOPOLOGY, **given_tables)


@given(st.integers(1, 9), st.integers(0, 2**32), st.floats(1e-3, 3))
@settings(max_examples=40, deadline=None)
def test_couplings_are_within_half_a_code(bits, seed, size):
    weights = np.random.default_rng(seed).normal(0, size, (3, E))
    program, notes = coded(coupling=weights, bits=bits, beyond_averaging=True)
    assert not notes
    top = max(1, 2 ** (bits - 1) - 1)
    assert np.abs(program.coupling.codes).max() <= top
    back = program.coupling.weights()
    if bits == 1:
        assert (np.sign(back) == np.sign(weights)).all()
        np.testing.assert_allclose(program.coupling.scale, np.abs(weights).mean(axis=1))
    else:
        np.testing.assert_allclose(program.coupling.scale, np.abs(weights).max(axis=1))
        assert (np.abs(back - weights) <= 0.5001 * program.coupling.scale[:, None] / top).all()


def test_a_given_scale_clips_and_says_so():
    weights = np.zeros((1, E))
    weights[0, :3] = 2.0, -0.5, 1.04
    program, notes = coded(1, coupling=weights, scale=[1.0])
    assert program.coupling.codes[0, :3].tolist() == [7, -4, 7]
    assert [str(note) for note in notes] == ["coupling: asked 2, applied 1 units (1x)"]


def test_node_parameters_and_angles_are_coded():
    values = np.linspace(-3, 3, N)[None]
    program, _ = coded(
        1,
        in_phase=values,
        detuning=values / 3,
        start_rad=np.linspace(-7, 7, N),
        amplitude_rad=np.full(N, np.pi),
    )
    np.testing.assert_allclose(program.node_values("in_phase"), values, atol=3 / 127 / 2 + 1e-12)
    np.testing.assert_allclose(program.node_values("detuning"), values / 3, atol=1 / 127 / 2 + 1e-12)
    turned = program.start_rad - np.linspace(-7, 7, N)
    assert np.abs(np.angle(np.exp(1j * turned))).max() <= np.pi / 256 + 1e-9
    np.testing.assert_allclose(program.amplitude_rad, np.pi)
    assert (program.quadrature == 0).all()
    fine, _ = coded(1, in_phase=values, nodes=NodeScales(injection=Converter(12, 3.0)))
    np.testing.assert_allclose(fine.node_values("in_phase"), values, atol=3 / 2047 / 2 + 1e-12)


def test_size_of_a_program():
    program, _ = code_program(grid(8, 8, 2), coupling=np.full((4, 1092), 0.1), duration=0.75)
    assert program.n_bytes == (4 * (1092 * 4 + 64 * 32 + 64) + 64 * 16) // 8  # 3.4 kB


def test_the_hash_knows_all_that_the_program_does():
    program, _ = coded()
    changes = {
        "in_phase": program.in_phase + 1,
        "second": program.second - 1,
        "start_phase": program.start_phase + 1,
        "start_amplitude": program.start_amplitude + 1,
        "duration": program.duration * 1.001,
        "visible": program.visible[::-1],
        "pixel_map": "linear",
        "nodes": NodeScales(second=Converter(8, 2.0)),
    }
    hashes = {replace(program, **{name: value}).hash for name, value in changes.items()}
    assert len(hashes | {program.hash}) == len(changes) + 1
    assert coded()[0].hash == program.hash


def test_hidden_oscillators_are_not_read():
    topology = grid(3, 3, 1, hidden_share=1.0)
    program, _ = code_program(topology, coupling=np.zeros((1, topology.n_edges)), duration=1.0)
    assert program.visible.tolist() == list(range(9))
    assert program.n_visible == 9


def test_pixels():
    np.testing.assert_allclose(pixels_of("cosine", [0, np.pi / 2, np.pi, 3 * np.pi]), [0, 0.5, 1, 1])
    np.testing.assert_allclose(pixels_of("linear", [0.8, -0.4, 0.8 + 2 * np.pi]), [1, -0.5, 1])
    assert coded()[0].pixels(np.zeros((2, N))).shape == (2, N)
    with pytest.raises(ProgramError, match="pixel_map is 'tan'; allowed: cosine, linear"):
        pixels_of("tan", [0.0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"coupling": np.zeros((1, E + 1))}, f"coupling has shape (1, {E + 1}); allowed: (segments, {E})"),
        (
            {"coupling": np.full((1, E), np.nan)},
            "coupling is nan in segment 0 on edge 0 (1 to 0); allowed: finite",
        ),
        ({"coupling": np.full((1, E), np.inf), "scale": [1.0]}, "coupling is inf in segment 0"),
        ({"scale": [1.0]}, "scale is [1.]; allowed: 2 finite numbers"),
        ({"scale": [1.0, -1.0]}, "scale is [ 1. -1.]"),
        ({"bits": 0}, "bits = 0"),
        ({"duration": [1.0, 0.0]}, "duration is [1. 0.]"),
        ({"duration": float("nan")}, "duration is [nan nan]"),
        ({"in_phase": np.full((2, N), 3.2)}, "in_phase is 3.2; allowed: -3 to 3 units"),
        ({"second": np.full((2, N), -1.5)}, "second is -1.5; allowed: -1 to 1 units"),
        ({"quadrature": np.zeros((3, N))}, "quadrature has shape (3, 9); allowed: (2, 9)"),
        ({"detuning": np.full((2, N), np.nan)}, "detuning is nan"),
        ({"start_rad": np.zeros(3)}, "start_rad has shape (3,); allowed: 9 finite numbers"),
        ({"amplitude_rad": np.full(N, 3.5)}, "amplitude_rad is 3.5; allowed: 0 to pi rad"),
        ({"visible": [0, 9]}, "visible is 9 at (1,); allowed: 0 to 8"),
        ({"visible": [0, 0]}, "visible names an oscillator twice"),
        ({"pixel_map": "tan"}, "pixel_map is 'tan'; allowed: cosine, linear"),
    ],
)
def test_what_makes_no_sense_is_refused(options, message):
    with pytest.raises(ProgramError) as error:
        coded(**options)
    assert message in str(error.value)


def test_programs_beyond_the_averaged_law_are_refused_unless_told_otherwise():
    weights = np.zeros((2, E))
    weights[1, TOPOLOGY.target == 4] = 2.6  # eight neighbours: 20.8 units, 0.104 of omega0
    with pytest.raises(
        ProgramError, match=r"segment 1: couplings of oscillator 4 add up to 20\.8 units, 0\.1"
    ):
        coded(coupling=weights)
    coded(coupling=weights, eps=0.0045)
    program, _ = coded(coupling=weights, beyond_averaging=True)
    with pytest.raises(ProgramError, match="beyond_averaging"):
        board_image(program, spec_of())
    board_image(program, spec_of(), beyond_averaging=True)
    with pytest.raises(ProgramError, match=r"segment 1 lasts 0\.31 units, 9\.87 periods at eps 0\.005"):
        coded(duration=[1.0, 0.31])
    coded(duration=[1.0, 0.3142])
    coded(duration=[1.0, 0.31], beyond_averaging=True)


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 6, 8])
@pytest.mark.parametrize("profile", ["board50", "ideal"])
def test_a_boards_own_codes_mean_the_same(bits, profile):
    spec = spec_of(profile, coupling_bits=9)
    program, _ = coded(bits=bits, in_phase=np.full((2, N), 1.234), start_rad=np.linspace(0, 6, N))
    image, notes = board_image(program, spec)
    step = spec.scale_units_per_code
    np.testing.assert_allclose(
        spec.coupling_units(image.coupling, image.scale), program.coupling.weights(), atol=step
    )
    assert {note.field for note in notes} <= {"scale", "duration"}
    np.testing.assert_array_equal(image.in_phase, program.in_phase)
    np.testing.assert_allclose(spec.start_rad(image.start_phase), program.start_rad)
    np.testing.assert_allclose(image.ticks * spec.tick_us, program.duration * spec.unit_us, atol=spec.tick_us)


def test_other_converters_are_reported():
    spec = spec_of(injection_bits=4, start_bits=4, amplitude_bits=3)
    program, _ = coded(
        in_phase=np.full((2, N), 1.0), start_rad=np.full(N, 0.5), amplitude_rad=np.full(N, 1.0)
    )
    image, notes = board_image(program, spec)
    assert (image.in_phase == 2).all()
    assert {"in_phase", "start_phase", "start_amplitude"} <= {note.field for note in notes}
    assert abs(spec.start_rad(image.start_phase)[0] - 0.5) < np.pi / 16
    assert abs(spec.amplitude_rad(image.start_amplitude)[0] - 1.0) < np.pi / 14 + 0.01


@pytest.mark.parametrize(
    ("overrides", "program", "message"),
    [
        ({"radius": 2.0}, coded()[0], "wired as grid, 9 oscillators, 40 edges"),
        ({"depth": 1}, coded()[0], "has 2 segments; this board holds at most 1"),
        ({"coupling_bits": 3}, coded()[0], "couplings have 4 bits; this board allows 1 to 3"),
        ({"max_scale_units": 0.5}, coded()[0], "this board allows at most 0.5"),
        ({"max_ticks": 10}, coded()[0], "duration is 0.6366 us; this board allows 0.005 to 0.05 us"),
        ({"injection_units": 1.0}, coded(in_phase=np.full((2, N), 2.0))[0], "in_phase is 2.008; allowed: -1"),
        (
            {"masked_edges": [(0, 1)]},
            coded(coupling=np.full((2, E), 0.5))[0],
            "coupling is 7 in segment 0 on edge 0 (1 to 0), which is masked or dead",
        ),
    ],
)
def test_what_a_board_cannot_hold_is_refused(overrides, program, message):
    with pytest.raises(ProgramError) as error:
        board_image(program, spec_of(**overrides))
    assert message in str(error.value)


def test_nobody_hears_anybody():
    program, _ = code_program(of_edges(4, []), coupling=np.zeros((2, 0)), duration=1.0)
    assert program.pull() == (0.0, 0, 0)
    assert program.n_bytes > 0
