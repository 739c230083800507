"""The derived noise budget against the noise of the twin, source by source."""

from __future__ import annotations

import numpy as np
import pytest
from labctl_sim_devices import TERMS
from labctl_sim_devices.budget import noise_sources

from labctl.devices import SettleCodes

N, GAIN = 48, 0.5
SILENT = {"shot_noise": False, "rin_dbc_hz": "off", "detector_pa_rthz": 0.0, "loop_noise_percent": 0.0}
FINE = {"dac_bits": 40, "adc_bits": 40, "precision": "float64", "wait_us": 20.0}


def measured(bench, batch=1500, *, apart_us=0.0, steps=1):
    """Spread of settles at z = 0, rows apart; every step a queue of its own."""
    spec = bench.electronics.spec
    rest = np.rint(bench.bench.truth().rest() / spec.offset_dac.units_per_code).astype(np.int64)
    bench.electronics.set_offset_null(rest)
    zero = np.zeros((batch, N), np.int64)
    states = []
    for step in range(steps):
        codes = SettleCodes(
            zero, spec.hidden_gain.code(np.full((1, N), GAIN)), np.full((1, N), spec.max_leak_code),
            np.ones(N, np.int64), zero, step, np.arange(batch),
        )  # fmt: skip
        states.append(bench.electronics.settle(codes).counts * spec.adc.units_per_code)
        bench.bench.advance(apart_us)
    return np.concatenate(states).std(axis=0)


def gain_of(bench):
    scale = bench.electronics.spec.hidden_gain
    return float(scale.value(scale.code(np.array(GAIN))))


@pytest.mark.parametrize(
    ("source", "values"),
    [
        ("loop", {"loop_noise_percent": 0.3}),
        ("detector", {"detector_pa_rthz": 20.0}),
        ("shot", {"shot_noise": True, "photocurrent_ua": 0.01}),
        ("intensity", {"rin_dbc_hz": -110.0}),
    ],
)
@pytest.mark.parametrize("faulty", [pytest.param(False, marks=pytest.mark.slow), True])
def test_each_source(twin, source, values, faulty):
    """With loop errors, uneven light and leaking weights too (but offsets: the budget is that of z = 0)."""
    still = dict.fromkeys(
        ("flicker", "mains", "curve", "drift", "warm_up", "self_heating", "loop_offset"), 0.0
    )
    terms = still if faulty else dict.fromkeys(TERMS, 0.0)
    bench = twin("unit", seed=1, **{**FINE, **SILENT, **values, "terms": terms})
    bench.show_fractions(np.eye(N) * 0.4)
    budget = noise_sources(bench.bench, gain_of(bench))
    expected = getattr(budget, source)
    assert (expected > 0).all()
    np.testing.assert_allclose(budget.total, expected, rtol=1e-3)
    ratio = measured(bench) / expected
    assert np.abs(np.mean(ratio) - 1) < 0.03
    assert np.abs(ratio - 1).max() < 0.12  # 1,500 settles: 2% a row


@pytest.mark.parametrize("source", ["flicker", "mains"])
def test_pickup_of_the_panel_and_the_mains(twin, source):
    terms = {**dict.fromkeys(TERMS, 0.0), source: 1.0, "contrast": float(source == "flicker")}
    bench = twin("unit", seed=1, **{**FINE, **SILENT, "terms": terms})
    bench.show_fractions(np.eye(N) * 0.05)
    expected = getattr(noise_sources(bench.bench, gain_of(bench)), source)
    step_us = {"flicker": 2083.0, "mains": 20000.0}[source] / 64
    seen = measured(bench, 1, apart_us=step_us - 26.4, steps=64)
    np.testing.assert_allclose(seen, expected, rtol=0.01, atol=1e-7)


def test_codes_and_print(twin):
    bench = twin("adm", noise_scale=0.0)
    bench.show_fractions(np.zeros((N, N)))
    budget = noise_sources(bench.bench, GAIN)
    np.testing.assert_allclose(budget.bias_codes, 3.8 / 8191 / np.sqrt(12))
    assert (budget.drift_hour == 0).all()
    lines = budget.lines(3.8)
    assert lines[0].split() == ["loop", "0.0000%"]
    assert lines[-1].startswith("total")
