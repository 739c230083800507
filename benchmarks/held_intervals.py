"""Whether stated intervals hold the truth: errors over stated uncertainties, pooled family by family."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

BAR, LEAST_POOLED = (0.93, 0.97), 2000
INSIDE = 1.96  # standard uncertainties
HEAD = (
    "Share of stated 95% intervals that hold the true value; mean and standard deviation of error over stated "
    f"uncertainty (0 and 1 where both are right). Bar: {BAR[0]:.0%} to {BAR[1]:.0%} of at least {LEAST_POOLED:,} values."
)


class Scores:
    """Sums by family of one unit: values, intervals that hold the truth, errors in uncertainties and their squares,
    and the median uncertainty.
    """

    def __init__(self) -> None:
        self.sums: dict[str, float] = {}

    def add(self, family: str, value: object, sd: object, truth: object, also: object = True) -> None:
        """Values with their standard uncertainties beside the truth, all broadcast; `also`: which of them count."""
        values, sds, truths, wanted = np.broadcast_arrays(
            np.asarray(value, float), np.asarray(sd, float), np.asarray(truth, float), np.asarray(also, bool)
        )
        z = (values - truths) / sds
        z = z[np.isfinite(z) & wanted]
        found = {"n": z.size, "in": (np.abs(z) <= INSIDE).sum(), "z": z.sum(), "zz": (z**2).sum()}
        for name, number in found.items():
            key = f"{family} {name}"
            self.sums[key] = self.sums.get(key, 0.0) + float(number)
        self.sums[f"{family} sd"] = float(np.median(sds[np.isfinite(sds)]))


def table(units: Sequence[Mapping[str, float]], families: Sequence[str]) -> list[str]:
    """Markdown of all units' sums; a family that no unit has is left out."""
    lines = [
        "| family | values | inside | mean | spread | median uncertainty | |",
        "|---|---|---|---|---|---|---|",
    ]
    for family in families:
        having = [one for one in units if f"{family} n" in one]
        if not having:
            continue
        n, inside, z, zz = (sum(one[f"{family} {what}"] for one in having) for what in ("n", "in", "z", "zz"))
        share, mean = inside / n, z / n
        met = "met" if BAR[0] <= share <= BAR[1] else "missed"
        spread = np.sqrt(max(zz / n - mean**2, 0.0))
        sd = np.median([one[f"{family} sd"] for one in having])
        lines.append(
            f"| {family} | {n:,.0f} | {share:.1%} | {mean:+.2f} | {spread:.2f} | {sd:.2g} | "
            f"{met if n >= LEAST_POOLED else 'too few'} |"
        )
    return lines
