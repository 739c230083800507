"""Forecasts: the program twin rests where the network says, moves as another machine would, and covers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from labctl_calibration import forecast as forecasting
from labctl_calibration.forecast import BenchTwin, Task, energies_of, forecast
from labctl_calibration.frame_flicker import FrameFlicker
from labctl_calibration.kept_maps import KeptMaps
from labctl_calibration.operating import Known
from labctl_calibration.optical.twin_noise import TwinNoise
from labctl_calibration.program_twin import Machine, ProgramTwin

from labctl.devices import DataError
from labctl.models.checkpoint import load_network
from labctl.models.datasets import TOY_SETS
from labctl.models.metrics import energy_distance
from labctl.physics import FittedCurve, FittedMap
from labctl.programs import encode_tables
from labctl.rig import open_rig
from labctl.sampling import HostMachine, LoopMachine, Sampler, compile_program, scheme, sigmas, start_noise

N, SAMPLES = 48, 100
QUIET = TwinNoise(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, (), (), 15.0)


@pytest.fixture(scope="module")
def task() -> Task:
    """Moons' shipped codes on a machine by design."""
    network = load_network("moons-4bit")
    how = Sampler(scheme("implicit-midpoint"), sigmas("flow", 4, 10.0, 0.06))
    program = compile_program(network, how, N)
    with open_rig("optical-ideal") as rig:
        spec = rig.loop_spec
    assert spec is not None
    tables = tuple(encode_tables(one, program.matrix_of(one), spec) for one in program.segments)
    data = TOY_SETS["moons"].draw(SAMPLES, np.random.default_rng(0))[0]
    start = start_noise(np.arange(SAMPLES), 2, seed=0, sigma_max=10.0)
    return Task(network, program, tables, how, start, None, data, 0)


@pytest.fixture(scope="module")
def light(task) -> FittedMap:
    fractions = torch.from_numpy(task.program.weights.fractions)
    return FittedMap(fractions[None], FittedCurve.nominal(N), torch.zeros(N, dtype=torch.float64))


def sampled(task, twin):
    ids = np.arange(SAMPLES)
    machine = LoopMachine(twin, task.network, task.program, labels=None, sample_id=ids)
    return task.sampler.run(machine, task.x_start, sample_id=ids, seed=0)


def bench(light, size, noise=QUIET):
    """All first powers and offsets uncertain by `size`."""
    return BenchTwin(Known(light, np.repeat(size * np.eye(N + 1)[None], N, axis=0)), light, noise, 3.8)


def moved(light, size):
    rng = np.random.default_rng(4)
    return replace(light, powers=light.powers + size * torch.from_numpy(rng.standard_normal((1, N, N))))


def test_by_design_it_rests_where_the_network_does(task, light) -> None:
    """But for knobs in codes: gains in steps of about 2%, leaks of 8 bits."""
    twin = ProgramTwin(task.program, task.tables, Machine(light, light), 20.0)
    host = task.sampler.run(HostMachine(task.network), task.x_start, sample_id=np.arange(SAMPLES), seed=0)
    assert np.median(np.abs(sampled(task, twin) - host)) < 0.03


def test_chords_from_known_rests_find_those_of_another_machine(task, light) -> None:
    other = Machine(moved(light, 0.003), light)
    twin = ProgramTwin(task.program, task.tables, Machine(light, light), 20.0)
    known = sampled(task, twin)
    twin.become(other)
    near = sampled(task, twin)
    anew = sampled(task, ProgramTwin(task.program, task.tables, other, 20.0))
    assert np.median(np.abs(near - anew)) < 0.02 * np.median(np.abs(known - anew))


def test_noise_of_the_budget_is_in_the_states(task, light) -> None:
    twin = ProgramTwin(task.program, task.tables, Machine(light, light), 20.0)
    still = sampled(task, twin)
    for seed in (1, 2):
        twin.become(Machine(light, light, replace(QUIET, behind=0.002), seed))
        noisy = sampled(task, twin)
        assert 0.001 < np.median(np.abs(noisy - still)) < 0.05
        still = noisy  # the next draw is another


def test_a_bench_known_exactly_has_no_width_and_a_doubtful_one_has(task, light) -> None:
    exact = energies_of(task, bench(light, 0.0), draws=2, shown_anew=0.0)
    twin = ProgramTwin(task.program, task.tables, Machine(light, light), 3.8)
    assert exact == pytest.approx(energy_distance(sampled(task, twin), task.reference), abs=1e-5)
    doubtful = energies_of(task, bench(light, 0.004), draws=4)
    assert np.ptp(doubtful) > 1e-3
    assert np.array_equal(energies_of(task, bench(light, 0.004), draws=4), doubtful)


def test_the_interval_is_that_of_the_draws(task, light, monkeypatch) -> None:
    monkeypatch.setattr(forecasting, "energies_of", lambda *_, **__: np.arange(39.0))
    found = forecast(task, bench(light, 0.004))
    assert (found.low, found.middle, found.high) == pytest.approx((1.0, 19.0, 37.0))
    assert (found.draws, found.samples) == (39, SAMPLES)
    assert found.holds(1.5)
    assert not found.holds(37.5)


def test_a_machine_of_the_fitted_class_comes_out_within(task, light) -> None:
    """Of 12 machines drawn as uncertain as stated, by intervals of 90%: 8 or more but once in 400."""
    energies = energies_of(task, bench(light, 0.003), draws=19, wider=1.0, wider_sd=0.0, shown_anew=0.0)
    low, high = np.quantile(energies, [0.05, 0.95], method="weibull")
    rng = np.random.Generator(np.random.Philox(key=99))
    twin = ProgramTwin(task.program, task.tables, Machine(light, light), 3.8)
    sampled(task, twin)
    inside = 0
    for _ in range(12):
        twin.become(Machine(bench(light, 0.003).known.drawn(rng), light))
        inside += low <= energy_distance(sampled(task, twin), task.reference) <= high
    assert inside >= 8


def test_maps_are_kept_and_a_damaged_file_is_said(light, tmp_path) -> None:
    path = tmp_path / "kept.npz"
    flicker = FrameFlicker(np.array([460.0]), np.full((1, N), 0.01j))
    kept = KeptMaps(light, Known(moved(light, 0.1), np.repeat(np.eye(N + 1)[None], N, axis=0)), flicker)
    kept.write(path)
    again = KeptMaps.read(path)
    assert torch.equal(again.known.light.powers, kept.known.light.powers)
    assert torch.equal(again.probed.offset, light.offset)
    z = torch.linspace(-2, 2, N, dtype=torch.float64)[None]
    assert torch.equal(again.known.light(z), kept.known.light(z))
    np.testing.assert_array_equal(again.flicker.amplitude, flicker.amplitude)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match=r"kept\.npz: is damaged"):
        KeptMaps.read(path)
