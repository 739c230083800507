"""Faults of the foreign bench: each of the thirty names is there, and is seen through the interfaces."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
from foreign_bench import (
    FAULTS,
    Broken,
    ForeignBench,
    ForeignElectronics,
    ForeignPanel,
    broken_unit,
    drawn_unit,
)
from labctl_calibration.diagnosis.examining import Examination
from labctl_calibration.diagnosis.faults import NAMES

UNIT = 4


def differs(one, other):
    return any(
        not np.array_equal(np.asarray(getattr(one, f.name)), np.asarray(getattr(other, f.name)))
        for f in fields(one)
        if not callable(getattr(one, f.name))
    )


def test_the_thirty_names_are_those_that_a_morning_knows():
    assert set(FAULTS) == set(NAMES)


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_drawn_by_its_seed(name):
    sound = drawn_unit(UNIT)
    unit, broken, cables = broken_unit(name, 1, sound)
    again = broken_unit(name, 1, sound)
    assert not differs(unit, again[0])
    assert differs(unit, sound) or differs(broken, Broken()) or broken.frame is not None or cables is not None


@pytest.fixture(scope="module")
def levels():
    rng = np.random.default_rng(0)
    return np.kron(rng.integers(20, 230, (54, 96)), np.ones((20, 20))).astype(np.uint16)


def examined(levels, fault=None):
    """What the morning's examination reads without noise, an hour after switching on."""
    unit, broken, cables = drawn_unit(UNIT), Broken(), None
    if fault is not None:
        unit, broken, cables = broken_unit(fault, 1, unit)
    bench = ForeignBench(unit, noise_scale=0.05, cables=cables, broken=broken)
    bench.advance(3.6e9)
    panel, electronics = ForeignPanel("panel", bench), ForeignElectronics("electronics", bench)
    panel.open()
    electronics.open()
    return Examination(panel, electronics, levels).look(np.zeros(48))


@pytest.fixture(scope="module")
def sound(levels):
    return examined(levels), examined(levels)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_shows_in_what_a_morning_reads(name, levels, sound):
    before, again = sound
    seen = examined(levels, name)
    changes = {
        key: np.abs(seen[key] - before[key]).max() / (np.abs(again[key] - before[key]).max() + 1e-5)
        for key in before
    }
    assert max(changes.values()) > 5, changes
