"""Class by class: how many pictures show what was asked for, and what the others are taken for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from labctl.reports.words import share
from labctl.runlog import PanelReader

CONFUSIONS = 3  # classes that a row names at most
WORTH_NAMING = 0.005  # of a class's pictures


@dataclass(frozen=True)
class ClassRow:
    """One class: its pictures, the share of them judged to be of it, and what the rest is taken for.

    `mistaken` are the classes most often found instead, with their shares of this class's pictures.
    """

    name: str
    pictures: int
    agreement: float
    mistaken: tuple[tuple[str, float], ...]


def class_rows(panel: PanelReader, names: Sequence[str]) -> list[ClassRow]:
    """A row a class that was asked for, in the classes' order; none where no judge looked at the pictures."""
    asked, found = panel.sample_labels, panel.judged
    if asked is None or found is None:
        return []
    rows = []
    for label in np.unique(asked):
        counts = np.bincount(found[asked == label], minlength=int(label) + 1)
        shares = counts / counts.sum()
        others = [int(k) for k in np.argsort(-shares, kind="stable") if k != label][:CONFUSIONS]
        mistaken = tuple((_name(k, names), float(shares[k])) for k in others if shares[k] >= WORTH_NAMING)
        rows.append(ClassRow(_name(int(label), names), int(counts.sum()), float(shares[label]), mistaken))
    return rows


def worst_in_words(rows: Sequence[ClassRow], most: int = 2) -> str:
    """The classes that agree least, in a sentence; "" where every picture is what was asked for."""
    worst = sorted((row for row in rows if row.mistaken), key=lambda row: row.agreement)[:most]
    told = [
        f"{row.name} ({share(row.agreement)} right; {share(part)} taken for {other})"
        for row in worst
        for other, part in row.mistaken[:1]
    ]
    return f"Worst: {' and '.join(told)}." if told else ""


def _name(label: int, names: Sequence[str]) -> str:
    return names[label] if label < len(names) else str(label)
