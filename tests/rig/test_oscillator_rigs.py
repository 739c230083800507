"""Rigs of oscillator boards: opened, checked, refused where they make no sense."""

from __future__ import annotations

import numpy as np
import pytest
from labctl_sim_devices import OscillatorBench

from labctl.devices import ConfigError, OscillatorBoard, Outcome
from labctl.engines import OscillatorEngine
from labctl.programs import code_program
from labctl.rig import RigConfig, check_rig, load_rig, open_rig, rig_names

RIGS = [name for name in rig_names() if name.startswith("oscillator")]


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name == "oscillator-28" else []) for name in RIGS]
)
def test_every_shipped_board_opens_checks_and_runs(name: str) -> None:
    findings = list(check_rig(load_rig(name)))
    assert all(finding.ok for finding in findings), findings
    assert [f.test for f in findings] == ["identity", "health", "memory", "frequencies", "anchors"]
    assert "simulated" in findings[0].found
    with open_rig(name) as rig:
        assert rig.simulated
        engine = rig.oscillators
        assert isinstance(engine, OscillatorEngine)
        topology = engine.spec.topology
        weights = np.random.default_rng(0).normal(0, 0.2, (4, topology.n_edges))
        engine.load(code_program(topology, coupling=weights, duration=0.75)[0])
        result = engine.run(np.arange(10))
        assert (result.outcome == Outcome.TIME_ELAPSED).mean() >= 0.9  # one board loses a run in a thousand
        assert rig.device(OscillatorBoard).is_open
        assert dict(rig.snapshot()["board"])["oscillator_count"] == topology.n
        with pytest.raises(ConfigError, match=r"of law 'oscillator': use rig\.oscillators"):
            _ = rig.engine
    with pytest.raises(ConfigError, match="not open"):
        _ = rig.oscillators


def test_a_bench_board_says_that_it_takes_milliseconds() -> None:
    with open_rig("oscillator-bench-100khz") as rig:
        spec = rig.oscillators.spec
        assert 3 * spec.unit_us == pytest.approx(955, abs=1)
    with open_rig("oscillator-twin") as rig:
        assert 3 * rig.oscillators.spec.unit_us == pytest.approx(1.91, abs=0.01)


def test_size_and_faults_are_a_rig_files_to_change() -> None:
    config = load_rig("oscillator-twin")
    world = config.world
    assert world is not None
    changed = world.model_copy(
        update={"overrides": {"rows": 14, "columns": 14}, "terms": {"detuning": 0.0}, "noise_scale": 0.5}
    )
    with open_rig(config.model_copy(update={"world": changed})) as rig:
        assert rig.oscillators.spec.n == 196
        assert isinstance(rig.world, OscillatorBench)
        assert not rig.world.unit.has("detuning")
        assert rig.world.noise.diffusion == pytest.approx(0.25e-3)
        rig.set_noise_scale(0.0)
        assert rig.world.noise.diffusion == 0.0
    wrong = world.model_copy(update={"overrides": {"rows": 14, "colums": 14}})
    with pytest.raises(ConfigError, match=r"rig oscillator-twin: world: profile board50: colums"):
        open_rig(config.model_copy(update={"world": wrong}))


def test_an_optical_rig_has_no_oscillators() -> None:
    with open_rig("digital") as rig, pytest.raises(ConfigError, match=r"of law 'loop': use rig\.engine"):
        _ = rig.oscillators


def test_a_board_far_off_fails_its_check() -> None:
    rig = load_rig("oscillator-unit")
    world = rig.world
    assert world is not None
    # a detuning that the trim cannot take back, and a skew that no read survives
    terms = {
        "unit": {"detuning": {"mean": 0.0, "sd": 0.6}, "read_path": {"skew_sd_rad": 0.5, "bow_sd_rad": 0}}
    }
    ill = rig.model_copy(update={"world": world.model_copy(update={"overrides": terms})})
    found = {finding.test: finding for finding in check_rig(ill)}
    assert found["memory"].ok
    assert "the trim's range" in found["frequencies"].found
    assert not found["frequencies"].ok
    assert not found["anchors"].ok
    assert "rad; allowed: 0.5" in found["anchors"].found


def test_files_that_mix_the_laws_are_refused() -> None:
    board = {"name": "board", "driver": "twin.oscillator-board"}
    world = {"kind": "oscillator-bench", "profile": "board50"}
    good = {"name": "r", "about": "", "law": "oscillator", "engine": "oscillator", "world": world}
    RigConfig(**good, device=[board])
    for wrong, message in (
        ({**good, "law": "loop", "device": [board]}, 'law is "loop" with engine oscillator'),
        ({**good, "device": []}, "engine oscillator has 0 devices for board"),
        ({**good, "device": [board, {**board, "name": "b"}]}, "has 2 devices for board"),
        (
            {**good, "world": {"kind": "optical-bench", "profile": "adm"}, "device": [board]},
            "needs a [world] of kind oscillator-bench",
        ),
        ({**good, "law": "oscillator", "engine": "digital"}, 'law is "oscillator" with engine digital'),
    ):
        with pytest.raises(ValueError, match="validation error") as error:
            RigConfig(**wrong)
        assert message in str(error.value)


def test_a_profile_file_becomes_overrides(tmp_path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "mine.toml").write_text(
        'name = "mine"\ndated = "2026-11-22"\nbase = "board50"\n[values]\nrows = 4\ncolumns = 5\n'
    )
    (tmp_path / "rig.toml").write_text(
        'name = "mine"\nabout = "a board of my own"\nlaw = "oscillator"\nengine = "oscillator"\n'
        '[world]\nkind = "oscillator-bench"\nprofile = "mine.toml"\n'
        '[[device]]\nname = "board"\ndriver = "twin.oscillator-board"\n'
    )
    config = load_rig(tmp_path / "rig.toml")
    assert config.world is not None
    assert config.world.profile == "board50"
    assert config.world.overrides["columns"] == 5
    with open_rig(config) as rig:
        assert rig.oscillators.spec.n == 20
