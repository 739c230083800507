"""What generated pictures are judged by: FD* with its floor, density, coverage, and whether they are copies.

A Frechet distance of few pictures is biased upwards, so that sets are as large as those the floor was taken
of, and several where they are small.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from labctl.devices.errors import CheckpointError
from labctl.models.checkpoint import find_checkpoint, read_tensors
from labctl.models.classifier import Classifier, load_classifier
from labctl.models.oscillators.checkpoint import NetName, OscillatorCard
from labctl.models.picture_metrics import nearest_pictures
from labctl.models.picture_reference import PictureReference, load_reference
from labctl.models.pictures import Pictures, as_pictures

JUDGED = 10_000  # pictures, at most one set of the largest size that has a floor
COPIES = 1000
DRAW_SEED = 2**40  # far from the seeds of trainings
Draw = Callable[[int, int], Pictures]  # (count, seed) to pictures


@dataclass(frozen=True)
class GeneratorScores:
    """Means over `sets` sets of `size` pictures; `spread` is the standard error of FD*, 0 for one set."""

    frechet_star: float
    spread: float
    density: float
    coverage: float
    size: int
    sets: int


@dataclass(frozen=True, eq=False)
class PictureJudge:
    """A classifier and the reference that belongs to it. data: the set that the classifier was trained on."""

    classifier: Classifier
    reference: PictureReference
    classifier_name: NetName
    reference_name: NetName
    data: str

    @classmethod
    def of(cls, classifier: str, reference: str) -> PictureJudge:
        """By shipped names or paths; CheckpointError where the two do not belong together."""
        judge, card = load_classifier(classifier)
        found = load_reference(reference, classifier_sha256=card["sha256"])
        of_reference = read_tensors(find_checkpoint(reference))[1]
        return cls(
            judge,
            found,
            NetName(name=classifier, sha256=card["sha256"]),
            NetName(name=reference, sha256=of_reference["sha256"]),
            str(card["dataset"]["name"]),
        )

    @classmethod
    def named_by(cls, card: OscillatorCard) -> PictureJudge:
        """The one that a card's figures are of; CheckpointError where nets of those names are others now."""
        found = cls.of(card.classifier.name, card.reference.name)
        for said, here in ((card.classifier, found.classifier_name), (card.reference, found.reference_name)):
            if said.sha256 != here.sha256:
                raise CheckpointError(
                    f"{said.name}: sha256 {here.sha256}; allowed: {said.sha256}, the one the card of "
                    f"{card.name} names (figures of another net could not be compared)"
                )
        return found

    @property
    def judged(self) -> int:
        """Pictures that `scores` draws, in all sets."""
        size = int(self.reference.counts[-1])
        return size * max(1, min(8, JUDGED // size))

    def scores(self, draw: Draw, *, seed: int = DRAW_SEED) -> GeneratorScores:
        """Scores of what `draw` makes; DataError for pictures of another side than the judge's."""
        size = int(self.reference.counts[-1])
        sets = self.judged // size
        pictures = as_pictures(draw(size * sets, seed), "generated pictures", self.classifier.side)
        found = [
            self.reference.measure(features)
            for features in np.split(self.classifier.features(pictures), sets)
        ]
        stars = np.array([score.frechet_star for score in found])
        return GeneratorScores(
            frechet_star=float(stars.mean()),
            spread=float(stars.std(ddof=1) / np.sqrt(sets)) if sets > 1 else 0.0,
            density=float(np.mean([score.density for score in found])),
            coverage=float(np.mean([score.coverage for score in found])),
            size=size,
            sets=sets,
        )


@dataclass(frozen=True)
class Copies:
    """Root mean square pixel distances to the nearest training picture, medians, of made and test pictures.

    `nearer` is the share of made pictures that lie nearer to a training picture than 99 of 100 test pictures
    do: about .01 where nothing is copied, near 1 for a set of copies.
    """

    made: float
    test: float
    nearer: float


def copies(draw: Draw, train: Pictures, test: Pictures, *, seed: int = DRAW_SEED) -> Copies:
    """Whether what `draw` makes lies nearer to training pictures than fresh real pictures do."""
    made = nearest_pictures(draw(COPIES, seed), train).distance
    fresh = nearest_pictures(test[:COPIES], train).distance
    limit = np.quantile(fresh, 0.01)
    return Copies(float(np.median(made)), float(np.median(fresh)), float((made < limit).mean()))
