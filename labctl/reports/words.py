"""Numbers and outcomes in words a person reads."""

from __future__ import annotations

import math

from labctl.devices import Outcome

OUTCOME_WORDS = {
    Outcome.CONVERGED: "settled: both halves of the read-out window agree",
    Outcome.TIME_ELAPSED: "its fixed time ended, as planned",
    Outcome.MAX_TIME: "still moving when the window closed",
    Outcome.LIMIT_CYCLE: "swings around instead of standing still",
    Outcome.MULTISTABLE: "a second start settled somewhere else",
    Outcome.SATURATED: "an input or a state ran into its limit",
    Outcome.DIVERGED: "not finite, or beyond what the machine can hold",
}

STATUS_WORDS = {
    "success": "The run reached its end.",
    "aborted": "A person stopped this run. Everything up to the last whole step is here.",
    "failed": "An error ended this run. Everything up to the last whole step is here.",
    "killed": "The process was ended from outside. Everything up to the last whole step is here.",
    "running": "The run is still going; this page shows the steps that were whole when it was made.",
}


def duration(us: float) -> str:
    """A time given in µs, in the unit that suits it."""
    if not math.isfinite(us):
        return "–"
    for limit, scale, unit in ((1e3, 1.0, "µs"), (1e6, 1e3, "ms"), (math.inf, 1e6, "s")):
        if abs(us) < limit:
            return f"{us / scale:.3g} {unit}" if abs(us / scale) < 100 else f"{us / scale:,.0f} {unit}"
    return "–"


def seconds(value: float) -> str:
    """A time given in s."""
    return duration(value * 1e6)


def microseconds(us: float) -> str:
    """A settle time in µs; infinity is an unsettled sample."""
    if math.isinf(us):
        return "unsettled"
    return "–" if math.isnan(us) else f"{us:.2f}"


def settle_us(p95_us: float) -> str:
    """A settle time with its unit; infinity is a sample that had not settled."""
    if math.isnan(p95_us):
        return "–"
    return "unsettled" if math.isinf(p95_us) else f"{p95_us:.1f} µs"


def share(value: float) -> str:
    """A share of samples: never rounded to 0% or 100% unless it is."""
    if math.isnan(value):
        return "–"
    if value in (0.0, 1.0):
        return f"{value:.0%}"
    if value < 0.001:
        return "<0.1%"
    return ">99.9%" if value > 0.999 else f"{value:.1%}"


def number(value: float) -> str:
    """A plain number at a readable precision."""
    if not math.isfinite(value):
        return "–"
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        return f"{value:.3g}" if abs(value) < 1e3 else f"{value:.4g}"
    return f"{value:.2e}"


def uncertain(value: float, sd: float, unit: str = "") -> str:
    """A value with its standard uncertainty to two digits, or alone where none is stated (NaN or 0)."""
    told = number(value)
    if math.isfinite(value) and math.isfinite(sd) and sd > 0:
        decimals = 1 - math.floor(math.log10(float(f"{sd:.1e}")))
        if -3 <= decimals <= 7:
            shown = max(decimals, 0)
            told = f"{round(value, decimals):.{shown}f} ± {round(sd, decimals):.{shown}f}"
        else:
            told = f"{value:.3e} ± {sd:.1e}"
    return f"{told} {unit}".rstrip() if unit != "%" else f"{told}%"


_PREFIXES = {-15: "f", -12: "p", -9: "n", -6: "µ", -3: "m", 0: "", 3: "k", 6: "M", 9: "G", 12: "T"}


def quantity(value: float, unit: str) -> str:
    """A physical quantity to three digits, with the prefix that suits it: 12.8 µW. Plain without a unit."""
    if not unit or value == 0 or not math.isfinite(value):
        return f"{number(value)} {unit}".rstrip()
    power = 3 * math.floor(math.log10(abs(float(f"{value:.2e}"))) / 3)
    power = min(max(power, min(_PREFIXES)), max(_PREFIXES))
    scaled = value / 10.0**power
    told = f"{scaled:.3g}" if scaled < 1000 else f"{scaled:,.0f}"
    return f"{told} {_PREFIXES[power]}{unit}"


def count(value: int) -> str:
    """A whole number; large ones in powers of ten."""
    return f"{value:,}" if abs(value) < 10_000_000 else f"{value:.2e}"


def scalar(value: object) -> str:
    """A metric or setting of any type."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return count(value)
    return number(value) if isinstance(value, float) else str(value)
