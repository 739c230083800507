"""What the rows of pictures after each step are called."""

from __future__ import annotations

import math

import pytest

from labctl.reports.drawings import step_names
from labctl.reports.statistics import StepStatistics


def steps(kind: str, *levels: float) -> list[StepStatistics]:
    """Steps of a kind that end at these noise levels."""
    unknown = [math.nan] * 4
    return [
        StepStatistics(k, kind, math.nan, level, {}, None, *unknown)
        for k, level in enumerate(levels, start=1)
    ]


@pytest.mark.parametrize(
    ("kind", "levels", "count", "names"),
    [
        ("implicit", (2.5, 0.06, 0.0), 3, ["σ = 2.5", "σ = 0.06", "result"]),
        ("implicit", (2.5, 0.06), 3, ["σ = 2.5", "σ = 0.06", "result"]),
        ("implicit", (2.5, 0.06, 0.0), 2, ["σ = 2.5", "σ = 0.06"]),
        ("segment", (math.nan, math.nan), 2, ["segment 1", "segment 2"]),
        ("program", (math.nan,), 1, ["program"]),
        ("equilibrium", (1.0, 0.0), 2, ["σ = 1", "result"]),
    ],
)
def test_rows_are_called_by_what_a_step_led_to(kind, levels, count, names) -> None:
    assert step_names(steps(kind, *levels), count) == names
