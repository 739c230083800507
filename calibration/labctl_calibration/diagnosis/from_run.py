"""What a run's file adds to a morning's odds: probes that left their charts, settles that were late.

Only what was seen counts: a fault may have come after the run, so that silence is no evidence. Factors are
stated, not fitted: a probe that a fault does not touch leaves its chart a tenth as often as one that it does.
"""

from __future__ import annotations

from dataclasses import dataclass

from labctl_calibration.diagnosis.faults import HEALTHY, NAMES
from labctl_calibration.drift.optical import ANSWER, DARK, LIGHT, REST, ROW_LIGHT, SHAPE, TAU

BY_CHANCE, IN_HEALTH = 0.1, 0.02  # a probe that a fault does not touch leaves its chart; a sound bench's does
LATE, LATE_ODDS = 0.02, 0.3  # share of settles still moving that counts; odds of what does not make them late
_EACH = frozenset((LIGHT.name, ROW_LIGHT.name, SHAPE.name))
_ROWS = frozenset((ROW_LIGHT.name, SHAPE.name))
_DARK, _REST = frozenset((DARK.name, REST.name)), frozenset((REST.name,))
_TAU = frozenset((TAU.name,))
MOVES: dict[str, frozenset[str]] = {
    **dict.fromkeys(
        ("emitter-dead", "emitter-dim", "drives-swapped", "image-shifted", "image-turned", "image-flipped",
         "defocused", "panel-column-stuck", "level-table-wrong", "dust", "too-warm", "panel-flicker"), _EACH,
    ),
    **dict.fromkeys(
        ("panel-row-stuck", "detector-dead", "row-gain", "detectors-swapped", "crosstalk"), _ROWS
    ),
    "supply-sag": frozenset((LIGHT.name, REST.name)),
    "drive-stuck": _EACH | {DARK.name},
    "panel-slow": _EACH,
    "shutter-closed": _EACH | {REST.name, ANSWER.name, TAU.name},
    "ambient-light": _DARK, "dark-current": _DARK,
    "adc-offset": _REST, "mains-hum": _REST, "row-noisy": _REST,
    "adc-stuck-bit": frozenset((REST.name, ANSWER.name, TAU.name)),
    "loop-gain": frozenset((REST.name, ANSWER.name)),
    "row-slow": _TAU, "reads-early": _TAU,
}  # fmt: skip
MAKE_LATE = frozenset(("row-slow", "reads-early", "loop-gain", "row-noisy", "adc-stuck-bit"))


@dataclass(frozen=True)
class RunSigns:
    """drifted: names of the series that left their charts. late: share of settles that still moved, or
    swung, when they were read (None: nothing was settled).
    """

    drifted: tuple[str, ...] = ()
    late: float | None = None

    @property
    def probes(self) -> frozenset[str]:
        """Probes of those series, by their groups' names."""
        known = sorted({name for names in MOVES.values() for name in names}, key=len, reverse=True)
        found = (next((name for name in known if series.startswith(name)), "") for series in self.drifted)
        return frozenset(found) - {""}

    def odds(self) -> dict[str, float]:
        """Factor on the odds of each fault, and of health."""
        odds = {}
        for name in (HEALTHY, *NAMES):
            factor = 1.0
            for probe in self.probes:
                if name == HEALTHY:
                    factor *= IN_HEALTH
                elif probe not in MOVES[name]:
                    factor *= BY_CHANCE
            if self.late is not None and self.late > LATE and name not in MAKE_LATE:
                factor *= LATE_ODDS
            odds[name] = factor
        return odds
