"""What an image costs: energy of the core and at the wall plug, and time, item by item."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from operator import add

from labctl.energy.constants import Value


@dataclass(frozen=True)
class Account:
    """Cost of one image in a batch; every figure is a number, or one a draw [S].

    core_j: item -> J, what computing takes inside the machine, powered only while it computes.
    wall_j: item -> J, what comes out of the wall plug with nothing switched off and nothing done side by
    side: the machine for the whole latency, its supply's losses, the host. It contains the core.
    latency_s: item -> s, one after the other; what a batch takes together is shared out among its images.
    """

    core_j: Mapping[str, Value]
    wall_j: Mapping[str, Value]
    latency_s: Mapping[str, Value]

    @property
    def core_total_j(self) -> Value:
        """Energy of the core, J."""
        return total(self.core_j)

    @property
    def wall_total_j(self) -> Value:
        """Energy at the wall plug, J."""
        return total(self.wall_j)

    @property
    def latency_total_s(self) -> Value:
        """Time of one image, s."""
        return total(self.latency_s)


def total(items: Mapping[str, Value]) -> Value:
    """Sum of all items."""
    return reduce(add, items.values())
