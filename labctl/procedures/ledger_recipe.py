"""The recipe of an energy ledger: which machines and programs, by numbers, and which constants to set."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from labctl.devices import UserError
from labctl.energy import Constants, DigitalWork, OpticsWork, OscillatorWork, shipped_constants

Settings = dict[str, float | tuple[float, float]]


class _Row(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1)


class OscillatorRow(_Row):
    """A program of an oscillator board by numbers; fields as in `labctl.energy.OscillatorWork`.

    constants: what this board has other than the shipped ones, name -> value or [low, high].
    """

    n: int = Field(ge=1)
    visible: int = Field(ge=1)
    cells: int = Field(ge=0)
    bits: int = Field(ge=1, le=16)
    segments: int = Field(default=1, ge=1)
    duration: float = Field(gt=0)
    loads: int | None = Field(default=None, ge=0)
    node_values: int = Field(default=4, ge=0)
    node_bits: int = Field(default=8, ge=1, le=16)
    reads: int = Field(default=1, ge=0)
    read_bits: int = Field(default=8, ge=1, le=16)
    inits: int = Field(default=1, ge=0)
    anchor_writes: int = Field(default=0, ge=0)
    constants: Settings = Field(default_factory=dict)

    def work(self, batch: int) -> OscillatorWork:
        """The program's numbers; raises ProgramError where no program has them."""
        return OscillatorWork(**self.model_dump(exclude={"name", "constants"}), batch=batch)

    @property
    def parameters(self) -> int:
        """What training may set: couplings and node values of every segment, initial phases and noises."""
        return self.segments * (self.cells + self.node_values * self.n) + 2 * self.n


class OpticsRow(_Row):
    """A run of the optical loop by numbers; upload_us is of the batch."""

    n: int = Field(ge=1)
    settles: int = Field(ge=1)
    step_us: float = Field(gt=0)
    upload_us: float = Field(default=0.0, ge=0)
    batch: int = Field(ge=1)
    constants: Settings = Field(default_factory=dict)

    def work(self) -> OpticsWork:
        """The run's numbers."""
        return OpticsWork(self.n, self.settles, self.step_us * 1e-6, self.upload_us * 1e-6, self.batch)


class MeasuredRow(_Row):
    """A digital job that was measured elsewhere, energy and all: what and on what, s and W an image."""

    seconds: float = Field(gt=0)
    watts: float = Field(gt=0)
    source: str = Field(min_length=10)

    def work(self) -> DigitalWork:
        """Its time and power."""
        return DigitalWork(self.source, self.seconds, self.watts)


class LedgerRecipe(BaseModel):
    """Compare what an image costs, on paper: no rig, no samples.

    oscillators, optics: rows by numbers. of: a run file of an optical rig, whose own times make a row
    (measured where a machine has a clock, else modelled). digital: time a generator as large as each
    oscillator program, and the denoisers' chains, on this computer. denoisers: shipped networks;
    denoiser_steps: of their chain. measured: digital rows from elsewhere. batch: images of an oscillator
    program that share its programming. digital_batch: images a digital job makes at once. constants: name ->
    value, or [low, high]. draws: of the constants' intervals. slack: a claimed energy is met within this
    share.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["ledger"] = "ledger"
    title: str = Field(min_length=1)
    about: str = ""
    oscillators: tuple[OscillatorRow, ...] = ()
    optics: tuple[OpticsRow, ...] = ()
    of: str = ""
    digital: bool = True
    denoisers: tuple[str, ...] = ()
    denoiser_steps: int = Field(default=8, ge=1, le=1000)
    measured: tuple[MeasuredRow, ...] = ()
    batch: int = Field(default=256, ge=1, le=1_000_000)
    digital_batch: int = Field(default=256, ge=1, le=65_536)
    constants: Settings = Field(default_factory=dict)
    draws: int = Field(default=131_072, ge=1024, le=4_194_304)
    slack: float = Field(default=0.05, ge=0, le=1)
    seed: int = Field(default=1, ge=0, le=2**31 - 1)

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if not (self.oscillators or self.optics or self.of):
            raise ValueError("a ledger needs a machine: allowed: oscillators, optics, of")
        names = [row.name for row in (*self.oscillators, *self.optics, *self.measured)]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"row {name!r} stands twice; allowed: each name once")
        try:
            self.constants_of({})
            for program in self.oscillators:
                self.constants_of(program.constants, program.name)
                program.work(self.batch)
            for run in self.optics:
                self.constants_of(run.constants, run.name)
        except UserError as error:
            raise ValueError(str(error)) from None
        return self

    def constants_of(self, own: dict[str, Any], row: str = "") -> Constants:
        """The shipped constants with a row's own over them, and over those the recipe's (so --set has the
        last word). Raises ConfigError for one that is not known or out of range.
        """
        return shipped_constants().replaced(own, f"row {row!r}").replaced(self.constants, "constants")
