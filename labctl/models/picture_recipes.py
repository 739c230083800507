"""Training recipes on pictures: `kind` says what is made.

An autoencoder, a classifier, a reference, a denoiser in latents, a generator or a chain of oscillators, or
what stands beside a generator.

What they say; `picture_making` does it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from labctl.config_files import first_problem
from labctl.devices.errors import ConfigError
from labctl.models.autoencoder import AutoencoderSettings
from labctl.models.classifier import ClassifierSettings
from labctl.models.making import QuantiseSection
from labctl.models.oscillators.settings import (
    CodedTraining,
    Descent,
    DiffuserShape,
    DiffuserTraining,
    GeneratorTraining,
    OscillatorShape,
)
from labctl.models.training import TrainSettings

DATA_SET: Final = "fashion-mnist"
AUTOENCODER: Final = "fashion_autoencoder"
CLASSIFIER: Final = "fashion_classifier"


class _Recipe(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    description: str = ""
    seed: int = Field(default=0, ge=0)
    data_set: str = DATA_SET


class SizedRecipe(_Recipe):
    """A recipe on pictures of `side` pixels a side: 28, 14 (means of 2 x 2), or 8 for the set "digits"."""

    side: Literal[8, 14, 28] = 28


class AutoencoderRecipe(_Recipe):
    """`labctl train fashion_autoencoder`.

    `critic` is the classifier (a shipped name or a path) of the perceptual term, "" for none.
    """

    kind: Literal["autoencoder"]
    critic: str = ""
    train: AutoencoderSettings = AutoencoderSettings()


class ClassifierRecipe(SizedRecipe):
    """`labctl train fashion_classifier`."""

    kind: Literal["classifier"]
    train: ClassifierSettings = ClassifierSettings()


class ReferenceRecipe(SizedRecipe):
    """`labctl train fashion_reference`: what FD* needs of the data set, for these two nets.

    Without an autoencoder ("") the Gaussian is one of the training pixels, not one of latents.
    """

    kind: Literal["picture-reference"]
    autoencoder: str = AUTOENCODER
    classifier: str = CLASSIFIER


class DenoiserRecipe(_Recipe):
    """`labctl train fashion`: a class-conditional denoiser in the latents of `autoencoder`.

    `autoencoder`, `classifier` and `reference` ("" for none) are shipped names or paths; `samples` pictures
    are judged for the card.
    """

    kind: Literal["latent-denoiser"]
    autoencoder: str = AUTOENCODER
    classifier: str = CLASSIFIER
    reference: str = ""
    samples: int = Field(default=20_000, ge=0)
    train: TrainSettings = TrainSettings(hidden=(36,))
    quantise: QuantiseSection = QuantiseSection()


class JudgedRecipe(SizedRecipe):
    """A recipe of something made of oscillators: floats, and coded versions of them.

    `why` says on the card why the objective was chosen; `classifier` and `reference` judge what comes out.
    """

    why: str = ""
    classifier: str
    reference: str
    train: Descent
    coded: CodedTraining = CodedTraining()


class OscillatorRecipe(JudgedRecipe):
    """`labctl train digits8_oscillators`: a generator of coupled oscillators, one a pixel.

    `start`: a
    float generator, by name or path, of the same shape and data: only codes are trained, from its parameters.
    """

    kind: Literal["oscillator-generator"]
    start: str = ""
    shape: OscillatorShape = OscillatorShape()
    train: GeneratorTraining = GeneratorTraining()


class ControlsRecipe(SizedRecipe):
    """`labctl train digits8_controls`: what stands beside `generator`, a coded one by name or path.

    Its card says the shape, the training and the judge; they share them.
    """

    kind: Literal["generator-controls"]
    generator: str


class ChainRecipe(JudgedRecipe):
    """`labctl train digits8_chain`: a diffusion chain whose steps are equilibria of oscillators."""

    kind: Literal["oscillator-chain"]
    shape: DiffuserShape = DiffuserShape()
    train: DiffuserTraining = DiffuserTraining()

    @model_validator(mode="after")
    def _codes_train_alike(self) -> Self:
        self.coded.training(self.train)  # refuses errors of the board that a chain cannot train with
        return self


PictureRecipe = (
    AutoencoderRecipe
    | ClassifierRecipe
    | ReferenceRecipe
    | DenoiserRecipe
    | OscillatorRecipe
    | ControlsRecipe
    | ChainRecipe
)

_FORMS: dict[str, type[PictureRecipe]] = {
    "autoencoder": AutoencoderRecipe,
    "classifier": ClassifierRecipe,
    "picture-reference": ReferenceRecipe,
    "latent-denoiser": DenoiserRecipe,
    "oscillator-generator": OscillatorRecipe,
    "generator-controls": ControlsRecipe,
    "oscillator-chain": ChainRecipe,
}
KINDS = tuple(_FORMS)


def parse_picture_recipe(content: Mapping[str, Any], where: str = "recipe") -> PictureRecipe:
    """A recipe from its TOML content. Raises ConfigError naming `where`, the field and what is allowed."""
    form = _FORMS.get(str(content.get("kind")))
    if form is None:
        raise ConfigError(f"{where}: kind {content.get('kind')!r}; allowed: {', '.join(KINDS)}")
    try:
        return form.model_validate(content)
    except ValidationError as error:
        raise first_problem(error, where, form) from None
