"""True parameters in terms that can be scaled, and their draws: what every kind of drawn unit shares."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, Self, TypeVar, get_type_hints

import numpy as np
import torch
from numpy.typing import NDArray

from labctl.devices import ConfigError
from labctl.physics import Stream

FloatArray = NDArray[np.float64]
MAX_SCALE = 4.0


@dataclass(frozen=True)
class Parameter:
    """A term's parameter: its shape by letters, its value without the term."""

    term: str
    shape: str
    absent: float


_KNOWN: dict[type, dict[str, Parameter]] = {}


@dataclass(frozen=True, eq=False)
class TermTruth:
    """Base of a unit's truth: a frozen dataclass whose arrays are annotated with their `Parameter`."""

    @classmethod
    def parameters(cls) -> dict[str, Parameter]:
        """Every annotated array, by name."""
        if cls not in _KNOWN:
            hints = get_type_hints(cls, include_extras=True)
            _KNOWN[cls] = {
                name: hint.__metadata__[0] for name, hint in hints.items() if hasattr(hint, "__metadata__")
            }
        return _KNOWN[cls]

    def has(self, *terms: str) -> bool:
        """Whether any of these terms does anything."""
        return any(
            bool(np.any(getattr(self, name) != p.absent))
            for name, p in self.parameters().items()
            if p.term in terms
        )

    def with_terms(self, scales: Mapping[str, float]) -> Self:
        """Each term's departure from its absence times its scale (1 where none is given, 0 = off)."""
        changed: dict[str, Any] = {
            name: np.asarray(p.absent + scales[p.term] * (getattr(self, name) - p.absent))
            for name, p in self.parameters().items()
            if scales.get(p.term, 1.0) != 1.0
        }
        return replace(self, **changed)


AnyTruth = TypeVar("AnyTruth", bound=TermTruth)


def check_term_scales(scales: Mapping[str, float], terms: Collection[str]) -> None:
    """Raise ConfigError for a name that is no term, or a scale outside 0 .. 4."""
    for name, scale in scales.items():
        if name not in terms:
            raise ConfigError(f"terms.{name}: no such term; allowed: {', '.join(terms)}")
        if not 0 <= scale <= MAX_SCALE:
            raise ConfigError(f"terms.{name} = {scale}; allowed: 0 (off) to {MAX_SCALE:g} (1 = as drawn)")


def with_explicit(
    unit: AnyTruth, given: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]
) -> AnyTruth:
    """The unit with a profile's explicit arrays in place of draws; -1 in a shape is any length.

    Raises ConfigError naming the field for an array of a wrong name or shape.
    """
    changed: dict[str, Any] = {}
    for name, values in given.items():
        if name not in shapes:
            raise ConfigError(f"truth.{name}: no such parameter; allowed: {', '.join(shapes)}")
        array, shape = np.asarray(values, np.float64), shapes[name]
        if array.ndim != len(shape) or any(w not in (-1, g) for w, g in zip(shape, array.shape, strict=True)):
            raise ConfigError(f"truth.{name} has shape {array.shape}; allowed: {shape}")
        changed[name] = array
    return replace(unit, **changed) if changed else unit


class Draw:
    """Draws of one unit: each term from a stream of its own name, so that none changes another."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def normal(self, term: str, *shape: int, part: int = 0) -> FloatArray:
        """Standard normals of one term; another part is another set."""
        count = int(np.prod(shape)) if shape else 1
        stream = Stream(self._seed, "unit", term)
        drawn = stream.normal(np.zeros(1, np.int64), count, step=part, dtype=torch.float64)[0].numpy()
        return np.asarray(drawn).reshape(shape)
