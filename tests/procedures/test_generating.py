"""Pictures from a program on an oscillator board: what the file holds, what is refused, what is repeated."""

from __future__ import annotations

import numpy as np
import pytest

from labctl import load_protocol, open_rig, run
from labctl.devices import ConfigError, DeviceUnavailable, OscillatorBoard, ProgramError
from labctl.models.oscillators.checkpoint import describe_generator, load_generator, save_generator
from labctl.models.oscillators.generator import TrainableGenerator
from labctl.models.oscillators.scoring import PictureJudge
from labctl.models.oscillators.settings import OscillatorShape
from labctl.models.picture_data import picture_data
from labctl.procedures import Watcher, replay
from labctl.runlog import OscillatorRecord, RunReader


def made(path, *, bits: int | None = 4, shape: OscillatorShape | None = None):
    """An untrained generator of 8 x 8 pictures, saved."""
    model = TrainableGenerator(8, shape or OscillatorShape(), seed=1)
    if bits is not None:
        model.use_codes(bits)
    judge = PictureJudge.of("digits8_classifier", "digits8_reference")
    generator = model.finished()
    card = describe_generator(
        generator,
        path.stem,
        objective="mmd",
        dataset=picture_data("digits", 8).card(),
        classifier=judge.classifier_name,
        reference=judge.reference_name,
        seed=1,
        settings={},
        training_s=0,
        trained_on="nothing: untrained",
    )
    save_generator(generator, path, card)
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return made(tmp_path_factory.mktemp("model") / "untrained.safetensors")


@pytest.fixture
def rig():
    with open_rig("oscillator-ideal") as opened:
        yield opened


def protocol(model, **settings):
    return load_protocol("generate_digits", {"model": str(model), "samples": 20, **settings})


def test_the_board_makes_what_its_program_says(model, rig, tmp_path) -> None:
    """An ideal board, read with its own bits, against the generator's own evolution from the same starts."""
    generator = load_generator(model).generator
    seen: list[int] = []

    class Counting(Watcher):
        def settled(self, report) -> None:
            seen.append(report.index)

    result = run(protocol(model), rig, out=tmp_path, watcher=Counting())
    assert seen == [0, 1, 2, 3]
    with RunReader(result.file) as done:
        panel = done.panel()
        record = panel.program
        assert isinstance(record, OscillatorRecord)
        assert record.settings["program_sha256"] == generator.program.hash
        np.testing.assert_array_equal(record.coupling_codes, generator.program.coupling.codes)
        assert record.duration_us.sum() == pytest.approx(3.0 * rig.oscillators.spec.unit_us)
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


def test_reading_at_the_end_alone_gives_the_same_pictures_sooner(model, tmp_path) -> None:
    runs = {}
    for reads in ("segments", "end"):
        with open_rig("oscillator-ideal") as rig:
            runs[reads] = run(protocol(model, reads=reads), rig, out=tmp_path).panels[0]
    np.testing.assert_array_equal(runs["end"].samples, runs["segments"].samples)
    assert len(runs["end"].settles) == 1
    times = {reads: panel.metrics["device_time_per_sample_us"] for reads, panel in runs.items()}
    assert times["end"] < times["segments"]


def test_a_run_is_repeated_bit_by_bit(model, tmp_path) -> None:
    with open_rig("oscillator-unit") as rig:
        first = run(protocol(model), rig, out=tmp_path)
    again = replay(first.file, out=tmp_path)
    assert again.equal
    assert again.panels[0].steps == 4


def test_the_seed_chooses_the_starts(model, tmp_path) -> None:
    made = []
    for seed in (1, 2, 1):
        with open_rig("oscillator-twin") as rig:
            made.append(run(protocol(model, seed=seed), rig, out=tmp_path).samples)
    np.testing.assert_array_equal(made[0], made[2])
    assert np.abs(made[0] - made[1]).mean() > 0.05


def test_scores_need_as_many_pictures_as_have_a_floor(model, rig, tmp_path) -> None:
    few = run(protocol(model), rig, out=tmp_path).panels[0].metrics
    assert "frechet_star" not in few
    many = run(protocol(model, samples=500), rig, out=tmp_path).panels[0].metrics
    assert many["frechet_star"] > 1  # untrained: worse than a Gaussian of pixels


def test_noise_is_the_boards_own_and_scales(model, tmp_path) -> None:
    states = {}
    for scale in (0.0, 1.0, 8.0):
        with open_rig("oscillator-unit") as rig:
            states[scale] = run(protocol(model, noise_scale=scale), rig, out=tmp_path).samples
    near = np.abs(states[1.0] - states[0.0]).mean()
    far = np.abs(states[8.0] - states[0.0]).mean()
    assert 0 < near < far


@pytest.mark.parametrize(
    ("rig_name", "recipe", "said"),
    [
        (
            "optical-twin",
            "generate_digits",
            "needs a rig of law 'oscillator'; rig optical-twin is of law 'loop'",
        ),
        ("oscillator-twin", "sample_moons", "needs a rig of law 'loop'; rig oscillator-twin is of law 'osc"),
    ],
)
def test_recipes_and_rigs_of_another_law_are_told_apart(model, tmp_path, rig_name, recipe, said) -> None:
    settings = {"model": str(model)} if recipe == "generate_digits" else {}
    with open_rig(rig_name) as rig, pytest.raises(ConfigError, match=said):
        run(load_protocol(recipe, settings), rig, out=tmp_path)
    assert not list(tmp_path.iterdir())


def test_what_no_board_or_not_this_board_can_run_is_refused(rig, tmp_path) -> None:
    floats = made(tmp_path / "floats.safetensors", bits=None)
    with pytest.raises(ConfigError, match="couplings of floats; allowed: what it was trained for"):
        run(protocol(floats), rig, out=tmp_path / "runs")
    coded = made(tmp_path / "coded.safetensors")
    with pytest.raises(ConfigError, match=r"bits is 3, but .* has couplings of 4 bits"):
        run(protocol(coded, bits=3), rig, out=tmp_path / "runs")
    other = made(tmp_path / "other.safetensors", shape=OscillatorShape(radius=1))
    with pytest.raises(ProgramError, match="rig oscillator-ideal is grid, 64 oscillators, 1092 edges"):
        run(protocol(other), rig, out=tmp_path / "runs")
    with pytest.raises(ConfigError, match="neither a shipped generator nor a file"):
        run(protocol("digitz"), rig, out=tmp_path / "runs")


def test_a_board_that_goes_away_ends_the_run_whole(model, tmp_path, mocker) -> None:
    with open_rig("oscillator-ideal") as rig:
        board = rig.device(OscillatorBoard)
        mocker.patch.object(
            board, "_do_run", side_effect=DeviceUnavailable("gone", device="board", operation="run")
        )
        with pytest.raises(DeviceUnavailable, match="gone"):
            run(protocol(model), rig, out=tmp_path)
        assert rig.devices == {}
    (file,) = tmp_path.glob("*.nxs")
    with RunReader(file) as log:
        assert log.status == "failed"
        assert log.panel().n_steps == 0
