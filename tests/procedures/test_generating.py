"""Pictures from a program on an oscillator board: what the file holds, what is refused, what is repeated."""

from __future__ import annotations

import numpy as np
import pytest

from labctl import load_protocol, open_rig, run
from labctl.devices import ConfigError, ProgramError
from labctl.models.oscillators.checkpoint import load_generator
from labctl.models.oscillators.settings import OscillatorShape
from labctl.procedures import Watcher
from labctl.runlog import OscillatorRecord, RunReader


def protocol(model, **settings):
    return load_protocol("generate_digits", {"model": str(model), "samples": 20, **settings})


def test_the_board_makes_what_its_program_says(generator_file, ideal_board, tmp_path) -> None:
    """An ideal board, read with its own bits, against the generator's own evolution from the same starts."""
    generator = load_generator(generator_file).generator
    seen: list[int] = []

    class Counting(Watcher):
        def settled(self, report) -> None:
            seen.append(report.index)

    result = run(protocol(generator_file), ideal_board, out=tmp_path, watcher=Counting())
    assert seen == [0, 1, 2, 3]
    with RunReader(result.file) as done:
        panel = done.panel()
        record = panel.program
        assert isinstance(record, OscillatorRecord)
        assert record.settings["program_sha256"] == generator.program.hash
        np.testing.assert_array_equal(record.coupling_codes, generator.program.coupling.codes)
        assert record.duration_us.sum() == pytest.approx(3.0 * ideal_board.oscillators.spec.unit_us)
        for step in range(panel.n_steps):
            pixels = (1 - np.cos(panel.state(step)[:, :64].astype(np.float64))) / 2
            np.testing.assert_allclose(panel.x(step), pixels, atol=1e-6)
        np.testing.assert_array_equal(panel.samples, panel.x(3))
        np.testing.assert_array_equal(panel.pictures.reshape(20, 64), np.rint(255 * panel.samples))
        assert panel.step_pictures.shape == (4, 10, 8, 8)
        assert panel.reference_pictures.shape == (100, 8, 8)
        ledger = panel.ledger
        per_sample = ledger.modelled_total_us() / 20
    assert result.panels[0].metrics["device_time_per_sample_us"] == pytest.approx(per_sample)
    assert result.panels[0].metrics["locked_share"] == 1
    core, wall = (result.panels[0].metrics[f"energy_{at}_j"] for at in ("core", "wall"))
    assert 0 < core < wall


def test_reading_at_the_end_alone_gives_the_same_pictures_sooner(generator_file, tmp_path) -> None:
    runs = {}
    for reads in ("segments", "end"):
        with open_rig("oscillator-ideal") as rig:
            runs[reads] = run(protocol(generator_file, reads=reads), rig, out=tmp_path).panels[0]
    np.testing.assert_array_equal(runs["end"].samples, runs["segments"].samples)
    assert [report.kind for report in runs["end"].settles] == ["program"]
    assert [report.kind for report in runs["segments"].settles] == ["segment"] * 4
    times = {reads: panel.metrics["device_time_per_sample_us"] for reads, panel in runs.items()}
    assert times["end"] < times["segments"]


def test_scores_need_as_many_pictures_as_have_a_floor(generator_file, ideal_board, tmp_path) -> None:
    few = run(protocol(generator_file), ideal_board, out=tmp_path).panels[0].metrics
    assert "frechet_star" not in few
    many = run(protocol(generator_file, samples=500), ideal_board, out=tmp_path).panels[0].metrics
    assert many["frechet_star"] > 1  # untrained: worse than a Gaussian of pixels


def test_noise_is_the_boards_own_and_scales(generator_file, tmp_path) -> None:
    states = {}
    for scale in (0.0, 1.0, 8.0):
        with open_rig("oscillator-unit") as rig:
            states[scale] = run(protocol(generator_file, noise_scale=scale), rig, out=tmp_path).samples
    near = np.abs(states[1.0] - states[0.0]).mean()
    far = np.abs(states[8.0] - states[0.0]).mean()
    assert 0 < near < far


def test_loop_recipes_are_refused_on_a_board(tmp_path) -> None:
    said = "needs a rig of law 'loop'; rig oscillator-twin is of law 'osc"
    with open_rig("oscillator-twin") as rig, pytest.raises(ConfigError, match=said):
        run(load_protocol("sample_moons"), rig, out=tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_board_of_another_wiring_is_refused(made_generator, ideal_board, tmp_path) -> None:
    other = made_generator(tmp_path / "other.safetensors", shape=OscillatorShape(radius=1))
    with pytest.raises(ProgramError, match="rig oscillator-ideal is grid, 64 oscillators, 1092 edges"):
        run(protocol(other), ideal_board, out=tmp_path / "runs")
