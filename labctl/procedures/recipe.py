"""Recipes: what to run, as flat data. A recipe file, `--set key=value`, then one validated model."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from labctl.config_files import first_problem, nearest, parse_toml, read_toml
from labctl.devices import ConfigError
from labctl.energy import constant_names
from labctl.procedures.ledger_recipe import LedgerRecipe
from labctl.sampling import CHAIN_RULES, CREDITED_SCHEMES, CREDITED_STEPS, DEFAULT_SWEEPS, SCHEMES, Ending

EngineName = Literal["optical-loop", "optical-host-loop", "digital"]


def _bits(value: object) -> object:
    if value == "float" or (isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 9):
        return value
    raise ValueError('allowed: 1 to 9, or "float"')


Bits = Annotated[int | Literal["float"], BeforeValidator(_bits)]


class SampleRecipe(BaseModel):
    """Generate samples: one network, one chain of diffusion steps.

    model: a zoo name or a checkpoint's path; with `data` (the user's own points: .npy, .npz, .csv) a network
    is trained on them first, `train_iterations` long. bits: weight codes of 1 to 9 bits, re-fitted, or
    "float". sweeps: a network of one hidden layer that is larger than the machine is cut into several
    machines in sequence; every step settles them in turn so many times over. sigma_min is where the chain
    ends. stepping: who forms the next injection, the host or the machine's own sequencer. ending: one final
    denoise, or what the last settle says of it (all a sequencer can do); "auto" takes the first where it
    can. tolerance: how far the window's halves may differ, relative to sigma. audit: samples whose settle
    time is measured at each step. second_starts: samples that are settled again from other starts at each
    step; where that ends elsewhere, they are marked multistable. noise_scale multiplies a twin's noise.
    noise_credit: measure what noise each settle leaves in the state, and let the sampler count it as its own:
    levels adapt, and steps that would end inside the noise are evaluations.
    reference: fresh data points that stand beside the samples. readout: states by the electronics' ADC, or
    from a camera's image of the light, exposed for exposure_us (0: as bright as is safe). inception: a file
    of the Inception network (see `labctl.models.inception`), for a true FID of pictures; "" for none.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["sample"] = "sample"
    title: str = Field(min_length=1)
    about: str = ""
    law: Literal["loop", "oscillator"] = "loop"
    engines: tuple[EngineName, ...] = ("optical-loop", "optical-host-loop", "digital")
    model: str = ""
    data: str = ""
    train_iterations: int = Field(default=4000, ge=1, le=200_000)
    samples: int = Field(default=2000, ge=1, le=1_000_000)
    steps: int = Field(default=4, ge=1, le=1000)
    scheme: str = "implicit-midpoint"
    schedule: Literal["flow", "edm", "log"] = "flow"
    sigma_max: float = Field(default=10.0, gt=0, le=200)
    sigma_min: float = Field(default=0.06, gt=0)
    eta: float = Field(default=0.0, ge=0, le=1)
    stepping: Literal["host", "chain"] = "host"
    ending: Literal["auto", "denoise", "last-settle"] = "auto"
    bits: Bits = 4
    weight_scale: Literal["row", "row-mse", "global"] = "row"
    sweeps: int = Field(default=DEFAULT_SWEEPS, ge=1, le=16)
    tolerance: float = Field(default=0.05, gt=0, le=1)
    noise_scale: float = Field(default=1.0, ge=0, le=100)
    audit: int = Field(default=64, ge=0, le=4096)
    readout: Literal["adc", "camera"] = "adc"
    exposure_us: float = Field(default=0.0, ge=0, le=1e9)
    noise_credit: bool = False
    second_starts: int = Field(default=0, ge=0, le=4096)
    reference: int = Field(default=4000, ge=2, le=100_000)
    inception: str = ""
    seed: int = Field(default=1, ge=0, le=2**31 - 1)

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if bool(self.model) == bool(self.data):
            raise ValueError("give one of model (a zoo name or checkpoint) and data (your own points)")
        if self.scheme not in SCHEMES:
            raise ValueError(
                f"scheme {self.scheme!r} is not known{nearest(self.scheme, SCHEMES)}; "
                f"allowed: {', '.join(SCHEMES)}"
            )
        if self.stepping == "chain" and self.ending == "denoise":
            raise ValueError("ending 'denoise' needs the host after the chain; allowed: auto, last-settle")
        if self.stepping == "chain" and self.scheme not in CHAIN_RULES:
            raise ValueError(
                f"scheme {self.scheme!r} needs the host between its steps; allowed with stepping 'chain': "
                f"{', '.join(CHAIN_RULES)}"
            )
        if self.readout == "camera" and self.stepping == "chain":
            raise ValueError('readout "camera" needs the host between settles; allowed: stepping "host"')
        if self.sigma_min >= self.sigma_max:
            raise ValueError(f"sigma_min {self.sigma_min} must be below sigma_max {self.sigma_max}")
        self._credit_makes_sense()
        return self

    def _credit_makes_sense(self) -> None:
        if not self.noise_credit:
            return
        if self.stepping == "chain":
            raise ValueError(
                "noise_credit needs the host's evaluations below the noise, a chain has none; "
                'allowed: stepping "host"'
            )
        if self.scheme not in CREDITED_SCHEMES:
            raise ValueError(
                f"noise_credit counts the noise of settles of one step, {self.scheme!r} has none such; "
                f"allowed: {', '.join(CREDITED_SCHEMES)}"
            )
        for key, allowed in (("eta", 0.0), ("readout", "adc")):
            if getattr(self, key) != allowed:
                raise ValueError(f"{key} is {getattr(self, key)!r}; allowed with noise_credit: {allowed!r}")
        if self.ending == "last-settle":
            raise ValueError(
                "ending 'last-settle' is read inside the noise; allowed with noise_credit: auto, denoise"
            )
        if self.steps < CREDITED_STEPS:
            raise ValueError(
                f"steps is {self.steps}; allowed with noise_credit: {CREDITED_STEPS} or more, with fewer the "
                "credit does not repay its evaluations"
            )

    @property
    def ends_with(self) -> Ending:
        """`ending`, decided."""
        if self.ending != "auto":
            return self.ending
        return "last-settle" if self.stepping == "chain" else "denoise"


_DESCRIBING = ("kind", "title", "about", "law", "engines", "rig")
# What a tour may replace in its parts: not what they are, nor where their seed comes from.
PART_KEYS = tuple(
    key for key in SampleRecipe.model_fields if key not in (*_DESCRIBING, "model", "data", "seed")
)


class Scan(BaseModel):
    """What every scan adds to the recipe that it runs once for each value; mixed into a recipe's class.

    scan and series name keys of the recipe; the table has a row per scan value and columns per series value.
    """

    scan: str
    values: tuple[float | int | str, ...] = Field(min_length=1)
    series: str = ""
    series_values: tuple[float | int | str, ...] = ()

    @classmethod
    def scan_keys(cls) -> tuple[str, ...]:
        """Keys of the recipe that may be scanned."""
        return tuple(key for key in cls.model_fields if key not in (*_DESCRIBING, *Scan.model_fields))

    @model_validator(mode="after")
    def _keys_exist(self) -> Self:
        for key in filter(None, (self.scan, self.series)):
            if key not in self.scan_keys():
                raise ValueError(f"{key!r} is no key to scan{nearest(key, self.scan_keys())}")
        if bool(self.series) != bool(self.series_values):
            raise ValueError("series and series_values go together")
        if not all(isinstance(v, int | float) for v in self.values):
            raise ValueError("values must be numbers; a word goes into series")
        for table in (self.values, self.series_values):
            for value in table:
                if table.count(value) > 1:
                    raise ValueError(f"{value!r} stands twice; allowed: each value once")
        return self


class ScanRecipe(Scan, SampleRecipe):
    """Run the chain once for each value of one key, and again for each value of `series`."""

    kind: Literal["scan"] = "scan"  # type: ignore[assignment]


class TourRecipe(BaseModel):
    """Several recipes into one file, one panel each.

    `overrides` replace keys in all of them (on the command line, --set with a key of the parts does that).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["tour"] = "tour"
    title: str = Field(min_length=1)
    about: str = ""
    law: Literal["loop", "oscillator"] = "loop"
    engines: tuple[EngineName, ...] = ("optical-loop", "optical-host-loop", "digital")
    recipes: tuple[str, ...] = Field(min_length=1)
    overrides: dict[str, Any] = Field(default_factory=dict)
    seed: int = Field(default=1, ge=0, le=2**31 - 1)

    @model_validator(mode="after")
    def _keys_exist(self) -> Self:
        for key in self.overrides:
            if key not in PART_KEYS:
                raise ValueError(f"overrides: {key!r} is no key of the parts{nearest(key, PART_KEYS)}")
        for name in self.recipes:
            if self.recipes.count(name) > 1:
                raise ValueError(f"recipes: {name!r} stands twice; allowed: each recipe once")
        return self


class GenerateRecipe(BaseModel):
    """Generate pictures with a program of an oscillator board: released from noisy phases, read as pixels.

    model: a zoo name, or a checkpoint's path; rig: where none is named with the run. bits: of its couplings,
    that it was trained with; with coding "rounded", its float couplings rounded to the nearest codes (one
    scale a segment, of least squared error), which nothing was trained with. segments: 0 takes the model as
    named; a number, the model of that name and number (MODEL2), trained with so many. reads: phases are read
    at the program's end alone, or at the end of every segment too (which takes its time). seed: of what a
    twin draws, starts and noise; a real board draws for itself. noise_scale multiplies a twin's noise,
    mismatch the detuning, coupling gain and coupling offset of its cells; board: which one of the twin's
    population, 0 the rig's own. beyond_averaging: run it although it breaks the limits of the phase-averaged
    law that it was trained with.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["generate"] = "generate"
    title: str = Field(min_length=1)
    about: str = ""
    law: Literal["oscillator"] = "oscillator"
    rig: str = ""
    model: str = Field(min_length=1)
    bits: int = Field(default=4, ge=1, le=8)
    coding: Literal["trained", "rounded"] = "trained"
    segments: int = Field(default=0, ge=0, le=64)
    samples: int = Field(default=1000, ge=1, le=1_000_000)
    reads: Literal["end", "segments"] = "segments"
    noise_scale: float = Field(default=1.0, ge=0, le=100)
    mismatch: float = Field(default=1.0, ge=0, le=4)
    board: int = Field(default=0, ge=0, le=2**31 - 1)
    beyond_averaging: bool = False
    seed: int = Field(default=1, ge=0, le=2**31 - 1)


class GenerateScanRecipe(Scan, GenerateRecipe):
    """Run the program once for each value of one key, and again for each value of `series`."""

    kind: Literal["generate-scan"] = "generate-scan"  # type: ignore[assignment]


class DiffuseRecipe(BaseModel):
    """Sample pictures by a chain of equilibria on an oscillator board: what a step settles at is the next x.

    model: a zoo name, or a checkpoint's path; bits: of its couplings. couplings: false plays the same anchors
    with every coupling at 0, as a control. controls: judge beside it what a linear (Wiener) denoiser makes of
    the same starts on the same levels, and what the anchors alone would. noise_scale, beyond_averaging: as
    of a recipe that generates. seed: of the noise that the chain starts from.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["diffuse"] = "diffuse"
    title: str = Field(min_length=1)
    about: str = ""
    law: Literal["oscillator"] = "oscillator"
    model: str = Field(min_length=1)
    bits: int = Field(default=4, ge=1, le=8)
    samples: int = Field(default=1000, ge=1, le=1_000_000)
    couplings: bool = True
    controls: bool = True
    noise_scale: float = Field(default=1.0, ge=0, le=100)
    beyond_averaging: bool = False
    seed: int = Field(default=1, ge=0, le=2**31 - 1)


LoopRecipe = SampleRecipe | ScanRecipe | TourRecipe
MachineRecipe = LoopRecipe | GenerateRecipe | GenerateScanRecipe | DiffuseRecipe  # what runs on a rig
AnyRecipe = MachineRecipe | LedgerRecipe
KINDS: dict[str, type[AnyRecipe]] = {
    "sample": SampleRecipe,
    "scan": ScanRecipe,
    "tour": TourRecipe,
    "generate": GenerateRecipe,
    "generate-scan": GenerateScanRecipe,
    "diffuse": DiffuseRecipe,
    "ledger": LedgerRecipe,
}


class Protocol(BaseModel):
    """A recipe with its name: what `run` takes."""

    model_config = ConfigDict(frozen=True)

    name: str
    recipe: AnyRecipe

    def as_json(self) -> str:
        """The resolved recipe, for the run log."""
        return json.dumps(self.recipe.model_dump(mode="json"), indent=1)


def _shipped() -> Any:
    return resources.files("labctl_recipes") / "recipes"


def protocol_names() -> list[str]:
    """Shipped recipes."""
    return sorted(f.name.removesuffix(".toml") for f in _shipped().iterdir() if f.name.endswith(".toml"))


def load_protocol(name_or_path: str | Path, settings: dict[str, Any] | None = None) -> Protocol:
    """A shipped recipe by name, or a recipe file, with `settings` (key -> value) put over it.

    Raises ConfigError naming file, key and value; an unknown key suggests the nearest.
    """
    text_name = str(name_or_path)
    path = Path(name_or_path)
    if text_name in protocol_names():
        text, where = (_shipped() / f"{text_name}.toml").read_text("utf-8"), f"recipe {text_name}"
    elif path.is_file():
        text, where, text_name = read_toml(path), str(path), path.stem
    else:
        raise ConfigError(
            f"protocol {text_name!r} is neither shipped nor a file{nearest(text_name, protocol_names())}; "
            f"shipped: {', '.join(protocol_names())}"
        )
    values = parse_toml(text, where)
    kind = values.get("kind", "sample")
    if kind not in KINDS:
        raise ConfigError(f"{where}: kind = {kind!r}{nearest(str(kind), KINDS)}; allowed: {', '.join(KINDS)}")
    values = _with_settings(values, KINDS[kind], settings or {}, where)
    try:
        return Protocol(name=text_name, recipe=KINDS[kind](**values))
    except ValidationError as error:
        raise first_problem(error, where, KINDS[kind]) from None


def _with_settings(
    values: dict[str, Any], model: type[AnyRecipe], settings: dict[str, Any], where: str
) -> dict[str, Any]:
    """Recipe values with the settings put over them; a tour passes on what belongs to its parts, a ledger
    what names one of its constants.
    """
    values = dict(values)
    known = [key for key in model.model_fields if key != "kind"]
    inner, passed_on = _passed_on(model)
    for key, value in settings.items():
        if key in (values.get("scan"), values.get("series")):
            table = "values" if key == values.get("scan") else "series_values"
            raise ConfigError(f"--set {key}: {where} scans {key}; allowed: --set {table}=[...]")
        if key in known:
            values[key] = value
        elif key in passed_on:
            values[inner] = {**values.get(inner, {}), key: value}
        else:
            near = nearest(key, [*known, *passed_on])
            hint = near or f"; allowed: {', '.join((*known, *passed_on))}"
            raise ConfigError(f"--set {key}: {where} has no such key{hint}")
    return values


def _passed_on(model: type[AnyRecipe]) -> tuple[str, tuple[str, ...]]:
    """The table of a recipe that takes settings of its own, and their names."""
    if model is TourRecipe:
        return "overrides", PART_KEYS
    return ("constants", constant_names()) if model is LedgerRecipe else ("", ())


def parse_setting(text: str) -> tuple[str, Any]:
    """ "key=value" as TOML would read the value; a bare word is a string."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--set {text!r}: allowed: key=value")
    try:
        return key.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key.strip(), value.strip()


def settings_of(texts: Iterable[str]) -> dict[str, Any]:
    """Several "key=value" at once; the last of a key counts."""
    return dict(parse_setting(text) for text in texts)
