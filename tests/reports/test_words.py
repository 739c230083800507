"""Quantities read as people write them."""

from __future__ import annotations

import pytest

from labctl.reports.words import quantity


@pytest.mark.parametrize(
    ("value", "unit", "said"),
    [
        (12.8e-6, "W", "12.8 µW"),
        (999.9e-9, "J", "1 µJ"),
        (2.31e9, "Hz", "2.31 GHz"),
        (5.0, "W", "5 W"),
        (0.0, "J", "0 J"),
        (3e-18, "J", "0.003 fJ"),
        (4.2e15, "Hz", "4,200 THz"),
        (0.005, "", "0.005"),
        (1176.0, "", "1176"),
        (float("nan"), "J", "– J"),
    ],
)
def test_a_quantity_has_three_digits_and_the_prefix_that_suits_it(value, unit, said) -> None:
    assert quantity(value, unit) == said
