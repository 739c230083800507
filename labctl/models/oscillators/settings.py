"""All that decides a generator of oscillators and its training, apart from the pictures and the seed."""

from __future__ import annotations

from typing import Annotated, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from labctl.devices.topology import Topology, grid
from labctl.models.training import TrainSettings
from labctl.physics.oscillators import Gradient

MIN_BITS, MAX_BITS = 1, 8
ObjectiveName = Literal["mmd", "sliced", "energy", "wgan"]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class GridShape(_Section):
    """A grid of visible oscillators, one a pixel, with hidden ones at cell centres.

    `radius`: Chebyshev distance up to which they hear each other, grid units. `hidden_share`: of the cell
    centres that hold a hidden oscillator.
    """

    radius: float = Field(default=2.0, ge=1)
    hidden_share: float = Field(default=0.0, ge=0, le=1)

    def wired(self, side: int) -> Topology:
        """The wiring for pictures of `side` pixels a side."""
        return grid(side, side, self.radius, self.hidden_share)


class OscillatorShape(GridShape):
    """A grid of oscillators, and its program's frame.

    `density`: share of the edges that may be programmed (the others
    are masked, by the seed). `segments` of `duration` / `segments` units each; `steps` of Heun's method over
    all of them. The largest coupling, injection (a, b), and second harmonic and detuning (l, w) are in units
    of 1/K_unit^-1; `noise` is the starting noise's amplitude before training, rad. `step_bound` limits
    step x max_i sum_j |K_ij|: beyond it a training learns the solver's error.
    """

    density: float = Field(default=1.0, gt=0, le=1)
    segments: int = Field(default=4, ge=1)
    duration: float = Field(default=3.0, gt=0)
    steps: int = Field(default=32, ge=1)
    coupling_limit: float = Field(default=1.5, gt=0)
    injection_limit: float = Field(default=3.0, gt=0)
    trim_limit: float = Field(default=1.0, gt=0)
    noise: float = Field(default=1.5, gt=0, lt=3.1)
    step_bound: float = Field(default=1.3, gt=0)

    @model_validator(mode="after")
    def _whole_steps(self) -> Self:
        if self.steps % self.segments:
            raise ValueError(f"steps {self.steps} must be a multiple of segments {self.segments}")
        return self

    @property
    def step(self) -> float:
        """Length of one step, units."""
        return self.duration / self.steps

    @property
    def row_limit(self) -> float:
        """The largest sum_j |K_ij| that the step bound allows, units."""
        return self.step_bound / self.step


class BoardErrors(_Section):
    """Standard deviations of what a board adds to a program; drawn anew for every batch of a training.

    `detuning` (units) per oscillator; `gain` (relative) and `offset` (units) per coupling; `diffusion` of the
    phases, rad^2 a unit.
    """

    detuning: float = Field(default=0.0, ge=0)
    gain: float = Field(default=0.0, ge=0)
    offset: float = Field(default=0.0, ge=0)
    diffusion: float = Field(default=0.0, ge=0)


class CriticSettings(_Section):
    """The critic of the adversarial objective: Gulrajani et al. 2017's values, `widths` ours."""

    widths: tuple[int, ...] = (128, 128)
    penalty: float = Field(default=10.0, ge=0)
    updates: int = Field(default=5, ge=1)
    learning_rate: float = Field(default=1e-4, gt=0)
    beta1: float = Field(default=0.0, ge=0, lt=1)
    beta2: float = Field(default=0.9, ge=0, lt=1)


class Descent(_Section):
    """Adam with a linear warm-up and half a cosine down, gradients cut to `clip_norm`.

    A step whose loss or gradient is not finite is skipped; more than `skips` in a row end the training.
    """

    iterations: int = Field(default=3000, ge=1)
    batch: int = Field(default=256, ge=2)
    learning_rate: float = Field(default=1e-2, gt=0)
    final_learning_rate: float = Field(default=1e-4, ge=0)
    warmup: int = Field(default=50, ge=0)
    clip_norm: float = Field(default=0.3, gt=0)
    beta1: float = Field(default=0.9, ge=0, lt=1)
    beta2: float = Field(default=0.99, gt=0, lt=1)
    skips: int = Field(default=20, ge=0)

    def schedule(self) -> TrainSettings:
        """The same learning rates as every other training's settings."""
        return TrainSettings(
            iterations=self.iterations,
            learning_rate=self.learning_rate,
            final_learning_rate=self.final_learning_rate,
            warmup=self.warmup,
        )


class GeneratorTraining(Descent):
    """How a generator trains.

    `batch` pictures are drawn against `data_batch` real ones (0: all of them). `widths` are those of the
    MMD's Gaussians in median distances of the data, `projections` those of the sliced distance.
    """

    objective: ObjectiveName = "mmd"
    data_batch: int = Field(default=256, ge=0)
    widths: tuple[Annotated[float, Field(gt=0)], ...] = Field(default=(0.25, 0.5, 1.0), min_length=1)
    projections: int = Field(default=128, ge=1)
    critic: CriticSettings = CriticSettings()
    errors: BoardErrors = BoardErrors()
    device: Literal["cpu", "cuda"] = "cpu"


Trained = TypeVar("Trained", bound=Descent)


class CodedTraining(_Section):
    """Which coded versions are made of the float generator, and how they train on (straight-through).

    Each begins at the float parameters; rounding comes in over the first `anneal_share` of the iterations.
    `errors` of the board meanwhile; None: those of the float training.
    """

    bits: tuple[Annotated[int, Field(ge=MIN_BITS, le=MAX_BITS)], ...] = (4,)
    iterations: int = Field(default=800, ge=1)
    learning_rate: float = Field(default=3e-3, gt=0)
    anneal_share: float = Field(default=0.3, ge=0, le=1)
    errors: BoardErrors | None = None

    def training(self, trained: Trained) -> Trained:
        """The settings of a coded version of a model that was trained with `trained`."""
        own: dict[str, object] = {"iterations": self.iterations, "learning_rate": self.learning_rate}
        if self.errors is not None and "errors" in type(trained).model_fields:
            own["errors"] = self.errors
        return type(trained).model_validate({**trained.model_dump(), **own})


class DiffuserShape(GridShape):
    """A diffusion chain of equilibria on a grid of oscillators.

    `couplings`: directed, symmetric (K_ij = K_ji), or
    none at all. `levels` equilibria take the noise from `sigma_max` to 0, uniformly in arctan sigma; each
    has its own parameters, or all `shared` ones and only anchors of its own. A level settles for `duration`
    units in `steps` of Heun's method. The anchors that carry the picture are at most `anchor_limit` strong,
    injections of the program at most `injection_limit` less that (hidden oscillators: `injection_limit`).
    `row_limit`: of max_i sum_j |K_ij|, units.
    """

    couplings: Literal["directed", "symmetric", "none"] = "directed"
    levels: int = Field(default=10, ge=2)
    shared: bool = False
    sigma_max: float = Field(default=12.0, gt=0, le=200)
    duration: float = Field(default=5.0, gt=0)
    steps: int = Field(default=32, ge=1)
    coupling_limit: float = Field(default=1.2, gt=0)
    row_limit: float = Field(default=8.0, gt=0)
    anchor_limit: float = Field(default=2.5, gt=0)
    injection_limit: float = Field(default=3.0, gt=0)

    @model_validator(mode="after")
    def _room_for_injection(self) -> Self:
        if self.anchor_limit >= self.injection_limit:
            raise ValueError(
                f"anchor_limit {self.anchor_limit} must be below injection_limit {self.injection_limit}: "
                "both go through one converter"
            )
        return self

    @property
    def segments(self) -> int:
        """Parameter sets of a program."""
        return 1 if self.shared else self.levels


class ChainTuning(Descent):
    """Further training through the whole chain at once, which lowers the MMD of what comes out of noise.

    `batch` pictures against all real ones; `widths` of the kernels in median distances of the data.
    """

    iterations: int = Field(default=1000, ge=0)
    learning_rate: float = Field(default=5e-3, gt=0)
    widths: tuple[Annotated[float, Field(gt=0)], ...] = Field(default=(0.1, 0.25, 0.5), min_length=1)


class DiffuserTraining(Descent):
    """How the levels of a chain train: each on pairs (x_t, alpha_s x0 + sigma_s eps) of its own.

    `iterations` are of one level. `gradient`: through the steps of settling, or of the state of rest; that
    of `tuning` too. `errors` are drawn anew for every batch, for all levels alike.
    """

    iterations: int = Field(default=600, ge=1)
    batch: int = Field(default=128, ge=2)
    learning_rate: float = Field(default=5e-3, gt=0)
    gradient: Gradient = "unrolled"
    errors: BoardErrors = BoardErrors(detuning=0.02)
    tuning: ChainTuning = ChainTuning()

    @model_validator(mode="after")
    def _no_phase_noise(self) -> Self:
        if self.errors.diffusion:
            raise ValueError(
                f"errors.diffusion is {self.errors.diffusion}; allowed: 0, a chain trains without phase noise"
            )
        return self

    @property
    def objective(self) -> str:
        """For the card."""
        return "paired, then mmd" if self.tuning.iterations else "paired"
