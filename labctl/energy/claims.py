"""What others claim, with where it is said. Claims are printed as claims and enter no row of ours."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from labctl.config_files import first_problem, parse_toml
from labctl.energy.constants import Value
from labctl.energy.oscillators import OscillatorWork


class Claim(BaseModel):
    """A claimed figure, with the interval its wording leaves: energy an image (J), or digital over analog."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    says: str = Field(min_length=1)
    quantity: Literal["energy_j", "ratio"]
    value: float = Field(gt=0)
    low: float = Field(gt=0)
    high: float = Field(gt=0)
    source: str = Field(min_length=10)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.low <= self.value <= self.high:
            raise ValueError(f"value {self.value:g} lies outside [{self.low:g}, {self.high:g}]")
        return self


@cache
def shipped_claims() -> dict[str, Claim]:
    """The claims by name."""
    text = (resources.files("labctl.energy") / "claims.toml").read_text("utf-8")
    found = {}
    for name, content in parse_toml(text, "claims.toml").items():
        try:
            found[name] = Claim(**content)
        except ValidationError as error:
            raise first_problem(error, f"claims.toml: {name}", Claim) from None
    return found


def claimed_machine(constants: Mapping[str, Value]) -> OscillatorWork:
    """The machine of the 23 uJ claim, as far as it is known: 28 x 28 visible, 4 bits; the rest is drawn.

    Its host and its programming are left out by a batch so large that their share is nothing: the claim's
    figure cannot contain a serial host.
    """
    return OscillatorWork(
        n=constants["paper_n"],
        visible=784,
        cells=constants["paper_n"] * constants["paper_degree"],
        bits=4,
        duration=constants["paper_duration"],
        segments=constants["paper_segments"],
        batch=1_000_000,
    )
