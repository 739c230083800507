"""Training: it improves every objective, repeats bit by bit, and ends in one clear line when it diverges."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from labctl.devices.errors import ConfigError
from labctl.models.oscillators.controls import control, plain_shape
from labctl.models.oscillators.fitting import fit, fit_codes
from labctl.models.oscillators.generator import TrainableGenerator, program_of
from labctl.models.oscillators.pixel_model import PixelModel
from labctl.models.oscillators.settings import (
    BoardErrors,
    CodedTraining,
    CriticSettings,
    GeneratorTraining,
    OscillatorShape,
)
from labctl.models.pictures import Pictures
from labctl.models.training import Progress

SHAPE = OscillatorShape(radius=1, segments=2, steps=8, duration=2.0)
QUICK = GeneratorTraining(iterations=150, batch=48, data_batch=0, learning_rate=3e-2, warmup=5, clip_norm=1.0)


def _bars(count: int, seed: int) -> Pictures:
    """4 x 4 pictures of one bright row or column each."""
    rng = np.random.default_rng(seed)
    pictures = np.zeros((count, 4, 4), np.float32)
    for picture in pictures:
        view = picture if rng.random() < 0.5 else picture.T
        view[rng.integers(4)] = 0.7 + 0.3 * rng.random()
    return pictures


def _settings(objective: str) -> GeneratorTraining:
    own: dict[str, object] = {"objective": objective}
    if objective == "sliced":
        own |= {"data_batch": QUICK.batch, "projections": 32}
    return QUICK.model_copy(update=own)


@pytest.mark.parametrize(("objective", "factor"), [("mmd", 2), ("energy", 4), ("sliced", 3)])
def test_a_short_training_improves_its_objective(objective: str, factor: float) -> None:
    model = TrainableGenerator(4, SHAPE, seed=0)
    first = fit(model, _bars(256, 0), _settings(objective).model_copy(update={"iterations": 1}), seed=1)
    fitted = fit(TrainableGenerator(4, SHAPE, seed=0), _bars(256, 0), _settings(objective), seed=1)
    assert fitted.skipped == 0
    assert fitted.losses[-1] * factor < first.losses[0]


def test_a_critic_trains_a_generator_too() -> None:
    critic = CriticSettings(widths=(32,), updates=2, learning_rate=2e-3)
    settings = QUICK.model_copy(update={"objective": "wgan", "critic": critic, "learning_rate": 1e-2})
    real = _bars(256, 0)
    model = TrainableGenerator(4, SHAPE, seed=0)
    before = np.abs(model.finished().generate(400).mean(axis=0) - real.mean(axis=0)).mean()
    fitted = fit(model, real, settings, seed=1)
    after = np.abs(model.finished().generate(400).mean(axis=0) - real.mean(axis=0)).mean()
    assert math.isfinite(fitted.losses[-1])
    assert 3 * after < before


def test_equal_seeds_give_equal_bits_and_progress_is_told() -> None:
    events: list[Progress] = []
    errors = BoardErrors(detuning=0.1, gain=0.05, offset=0.02, diffusion=0.02)
    settings = QUICK.model_copy(update={"iterations": 60, "errors": errors})
    made = []
    for seed in (1, 1, 2):
        model = TrainableGenerator(4, SHAPE, seed=seed)
        fit(model, _bars(100, 0), settings, seed=seed, progress=events.append)
        made.append(model.finished().generate(3))
    np.testing.assert_array_equal(made[0], made[1])
    assert np.abs(made[0] - made[2]).max() > 1e-3
    assert [(e.done, e.total, e.stage) for e in events[:2]] == [(50, 60, "train"), (60, 60, "train")]


@pytest.mark.slow
def test_training_with_codes_recovers_what_rounding_cost() -> None:
    real = _bars(256, 0)
    settings = QUICK.model_copy(update={"iterations": 400})
    model = TrainableGenerator(4, SHAPE, seed=0)
    floats = fit(model, real, settings, seed=1).losses[-1]
    rounded = TrainableGenerator(4, SHAPE, seed=0)
    rounded.load_state_dict(model.state_dict())
    how = CodedTraining(bits=(1,), iterations=200, learning_rate=1e-2)
    still = how.model_copy(update={"iterations": 50, "learning_rate": 1e-12, "anneal_share": 0.0})
    kept = settings.model_copy(update={"final_learning_rate": 0.0})
    bare = fit_codes(rounded, real, 1, kept, still, seed=2).losses[-1]
    fitted = fit_codes(model, real, 1, settings, how, seed=2).losses[-1]
    assert floats < 0.95 * bare
    assert fitted < 0.5 * (floats + bare)
    assert abs(program_of(model.finished()).coupling.codes).max() == 1


class _Lost(PixelModel):
    """Gives NaN from one step on."""

    def __init__(self, step: int, until: int = 10**9) -> None:
        super().__init__()
        self.level = nn.Parameter(torch.zeros(16))
        self.step, self.until = step, until

    def pixels(self, count: int, draw: torch.Generator, errors: BoardErrors, step: int) -> Tensor:
        bad = math.nan if self.step <= step < self.until else 1.0
        return torch.sigmoid(self.level + 0.1 * torch.randn(count, 16, generator=draw)) * bad


@pytest.mark.parametrize("objective", ["mmd", "wgan"])
def test_nan_ends_in_one_line_that_names_the_step(objective: str) -> None:
    settings = QUICK.model_copy(update={"objective": objective, "skips": 3})
    with pytest.raises(ConfigError) as raised:
        fit(_Lost(10), _bars(64, 0), settings)
    said = str(raised.value)
    assert "train: step 13: " in said
    assert "not finite 4 steps in a row; lower train.learning_rate (0.03)" in said


def test_a_few_lost_steps_are_skipped_and_counted() -> None:
    model = _Lost(10, until=13)
    fitted = fit(model, _bars(64, 0), QUICK.model_copy(update={"skips": 3, "iterations": 40}))
    assert fitted.skipped == 3
    assert bool(torch.isfinite(model.level).all())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"data_batch": 1000}, r"train.data_batch: 1000 pictures a batch; allowed: 64, all there are"),
        ({"objective": "sliced"}, r"train.data_batch = 0: allowed: 48 \(as train.batch\)"),
        ({"objective": "wgan", "batch": 65}, "65 pictures a batch; allowed: 64"),
    ],
)
def test_batches_that_do_not_fit_are_refused(change: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        fit(TrainableGenerator(4, SHAPE), _bars(64, 0), QUICK.model_copy(update=change))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_device_that_is_not_here_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"train.device = 'cuda': no such device here; allowed: 'cpu'"):
        fit(TrainableGenerator(4, SHAPE), _bars(64, 0), QUICK.model_copy(update={"device": "cuda"}))


def test_controls_train_and_leave_alone_what_they_should() -> None:
    real = _bars(256, 0)
    frozen = control("frozen", 4, SHAPE, 0, seed=0)
    assert isinstance(frozen, TrainableGenerator)
    before = frozen.coupling.detach().clone(), frozen.phase.detach().clone()
    fit(frozen, real, QUICK.model_copy(update={"iterations": 20}))
    assert torch.equal(frozen.coupling, before[0])
    assert not torch.equal(frozen.phase, before[1])
    plain = control("plain", 4, SHAPE, 0)
    assert isinstance(plain, TrainableGenerator)
    assert plain.shape == plain_shape(SHAPE)
    assert (plain.shape.segments, plain.shape.hidden_share) == (1, 0.0)
    perceptron = control("perceptron", 4, SHAPE, 900, seed=0)
    assert not isinstance(perceptron, TrainableGenerator)
    assert 800 < perceptron.n_parameters <= 900
    first = fit(perceptron, real, QUICK.model_copy(update={"iterations": 1})).losses[0]
    assert 3 * fit(perceptron, real, QUICK).losses[-1] < first
    assert perceptron.generate(3).shape == (3, 4, 4)
    with pytest.raises(ConfigError, match="parameters: 5; allowed: 51 or more"):
        control("perceptron", 4, SHAPE, 5)
    with pytest.raises(ConfigError, match="control 'dull'; allowed: perceptron, frozen, plain"):
        control("dull", 4, SHAPE, 5)  # type: ignore[arg-type]
