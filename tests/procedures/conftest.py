"""For parts on an oscillator board: an ideal one, and untrained models that a run can name by their file."""

from __future__ import annotations

import pytest

from labctl import open_rig
from labctl.models.oscillators.chain_checkpoint import describe_chain, save_chain
from labctl.models.oscillators.checkpoint import describe_generator, save_generator
from labctl.models.oscillators.diffuser import TrainableDiffuser
from labctl.models.oscillators.generator import TrainableGenerator
from labctl.models.oscillators.scoring import PictureJudge
from labctl.models.oscillators.settings import DiffuserShape, OscillatorShape
from labctl.models.picture_data import picture_data

CHAIN_LEVELS = 3


def _saved(path, model, bits, describe, save, **card):
    """The path of a model with codes of `bits` bits, or of floats; `card`: fields that it is to say."""
    if bits is not None:
        model.use_codes(bits)
    judge = PictureJudge.of("digits8_classifier", "digits8_reference")
    made = model.finished()
    said = {
        "objective": "mmd",
        "dataset": picture_data("digits", 8).card(),
        "classifier": judge.classifier_name,
        "reference": judge.reference_name,
        "seed": 1,
        "settings": {},
        "training_s": 0,
        "trained_on": "nothing: untrained",
    }
    save(made, path, describe(made, path.stem, **{**said, **card}))
    return path


@pytest.fixture(scope="session")
def made_generator():
    """made_generator(path, bits=4, shape=None, **card): a generator of 8 x 8 pictures, untrained, saved."""

    def made(path, *, bits: int | None = 4, shape: OscillatorShape | None = None, **card):
        model = TrainableGenerator(8, shape or OscillatorShape(), seed=1)
        return _saved(path, model, bits, describe_generator, save_generator, **card)

    return made


@pytest.fixture(scope="session")
def made_chain():
    """made_chain(path, bits=4, side=8, shape={}, **card): a chain, untrained, saved; strong couplings, so
    that they do something.
    """

    def made(path, *, bits: int | None = 4, side: int = 8, shape=None, **card):
        found = DiffuserShape(**{"levels": CHAIN_LEVELS, "row_limit": 2.0, **(shape or {})})
        model = TrainableDiffuser(side, found, seed=1)
        return _saved(path, model, bits, describe_chain, save_chain, **{"objective": "paired", **card})

    return made


@pytest.fixture(scope="session")
def generator_file(made_generator, tmp_path_factory):
    return made_generator(tmp_path_factory.mktemp("generator") / "untrained.safetensors")


@pytest.fixture(scope="session")
def chain_file(made_chain, tmp_path_factory):
    return made_chain(tmp_path_factory.mktemp("chain") / "untrained.safetensors")


@pytest.fixture
def ideal_board():
    with open_rig("oscillator-ideal") as opened:
        yield opened
