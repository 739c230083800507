"""Times and outcomes as they stand in progress lines and tables."""

from __future__ import annotations

from collections.abc import Mapping


def clock(seconds: float) -> str:
    """Minutes and seconds, 1:05; hours where there are any."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def outcomes(counts: Mapping[str, int]) -> str:
    """Samples by outcome name: "1,942 converged, 58 max time"."""
    return ", ".join(f"{count:,} {plain(name)}" for name, count in counts.items() if count)


def plain(name: str) -> str:
    """A name of the file in words: MAX_TIME is "max time"."""
    return name.lower().replace("_", " ")
