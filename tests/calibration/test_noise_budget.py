"""The measured noise budget against the one derived from the twin's truth; lines in series."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from labctl_calibration import calibrate_open_loop, nominal_panel_record
from labctl_calibration.closed_loop import measure_rows
from labctl_calibration.effective_map import measure_map
from labctl_calibration.noise_budget import KIND, measure_noise
from labctl_calibration.series import find_lines, scatter
from labctl_sim_devices.budget import noise_sources

from labctl.programs import encode_frame

N = 48
DERIVED = {
    "electronics": "loop", "detectors": "detector", "shot": "shot", "intensity": "intensity",
    "flicker": "flicker", "mains": "mains", "ADC codes": "adc_codes", "bias codes": "bias_codes",
}  # fmt: skip


@pytest.fixture(scope="module")
def measured(panels):
    """Factory: (budget, the twin's own by the names of the measured one, electronics); % of full scale.

    A bench is measured once.
    """

    @cache
    def make(unit_seed=1, **how):
        bench, modulator, electronics = panels.opened(unit_seed, **how)
        rng = np.random.default_rng(unit_seed)
        dense = rng.choice([-1.0, -0.5, 0.5, 1.0], size=(N, N))
        frame = encode_frame(dense, modulator.spec, nominal_panel_record(modulator.spec, N, "test")).levels
        modulator.show(frame)
        calibrate_open_loop(electronics)
        light = measure_map(electronics, probes=1200)
        rows = measure_rows(electronics, light)
        budget = measure_noise(modulator, electronics, light, rows)
        np.testing.assert_array_equal(modulator.shown(), frame)
        derived, percent = noise_sources(bench, budget.gain), 100 / electronics.spec.adc.range_units

        def rms(values):
            return percent * float(np.sqrt(np.mean(values**2)))

        truth = {name: rms(getattr(derived, field)) for name, field in DERIVED.items()}
        drop = np.sqrt(derived.total**2 - derived.bias_codes**2)  # the same in every repeat
        return budget, {**truth, "total": rms(drop)}, electronics

    return make


@pytest.mark.slow
@pytest.mark.parametrize("unit_seed", [1, 2, 3])
def test_every_source_of_a_drawn_unit_is_what_the_twin_has(measured, unit_seed):
    """Within three standard errors and 4% of itself: the twin's budget is linear around z = 0 and so is ours,
    but the matrices, curves and gains in ours are estimates."""
    budget, truth, _ = measured(unit_seed)
    for source in (*budget.sources, budget.total):
        assert source.measured, source
        assert abs(source.percent - truth[source.name]) < 3 * source.error + 0.04 * truth[source.name], source
    assert budget.seen.percent == pytest.approx(budget.total.percent, abs=3 * budget.seen.error)
    assert budget.seen.percent == pytest.approx(budget.total.percent, rel=0.05)
    assert [round(f, -1) for f in sorted(budget.lines_hz)][:1] == [50]
    assert any(abs(f - 480) < 1 for f in budget.lines_hz)


def test_what_a_machine_does_not_have_is_below_a_bound(measured):
    budget, truth, _ = measured(profile="adm")
    sources = {source.name: source for source in budget.sources}
    assert not sources["flicker"].measured
    assert not sources["mains"].measured
    assert budget.lines_hz == ()
    assert sources["mains"].percent < 0.005
    for name in ("electronics", "detectors", "shot"):
        assert sources[name].percent == pytest.approx(truth[name], rel=0.03)
    assert budget.seen.percent == pytest.approx(truth["total"], rel=0.04)
    assert "below" in "\n".join(budget.findings)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("detectors", {"detector_pa_rthz": 100.0}),
        ("shot", {"photocurrent_ua": 0.02}),
        ("intensity", {"rin_dbc_hz": -115.0}),
        ("electronics", {"loop_noise_percent": 0.4}),
    ],
)
def test_a_source_that_is_made_larger_is_the_one_that_grows(measured, name, values):
    budget, truth, _ = measured(profile="adm", **values)
    sources = {source.name: source for source in budget.sources}
    assert sources[name].percent == pytest.approx(truth[name], rel=0.05, abs=3 * sources[name].error)
    assert budget.seen.percent == pytest.approx(truth["total"], rel=0.05)


def test_the_record_has_what_was_printed(measured):
    budget, _, electronics = measured(profile="adm")
    record = budget.record(electronics.open())
    assert record.kind == KIND
    names = record.settings["sources"].split(", ")
    assert names[-2:] == ["total", "seen"]
    assert record.array("noise_percent")[names.index("total")] == budget.total.percent
    assert len(budget.findings) == 1 + len(names)


def test_lines_are_found_and_taken_out():
    """Two sines of known frequency and phase in white noise; the noise alone is left."""
    rng = np.random.default_rng(3)
    t = 50e-6 * np.arange(2000)
    lines = {50.0: 0.3, 431.7: 0.05}
    series = 0.02 * rng.normal(size=(2000, 6)) + 5.0 + 0.4 * t[:, None]
    for f, a in lines.items():
        series += a * np.cos(2 * np.pi * f * t[:, None] + np.arange(6))
    found = find_lines(series, 50.0)
    np.testing.assert_allclose(np.sort(found.frequency_hz), [50.0, 431.7], atol=0.2)
    for f, amplitude in zip(found.frequency_hz, found.amplitude, strict=True):
        expected = lines[min(lines, key=lambda known: abs(known - f))]
        np.testing.assert_allclose(np.abs(amplitude), expected, rtol=0.05)
        np.testing.assert_allclose(np.angle(amplitude * np.exp(-1j * np.arange(6))), 0, atol=0.1)
    np.testing.assert_allclose(scatter(found.rest), 0.02**2, rtol=0.2)
    assert find_lines(0.02 * rng.normal(size=(2000, 6)), 50.0).frequency_hz.size == 0
