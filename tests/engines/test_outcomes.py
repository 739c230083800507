"""What the optical engine calls a settle: each outcome by a loop built to have it."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from labctl_calibration import calibrate_open_loop, nominal_panel_record
from labctl_sim_devices import PanelTwin

from labctl.devices import Outcome, SettleCodes, UnsupportedFeature
from labctl.engines import Batch, DigitalEngine, OpticalLoopEngine
from labctl.programs import place

N = 48
BENCHES = [
    ("adm", 0.0),
    ("adm", 1.0),
    *(
        pytest.param(*bench, marks=pytest.mark.slow)
        for bench in (("nature2025", 0.0), ("nature2025", 1.0), ("ideal", 1.0))
    ),
]


def batch_of(inject, start=None, step_id=0):
    inject = np.asarray(inject, float)
    size = len(inject)
    return Batch(inject, np.zeros((size, N)) if start is None else start, None, np.arange(size), step_id)


def spread(size=40, width=0.3):
    return np.linspace(-width, width, size)[:, None]


def ring(one_segment, product, blocks=3, **options):
    """u -> h1 -> ... -> -u: a loop of `blocks` lags with a loop gain of -product."""
    weights = place([np.eye(1)] * (blocks - 1) + [-np.eye(1)], N)
    gain = np.zeros(N)
    gain[0] = 1.0
    gain[1:blocks] = product ** (1 / (blocks - 1))
    return one_segment(weights, gain=gain, **options)


def swing_of(twin, segment, inject):
    """Peak-to-peak of u (units) in the last 30 samples, asked of the electronics themselves."""
    spec = twin.electronics.spec
    bias = np.zeros((len(inject), N), np.int64)
    bias[:, 0] = np.rint(inject[:, 0] / spec.dac.units_per_code)
    gain_range = np.ones(N, np.int64)
    gain_range[0] = 0
    gain = np.where(gain_range == 0, spec.state_gain.code(segment.gain), spec.hidden_gain.code(segment.gain))
    codes = SettleCodes(
        bias,
        gain,
        np.full((1, N), spec.max_leak_code),
        gain_range,
        np.zeros_like(bias),
        0,
        np.arange(len(bias)),
    )
    trace = twin.electronics.settle(codes, trace=True).trace_counts[-30:, :, 0]
    return np.ptp(trace, axis=0) * spec.adc.units_per_code


@pytest.mark.parametrize(("profile", "noise_scale"), BENCHES)
class TestRing:
    """Three lags and negative feedback: settled below a loop gain of 8 (delay: less), a limit cycle above."""

    def test_a_cycle_is_flagged_and_never_called_converged(self, twin, one_segment, profile, noise_scale):
        """Also when every settle of the program cycles, so that nothing quiet was ever seen."""
        bench = twin(profile, noise_scale=noise_scale)
        program, segment = ring(one_segment, 200.0, tolerance=0.3)
        bench.engine.load(program)
        assert (swing_of(bench, segment, spread()) > 0.5).all()
        result = bench.engine.solve(segment, batch_of(spread()))
        assert set(result.outcome.tolist()) <= {Outcome.LIMIT_CYCLE, Outcome.MAX_TIME}
        # tolerance wide enough for the halves to agree on most: exactly then averaging hides the cycle
        assert (result.outcome == Outcome.LIMIT_CYCLE).mean() > 0.5

    def test_below_its_limit_it_settles(self, twin, one_segment, profile, noise_scale):
        bench = twin(profile, noise_scale=noise_scale, wait_us=60.0)
        program, segment = ring(one_segment, 3.0)
        bench.engine.load(program)
        result = bench.engine.solve(segment, batch_of(spread()))
        assert (result.outcome == Outcome.CONVERGED).all()
        assert (swing_of(bench, segment, spread()) < 0.06).all()

    def test_a_cycling_segment_does_not_disturb_a_quiet_one(self, twin, one_segment, profile, noise_scale):
        bench = twin(profile, noise_scale=noise_scale, wait_us=60.0)
        program, loud = ring(one_segment, 200.0, tolerance=0.3)
        _, calm = ring(one_segment, 3.0)
        bench.engine.load(replace(program, segments=(loud, calm)))
        assert not (bench.engine.solve(loud, batch_of(spread())).outcome == Outcome.CONVERGED).any()
        assert (bench.engine.solve(calm, batch_of(spread())).outcome == Outcome.CONVERGED).all()


@pytest.mark.parametrize(
    "profile",
    [
        pytest.param("ideal", marks=pytest.mark.slow),
        "adm",
        pytest.param("nature2025", marks=pytest.mark.slow),
    ],
)
class TestTime:
    """Reading before the loop has settled gives what is there, and says so."""

    def test_too_short_a_wait_is_max_time(self, twin, one_segment, profile):
        bench = twin(profile)
        weights = place([np.eye(1), 0.95 * np.eye(1)], N)
        program, segment = one_segment(weights, gain=[0.97, 1.0] + [0.0] * (N - 2), tolerance=0.02)
        bench.engine.load(program)
        inject = np.array([[0.3], [-0.4]])
        start = np.zeros((2, N))
        start[:, :2] = [[-2.0, -2.0], [2.0, 2.0]]
        tau = bench.electronics.spec.tau_us
        early = bench.engine.solve(segment, batch_of(inject, start), wait_us=0.0)
        assert early.outcome.tolist() == [Outcome.MAX_TIME] * 2
        late = bench.engine.solve(segment, batch_of(inject, start), wait_us=150 * tau)
        assert late.outcome.tolist() == [Outcome.CONVERGED] * 2
        assert np.abs(early.z[:, 0] - late.z[:, 0]).min() > 0.1
        assert (early.step_norm > late.step_norm).all()
        assert (early.residual_norm > 3 * late.residual_norm).all()
        assert early.ledger.wait_us == 0.0
        assert late.ledger.wait_us == pytest.approx(2 * 150 * tau)

    def test_settle_times_are_the_loops(self, twin, one_segment, profile):
        """u alone with leak 1: start 2 units off, 1% of full scale is left after tau ln(2 / 0.038)."""
        bench = twin(profile, seed=2)
        weights = place([np.eye(1), np.eye(1)], N)
        program, segment = one_segment(weights, gain=0.0)
        bench.engine.load(program)
        start = np.zeros((64, N))
        start[:, 0] = 2.0
        times, transient = bench.engine.settling(segment, batch_of(np.zeros((64, 1)), start))
        spec = bench.electronics.spec
        expected = spec.tau_us * math.log(2.0 / (0.01 * 3.8))
        # noise: a few repeats averaged, so the crossing jitters by a fraction of a tau
        np.testing.assert_allclose(np.median(times), expected, rtol=0.01 if profile == "ideal" else 0.05)
        window = spec.wait_us + (np.arange(40) + 1) / spec.sample_rate_mhz
        left = 2.0 * np.exp(-window / spec.tau_us).mean()
        np.testing.assert_allclose(np.median(transient), left, atol=1e-4 if profile == "ideal" else 2e-3)

    def test_a_loop_that_cycles_is_unsettled(self, twin, one_segment, profile):
        bench = twin(profile)
        program, segment = ring(one_segment, 200.0, tolerance=0.3)
        bench.engine.load(program)
        times, _ = bench.engine.settling(segment, batch_of(spread(16)))
        assert np.isnan(times).mean() > 0.5


class TestSaturated:
    """A clipped bias or a clipped u; hidden rows may run to many units harmlessly."""

    def one(self, twin, one_segment, inject, *, leak=1.0, gains=(0.5, 1.0), kind="implicit", bias=0.0):
        bench = twin("adm", wait_us=30.0)
        weights = place([np.eye(1), np.eye(1)], N)
        gain = np.array([*gains] + [0.0] * (N - 2))
        program, segment = one_segment(
            weights, gain=gain, leak=[leak] + [1.0] * (N - 1), bias=[0.0, bias] + [0.0] * (N - 2), kind=kind
        )
        bench.engine.load(program)
        return bench.engine.solve(segment, batch_of(inject))

    def test_a_clipped_injection(self, twin, one_segment):
        result = self.one(twin, one_segment, [[0.5], [4.2], [-3.9]], leak=1.0, gains=(0.0, 1.0))
        assert result.outcome.tolist() == [Outcome.CONVERGED, Outcome.SATURATED, Outcome.SATURATED]
        (note,) = [c for c in result.coercions if c.field == "bias"]
        assert (note.requested, note.applied, note.count) == (4.2, pytest.approx(3.8), 2)

    def test_a_clipped_injection_of_an_evaluation(self, twin, one_segment):
        result = self.one(twin, one_segment, [[0.5], [4.2]], gains=(0.0, 1.0), kind="evaluate")
        assert result.outcome.tolist() == [Outcome.CONVERGED, Outcome.SATURATED]

    def test_a_state_beyond_the_adc(self, twin, one_segment):
        """u = 2 / 0.4 = 5 units: no DAC was clipped, but the read-out was."""
        result = self.one(twin, one_segment, [[0.1], [2.0]], leak=0.4, gains=(0.0, 1.0))
        assert result.outcome.tolist() == [Outcome.CONVERGED, Outcome.SATURATED]
        assert result.z[1, 0] == pytest.approx(3.8)

    def test_hidden_rows_beyond_the_adc_are_harmless(self, twin, one_segment):
        result = self.one(twin, one_segment, [[1.0], [-1.0]], gains=(0.5, 15.0))
        np.testing.assert_allclose(np.abs(result.z[:, 1]), 3.8)  # what the ADC shows of 11 units
        assert result.outcome.tolist() == [Outcome.CONVERGED] * 2
        evaluated = self.one(twin, one_segment, [[1.0], [-1.0]], gains=(0.0, 15.0), kind="evaluate")
        assert evaluated.outcome.tolist() == [Outcome.CONVERGED] * 2


class TestMultistable:
    """u = tanh(hidden tanh(u)): below a slope of 1 one root, above it three."""

    @pytest.mark.parametrize("profile", [pytest.param("ideal", marks=pytest.mark.slow), "adm"])
    @pytest.mark.parametrize(("hidden", "several"), [(0.5, False), (0.8, False), (3.0, True)])
    def test_a_second_start_finds_other_roots_where_there_are_any(
        self, twin, one_segment, profile, hidden, several
    ):
        bench = twin(profile)
        weights = place([np.eye(1), np.eye(1)], N)
        program, segment = one_segment(weights, gain=[1.0, hidden] + [0.0] * (N - 2))
        bench.engine.load(program)
        batch = batch_of([[0.05], [-0.05]])
        first = bench.engine.solve(segment, batch)
        assert bench.engine.second_start(segment, batch, first.z).tolist() == [several, several]


def test_a_micromirror_device_is_refused(twin):
    """Pulse-width planes outlast the loop's settling (conventions, section 3)."""

    class Mirrors(PanelTwin):
        @property
        def spec(self):
            return replace(super().spec, kind="dmd", n_levels=2)

    bench = twin("adm")
    mirrors = Mirrors("mirrors", bench.bench)
    record = nominal_panel_record(bench.panel.spec, N, "test")
    with pytest.raises(UnsupportedFeature, match=r"^mirrors: build OpticalLoopEngine: pulse-width"):
        OpticalLoopEngine(mirrors, bench.electronics, record, calibrate_open_loop)


def test_noise_off_and_codes_fine_the_optical_engine_is_the_digital_one(twin, toy, one_segment):
    """The bar of the issue, in small: median error of u <= 1e-6 at 80 tau."""
    bench = twin("ideal", wait_us=60.0)
    network = toy((2, 23, 23), strength=0.7)
    rng = np.random.default_rng(0)
    program, segment = one_segment(
        place(network.weights(), N), gain=0.8, leak=0.9, bias=0.2 * rng.normal(size=N)
    )
    digital = DigitalEngine(N)
    bench.engine.load(program)
    digital.load(program, weights=bench.engine.measured_weights())
    batch = batch_of(rng.normal(size=(200, 2)))
    error = np.abs(bench.engine.solve(segment, batch).z - digital.solve(segment, batch).z)[:, :2].max(axis=1)
    assert np.median(error) <= 1e-6
    assert np.quantile(error, 0.99) <= 1e-3
