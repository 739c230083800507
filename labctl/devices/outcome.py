"""What became of one sample in one segment. Not converging is data."""

from __future__ import annotations

from enum import IntEnum


class Outcome(IntEnum):
    """Per-sample outcome of a segment (conventions, section 1)."""

    CONVERGED = 0  # the two halves of the read-out window agree within tolerance
    TIME_ELAPSED = 1  # a segment of fixed duration ended: normal for oscillator programs
    MAX_TIME = 2  # still moving when the window closed
    LIMIT_CYCLE = 3  # the halves agree, but the state swings inside the window
    MULTISTABLE = 4  # a second start settled at another root
    SATURATED = 5  # a clipped bias or a clipped u; hidden rows may run to many units harmlessly
    DIVERGED = 6  # not finite, or beyond any state the machine can hold
