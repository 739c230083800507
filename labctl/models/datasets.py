"""Two-dimensional distributions with unlimited fresh samples (own data: `labctl.models.points`).

Everything a network sees is standardised: mean 0, standard deviation 1 on each axis. The shipped sets do it
with fixed constants (`Affine`), so that two samples of a set never differ in scale.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class Affine:
    """standardised = (own - mean) / std, axis by axis."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def standardise(self, own: ArrayLike) -> FloatArray:
        """Points [n, d] in their own units to network units."""
        points: FloatArray = np.asarray(own, dtype=np.float64)
        result: FloatArray = (points - np.array(self.mean)) / np.array(self.std)
        return result

    def restore(self, standardised: ArrayLike) -> FloatArray:
        """Points [n, d] in network units to their own units."""
        points: FloatArray = np.asarray(standardised, dtype=np.float64)
        result: FloatArray = points * np.array(self.std) + np.array(self.mean)
        return result


class DataSource(Protocol):
    """What training draws from."""

    @property
    def name(self) -> str:
        """Name for cards and messages."""
        ...

    @property
    def dim(self) -> int:
        """Number of variables d."""
        ...

    @property
    def n_classes(self) -> int:
        """0 without labels."""
        ...

    @property
    def affine(self) -> Affine:
        """The map from own units to network units."""
        ...

    def checksum(self) -> str:
        """sha256 of what the data are (the table, or the generator's name and constants)."""
        ...

    def draw(self, n: int, rng: np.random.Generator) -> tuple[FloatArray, IntArray | None]:
        """n standardised points [n, d] and their labels [n], or None without classes."""
        ...


# -- the shipped sets: generators in own units -----------------------------------------------------------


def _moons(n: int, rng: np.random.Generator) -> FloatArray:
    """Two interleaving half circles of radius 1, Gaussian noise .07 (scikit-learn's shape, random angle)."""
    angle = math.pi * rng.random(n)
    lower = rng.random(n) < 0.5
    x = np.where(lower, 1.0 - np.cos(angle), np.cos(angle))
    y = np.where(lower, 0.5 - np.sin(angle), np.sin(angle))
    return np.stack([x, y], axis=1) + 0.07 * rng.standard_normal((n, 2))


def _swiss_roll(n: int, rng: np.random.Generator) -> FloatArray:
    """The spiral t (cos t, sin t), t = 1.5 pi (1 + 2 U), noise .5 (scikit-learn's roll seen from its end)."""
    t = 1.5 * math.pi * (1.0 + 2.0 * rng.random(n))
    return np.stack([t * np.cos(t), t * np.sin(t)], axis=1) + 0.5 * rng.standard_normal((n, 2))


RING_STD: Final = 0.1


def ring_centres() -> FloatArray:
    """Centres [8, 2] of both Gaussian mixtures, own units: the unit circle, every 45 degrees from 0."""
    angle = 0.25 * math.pi * np.arange(8)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


EQUAL_WEIGHTS: Final = np.full(8, 1 / 8)
UNEQUAL_WEIGHTS: Final = np.arange(1, 9) / 36.0


def _mixture(weights: FloatArray) -> Callable[[int, np.random.Generator], FloatArray]:
    def generate(n: int, rng: np.random.Generator) -> FloatArray:
        mode = np.searchsorted(np.cumsum(weights)[:-1], rng.random(n), side="right")
        return ring_centres()[mode] + RING_STD * rng.standard_normal((n, 2))

    return generate


def _checkerboard(n: int, rng: np.random.Generator) -> FloatArray:
    """Uniform on the 8 dark squares of a 4 x 4 board on [-2, 2)^2."""
    row = rng.integers(0, 4, n)
    col = 2 * rng.integers(0, 2, n) + row % 2
    corner = np.stack([col, row], axis=1) - 2.0
    return corner + rng.random((n, 2))


@dataclass(frozen=True)
class ToySet:
    """A shipped distribution. `centres` [k, 2] (own units) and `weights` [k] where it is a mixture."""

    name: str
    affine: Affine
    generate: Callable[[int, np.random.Generator], FloatArray]
    weights: FloatArray | None = None

    @property
    def dim(self) -> int:
        """Always 2."""
        return 2

    @property
    def n_classes(self) -> int:
        """Always 0: the shipped sets are unconditional."""
        return 0

    @property
    def centres(self) -> FloatArray | None:
        """Mode centres [k, 2] in network units, None where the set is no mixture."""
        return None if self.weights is None else self.affine.standardise(ring_centres())

    def checksum(self) -> str:
        """sha256 over 1,000 points of seed 0: it changes when the generator does."""
        points = self.draw(1000, np.random.Generator(np.random.Philox(0)))[0]
        return hashlib.sha256(np.round(points, 6).tobytes()).hexdigest()

    def draw(self, n: int, rng: np.random.Generator) -> tuple[FloatArray, IntArray | None]:
        """n fresh standardised points [n, 2]; never labels."""
        return self.affine.standardise(self.generate(n, rng)), None


def _ring_affine(weights: FloatArray) -> Affine:
    centres = ring_centres()
    mean = weights @ centres
    var = weights @ (centres - mean) ** 2 + RING_STD**2
    return Affine(tuple(float(m) for m in mean), tuple(float(s) for s in np.sqrt(var)))


def _spiral_affine() -> Affine:
    # Moments of t cos t and t sin t for t uniform on [1.5 pi, 4.5 pi], by a fine midpoint rule.
    t = 1.5 * math.pi * (1.0 + 2.0 * (np.arange(200_000) + 0.5) / 200_000)
    xy = np.stack([t * np.cos(t), t * np.sin(t)])
    mean, std = xy.mean(axis=1), np.sqrt(xy.var(axis=1) + 0.25)
    return Affine(tuple(round(float(m), 6) for m in mean), tuple(round(float(s), 6) for s in std))


def _moons_affine() -> Affine:
    # x: mean 1/2, second moments of cos: 1/2 + 1/4 between the moons; y: mean 1/4 and var below, plus noise.
    half = 2.0 / math.pi
    var_x = 0.5 + 0.25 + 0.07**2
    var_y = 0.5 - half**2 + (half - 0.25) ** 2 + 0.07**2
    return Affine((0.5, 0.25), (math.sqrt(var_x), math.sqrt(var_y)))


TOY_SETS: Final[dict[str, ToySet]] = {
    s.name: s
    for s in (
        ToySet("moons", _moons_affine(), _moons),
        ToySet("swiss_roll", _spiral_affine(), _swiss_roll),
        ToySet("gaussians", _ring_affine(EQUAL_WEIGHTS), _mixture(EQUAL_WEIGHTS), EQUAL_WEIGHTS),
        ToySet(
            "gaussians_unequal", _ring_affine(UNEQUAL_WEIGHTS), _mixture(UNEQUAL_WEIGHTS), UNEQUAL_WEIGHTS
        ),
        ToySet(
            "checkerboard",
            Affine((0.0, 0.0), (math.sqrt(4.0 / 3.0), math.sqrt(4.0 / 3.0))),
            _checkerboard,
        ),
    )
}
