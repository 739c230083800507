"""The board twin: right without faults, and every fault what it says it is."""

from __future__ import annotations

from dataclasses import replace

import labctl_sim_devices.oscillator_board as twin_module
import numpy as np
import pytest
import torch
from labctl_sim_devices import (
    OSCILLATOR_TERMS,
    OscillatorBench,
    OscillatorBoardTwin,
    OscillatorTruth,
    draw_board,
    load_oscillator_profile,
    oscillator_profile_names,
)
from labctl_sim_devices.oscillator_integration import sines_into
from labctl_sim_devices.oscillator_profile import PROFILES

from labctl.devices import ConfigError, DeviceFault, DeviceValueError, RunCodes
from labctl.physics.oscillators import Edges, OscillatorLaw, evolve
from labctl.programs import board_image, code_program

START = np.random.default_rng(5).uniform(-np.pi, np.pi, (20, 64))


def board(profile="ideal", overrides=None, *, seed=0, noise_scale=0.0, **options):
    bench = OscillatorBench(
        load_oscillator_profile(profile, overrides or {}), seed=seed, noise_scale=noise_scale, **options
    )
    twin = OscillatorBoardTwin("board", bench)
    twin.open()
    return twin, bench


def program(topology, *, k=0.25, seed=0, segments=3, duration=1.0, **tables):
    rng = np.random.default_rng(seed)
    n = topology.n
    drawn = {
        "coupling": rng.normal(0, k, (segments, topology.n_edges)),
        "in_phase": rng.uniform(-1, 1, (segments, n)),
        "quadrature": rng.uniform(-1, 1, (segments, n)),
        "second": rng.uniform(-0.5, 0.5, (segments, n)),
        "detuning": rng.uniform(-0.5, 0.5, (segments, n)),
    }
    return code_program(topology, duration=duration, **{**drawn, **tables})[0]


def run(twin, coded, *, start=START, **options):
    twin.load(board_image(coded, twin.spec)[0])
    codes = RunCodes(np.arange(len(start)), start_phase=twin.spec.start_codes(start))
    return twin.spec.read_rad(twin.run(codes, **options).codes)


def apart(one, other):
    return np.abs(np.angle(np.exp(1j * (one - other))))


def silent(topology, **tables):
    """No coupling, no injection: only what the board does by itself."""
    zero = np.zeros((1, topology.n))
    return code_program(
        topology, coupling=np.zeros((1, topology.n_edges)), duration=2.0, in_phase=zero, **tables
    )[0]


def test_sines_are_those_of_libm():
    angle = np.random.default_rng(0).uniform(-5000, 5000, 100_000)
    s, c = np.empty_like(angle), np.empty_like(angle)
    sines_into(angle, s, c)
    assert np.abs(s - np.sin(angle)).max() < 1e-12
    assert np.abs(c - np.cos(angle)).max() < 1e-12


def test_the_ideal_board_is_the_law():
    twin, _ = board()
    coded = program(twin.spec.topology)
    phases = run(twin, coded)
    image, spec = board_image(coded, twin.spec)[0], twin.spec
    law = OscillatorLaw(
        torch.from_numpy(spec.coupling_units(image.coupling, image.scale)),
        *(torch.from_numpy(coded.node_values(t)) for t in ("in_phase", "quadrature", "second", "detuning")),
    )
    edges = Edges(spec.n, spec.topology.target, spec.topology.source)
    expected = evolve(
        edges, law, torch.from_numpy(START), duration=1.0, steps=200, method="rk4", backend="torch"
    ).numpy()
    assert apart(phases[:, 0], expected).max() < 5e-5
    assert np.sqrt((apart(phases[:, 0], expected) ** 2).mean()) < 2e-6


def test_finer_steps_change_nothing(monkeypatch):
    for k in (0.25, 0.5):
        twin, _ = board()
        coded = program(twin.spec.topology, k=k)
        usual = run(twin, coded)
        monkeypatch.setattr(twin_module, "MAX_STEP_RATE", 0.35 / 8)
        monkeypatch.setattr(twin_module, "MIN_STEPS_PER_UNIT", 80.0)
        assert apart(usual, run(twin, coded)).max() < 1e-4
        assert np.sqrt((apart(usual, run(twin, coded)) ** 2).mean()) < 1e-5
        monkeypatch.undo()


def test_reads_on_the_way_do_not_disturb():
    twin, _ = board()
    coded = program(twin.spec.topology)
    end_us = 3.0 * twin.spec.unit_us
    one = run(twin, coded)
    many = run(twin, coded, read_at_us=[0.2 * end_us, 0.5 * end_us, end_us])
    assert apart(many[:, -1], one[:, 0]).max() < 1e-5
    assert apart(many[:, 0], START).max() > 0.1


def test_anchors_add_to_the_programs_injection():
    twin, _ = board()
    topology = twin.spec.topology
    extra = np.random.default_rng(2).integers(-40, 40, (2, 20, 64))
    coded = program(topology)
    twin.load(board_image(coded, twin.spec)[0])
    start = twin.spec.start_codes(START)
    anchored = twin.run(RunCodes(np.arange(20), 0, None, extra[0], extra[1], start))
    units = coded.nodes.injection.units_per_code
    each = [
        run(
            twin,
            program(
                topology,
                in_phase=coded.node_values("in_phase") + extra[0][b] * units,
                quadrature=coded.node_values("quadrature") + extra[1][b] * units,
            ),
            start=START[b : b + 1],
        )
        for b in (0, 17)
    ]
    seen = twin.spec.read_rad(anchored.codes)[[0, 17]]
    assert apart(seen, np.concatenate(each)).max() < 1e-4


def test_free_phases_diffuse_as_they_should():
    twin, bench = board("ideal", {"diffusion_rad2_per_unit": 0.01}, noise_scale=1.0)
    phases = run(twin, silent(twin.spec.topology), start=np.zeros((100, 64)))
    assert phases.var() == pytest.approx(2 * 0.01 * 2.0, rel=0.05)
    bench.scale_noise(2.0)
    assert run(twin, silent(twin.spec.topology), start=np.zeros((100, 64))).var() == pytest.approx(
        4 * 2 * 0.01 * 2.0, rel=0.05
    )


@pytest.mark.parametrize(
    ("field", "value", "spread"),
    [
        ("start_jitter_rad", 0.03, lambda spec: 0.03),
        ("read_jitter_us", 1e-4, lambda spec: 2 * np.pi * spec.f0_hz * 1e-10),
    ],
)
def test_jitter_of_each_oscillator(field, value, spread):
    twin, _ = board("ideal", {field: value}, noise_scale=1.0)
    phases = run(twin, silent(twin.spec.topology), start=np.zeros((200, 64)))
    assert phases.std() == pytest.approx(spread(twin.spec), rel=0.05)
    assert abs(np.corrcoef(phases[:, 0, :2].T)[0, 1]) < 0.25


def test_the_references_jitter_is_common_to_all():
    twin, _ = board("ideal", {"reference_jitter_us": 1e-4}, noise_scale=1.0)
    phases = run(twin, silent(twin.spec.topology), start=np.zeros((200, 64)))
    np.testing.assert_allclose(phases, np.broadcast_to(phases[:, :, :1], phases.shape), atol=1e-5)
    assert phases[:, 0, 0].std() == pytest.approx(2 * np.pi * 5e-3, rel=0.2)


def test_the_sequencers_jitter_stretches_all_of_a_sample():
    detuned = np.full((1, 64), 0.5)
    twin, _ = board("ideal", {"segment_jitter_us": 0.05}, noise_scale=1.0)
    phases = run(twin, silent(twin.spec.topology, detuning=detuned), start=np.zeros((200, 64)))
    np.testing.assert_allclose(phases, np.broadcast_to(phases[:, :, :1], phases.shape), atol=1e-5)
    assert phases[:, 0, 0].std() == pytest.approx(0.5 * 0.05 / twin.spec.unit_us, rel=0.2)


def test_every_term_of_a_board_is_drawn_switched_and_scaled():
    profile = load_oscillator_profile("unit50")
    assert set(OSCILLATOR_TERMS) == set(type(profile.unit).model_fields)
    drawn = draw_board(profile, 3)
    for name, parameter in OscillatorTruth.parameters().items():
        assert parameter.term in OSCILLATOR_TERMS
        if name in ("listed", "detuning_walk"):  # on the line nobody looked; opt-in
            continue
        assert np.any(getattr(drawn, name) != parameter.absent), name
    off = drawn.with_terms(dict.fromkeys(OSCILLATOR_TERMS, 0.0))
    assert not off.has(*OSCILLATOR_TERMS)
    np.testing.assert_allclose(drawn.with_terms({"detuning": 2.0}).detuning, 2 * drawn.detuning)
    again, other = draw_board(profile, 3), draw_board(profile, 4)
    assert (again.lag_rad == drawn.lag_rad).all()
    assert (other.lag_rad != drawn.lag_rad).any()
    # leaving a term out changes no other
    without = profile.model_copy(update={"unit": profile.unit.model_copy(update={"detuning": None})})
    bare = draw_board(without, 3)
    assert (bare.coupling_gain == drawn.coupling_gain).all()
    assert not bare.has("detuning")


@pytest.mark.parametrize(
    "term", [t for t in OSCILLATOR_TERMS if t not in ("lock_loss", "dead_cells", "ageing")]
)
def test_each_term_alone_moves_phases_and_off_is_the_ideal(term):
    off = dict.fromkeys(OSCILLATOR_TERMS, 0.0)
    twin, bench = board("unit50", {"terms": off}, seed=2)
    coded = program(twin.spec.topology)
    bench.now_us = 1e9  # warmed up
    none = run(twin, coded)
    plain, _ = board("board50", {"unit": None})
    np.testing.assert_array_equal(none, run(plain, coded))
    bench.set_terms({term: 1.0})
    moved = apart(run(twin, coded), none)
    assert 1e-3 < np.sqrt((moved**2).mean()) < 1.0, term
    bench.set_terms({term: 0.0})
    np.testing.assert_array_equal(none, run(twin, coded))


def test_terms_that_are_none_are_refused():
    for scales, message in (({"moon": 1.0}, "no such term"), ({"detuning": 5.0}, "allowed: 0")):
        with pytest.raises(ConfigError, match=message):
            board("board50", {"terms": scales})


def test_the_law_of_a_board_is_made_of_its_terms():
    twin, bench = board("unit50", {"terms": {"temperature": 0.0}}, seed=1)
    coded = program(twin.spec.topology)
    image = board_image(coded, twin.spec)[0]
    twin.load(image)
    law, unit, spec = twin.law(), bench.unit, twin.spec
    share = image.coupling / 7
    scale = image.scale[:, None] * spec.scale_units_per_code
    asked = scale * (
        share * (1 + unit.coupling_gain)
        + unit.bow_even * (1 - share**2)
        + unit.bow_odd * share * (1 - share**2)
    )
    strength = np.where(unit.dead > 0, 0.0, asked + unit.coupling_offset)
    np.testing.assert_allclose(law.direct, strength * np.cos(unit.lag_rad))
    np.testing.assert_allclose(law.lagging, strength * np.sin(unit.lag_rad))
    load = np.abs(strength).sum(axis=1) / spec.n
    np.testing.assert_allclose(
        law.detuning, coded.node_values("detuning") + unit.detuning - unit.supply * load[:, None]
    )
    # an injection keeps its phase law: a cos theta - b sin theta, turned and stretched
    a, b = coded.node_values("in_phase")[0, 0], coded.node_values("quadrature")[0, 0]
    theta = 0.7
    turned = unit.injection_phase_rad[0]
    expected = (1 + unit.injection_gain[0]) * (a * np.cos(theta - turned) - b * np.sin(theta - turned))
    got = law.in_phase[0, 0] * np.cos(theta) - law.quadrature[0, 0] * np.sin(theta)
    assert got == pytest.approx(expected)


def test_a_lagging_pair_runs_away_together():
    """theta' = K sin(+-0 - lag): two that hear each other through a lag turn at -K sin(lag)."""
    truth = {"lag_rad": np.full(2, 0.3).tolist()}
    twin, _ = board("ideal", {"rows": 1, "columns": 2, "radius": 1.0, "truth": truth})
    coded, _ = code_program(twin.spec.topology, coupling=np.full((1, 2), 0.8), duration=2.0)
    phases = run(twin, coded, start=np.zeros((1, 2)))
    np.testing.assert_allclose(phases[0, 0], -0.8 * np.sin(0.3) * 2.0, atol=1e-4)


def test_dead_cells_pass_nothing_and_listed_ones_are_masked():
    share = {"unit": {"dead_cells": {"share": 0.1, "listed": 0.5}}}
    twin, bench = board("ideal", share, seed=1)
    spec = twin.spec
    assert (~spec.usable).sum() == round(0.5 * (bench.unit.dead > 0).sum())
    edge = int(np.flatnonzero(~spec.usable)[0])
    coupling = np.zeros((1, spec.topology.n_edges))
    coupling[0, edge] = 1.0
    coded, _ = code_program(spec.topology, coupling=coupling, duration=1.0)
    image = board_image(coded, board()[0].spec)[0]
    with pytest.raises(DeviceValueError, match=r"coupling is \d+ in segment 0 on edge \d+ .* masked or dead"):
        twin.load(image)
    unknown = int(np.flatnonzero(spec.usable & (bench.unit.dead > 0))[0])
    coupling[0] = 0.0
    coupling[0, unknown] = 1.0
    coded, _ = code_program(spec.topology, coupling=coupling, duration=1.0)
    assert apart(run(twin, coded)[:, 0], START).max() < 1e-5
    pair = (int(spec.topology.target[0]), int(spec.topology.source[0]))
    assert not board("ideal", {"masked_edges": [pair]})[0].spec.usable[0]


def test_lost_locks_and_overflows_are_told_apart():
    twin, _ = board("ideal", {"unit": {"lock_loss": {"probability": 0.3}}})
    coded = program(twin.spec.topology)
    twin.load(board_image(coded, twin.spec)[0])
    phases = twin.run(RunCodes(np.arange(400)))
    assert phases.locked.mean() == pytest.approx(0.7, abs=0.07)
    assert not phases.overflow.any()
    sound, _ = board()
    sound.load(board_image(coded, sound.spec)[0])
    clean = sound.run(RunCodes(np.arange(400)))
    assert clean.locked.all()
    np.testing.assert_array_equal(clean.codes[phases.locked], phases.codes[phases.locked])
    assert (clean.codes[~phases.locked] != phases.codes[~phases.locked]).any(axis=(1, 2)).all()
    slow, _ = board("ideal", {"lock_limit_units": 0.2, "max_turns": 1})
    fast = silent(slow.spec.topology, detuning=np.full((1, 64), 0.5))
    slow.load(board_image(fast, slow.spec)[0])
    assert not slow.run(RunCodes(np.arange(3))).locked.any()
    turning = code_program(
        slow.spec.topology, coupling=np.zeros((1, 1092)), duration=20.0, detuning=np.full((1, 64), 0.5)
    )[0]
    slow.load(board_image(turning, slow.spec)[0])
    assert slow.run(RunCodes(np.arange(3))).overflow.all()


def test_a_reference_in_the_array_reads_zero():
    twin, _ = board("ideal", {"reference": 5})
    phases = run(twin, program(twin.spec.topology))
    assert np.abs(phases[:, 0, 5]).max() < 1e-6
    beside = run(board()[0], program(twin.spec.topology))
    assert apart(phases, beside - beside[:, :, [5]]).max() < 1e-5


def test_warming_up_detunes():
    twin, bench = board("unit50", {"terms": {"detuning": 0.0}})
    gate_us = 2e4
    cold = twin.count_frequency(gate_us)
    bench.advance(3e9)
    warm = twin.count_frequency(gate_us)
    moved = (warm.hz - cold.hz) / (twin.spec.f0_hz * twin.spec.eps)
    assert twin.temperature_c() > 33
    assert moved.mean() == pytest.approx(0.01 * 10, abs=0.03)


def test_a_flipped_bit_is_a_fault_of_the_board():
    twin, _ = board()
    image = board_image(program(twin.spec.topology), twin.spec)[0]
    twin.flip_bit = True
    with pytest.raises(DeviceFault, match=f"memory has CRC-32 .*, sent was {image.crc}"):
        twin.load(image)
    assert twin.load(image).crc == image.crc


def test_phase_codes_are_as_coarse_as_the_converter():
    fine, coarse = board()[0], board("ideal", {"read_bits": 4})[0]
    coded = program(fine.spec.topology)
    off = apart(run(coarse, coded), run(fine, coded))
    assert off.max() <= np.pi / 16 + 1e-6
    assert off.std() + off.mean() > 0.05


@pytest.mark.parametrize("name", oscillator_profile_names())
def test_every_profile_gives_sources_for_every_number(name):
    document = PROFILES.document(name)
    assert set(document["values"]) == set(document["sources"])
    assert set(document["unit"]) == set(document["unit_sources"]) <= set(OSCILLATOR_TERMS)
    for source in (*document["sources"].values(), *document["unit_sources"].values()):
        assert source.startswith(("[P] ", "[A] ", "[D] ")), source
    profile = load_oscillator_profile(name)
    assert profile.eps == 0.005


def test_profiles_that_make_no_sense_are_refused():
    for overrides, message in (
        ({"rows": 0}, "rows"),
        ({"eps": 0.5}, "eps"),
        ({"topology": "ring"}, "topology"),
        ({"unit": {"detuning": {"mean": 0, "sd": -1}}}, "unit.detuning.sd"),
    ):
        with pytest.raises(ConfigError, match=message):
            load_oscillator_profile("board50", overrides)
    with pytest.raises(ConfigError, match="radius is -1"):
        board("board50", {"radius": -1.0})
    with pytest.raises(ConfigError, match=r"truth\.detuning has shape"):
        board("board50", {"truth": {"detuning": [1.0]}})
    with pytest.raises(ConfigError, match="profile 'board51' is not known"):
        load_oscillator_profile("board51")


def test_other_topologies_run():
    for overrides in (
        {"topology": "king", "rows": 3, "columns": 3},
        {"topology": "all-to-all", "rows": 1, "columns": 5},
        {"topology": "edges", "rows": 1, "columns": 3, "edges": [(0, 1), (2, 1)]},
        {"rows": 4, "columns": 4, "hidden_share": 0.5},
    ):
        twin, _ = board("board50", overrides, noise_scale=1.0)
        coded = program(twin.spec.topology)
        twin.load(board_image(coded, twin.spec)[0])
        assert twin.run(RunCodes(np.arange(17))).codes.shape == (17, 1, twin.spec.n)


def test_an_image_for_another_wiring_is_refused():
    twin, _ = board()
    image = board_image(program(twin.spec.topology), twin.spec)[0]
    with pytest.raises(DeviceValueError, match="topology 12345678; allowed: this board's, grid, 64"):
        twin.load(replace(image, topology_hash="12345678"))
