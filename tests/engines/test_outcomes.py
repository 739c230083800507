"""What the optical engine calls a settle: each outcome by a loop built to have it."""

from __future__ import annotations

import numpy as np
import pytest

from labctl.devices import Outcome
from labctl.engines import Batch
from labctl.programs import place

N = 48


def batch_of(inject, start=None, step_id=0):
    inject = np.asarray(inject, float)
    size = len(inject)
    return Batch(inject, np.zeros((size, N)) if start is None else start, None, np.arange(size), step_id)


def ring(one_segment, product, blocks=3, **options):
    """u -> h1 -> ... -> -u: a loop of `blocks` lags with a loop gain of -product."""
    weights = place([np.eye(1)] * (blocks - 1) + [-np.eye(1)], N)
    gain = np.zeros(N)
    gain[0] = 1.0
    gain[1:blocks] = product ** (1 / (blocks - 1))
    return one_segment(weights, gain=gain, **options)


@pytest.mark.parametrize("noise_scale", [0.0, 1.0])
@pytest.mark.parametrize("profile", ["ideal", "adm", "nature2025"])
class TestRing:
    """Three lags and negative feedback: stable below a loop gain of 8, a limit cycle above (trip delay: less)."""

    def test_beyond_its_limit_it_cycles_and_is_never_called_converged(
        self, twin, one_segment, profile, noise_scale
    ):
        bench = twin(profile, noise_scale=noise_scale)
        program, segment = ring(one_segment, 200.0, tolerance=0.3)
        bench.engine.load(program)
        inject = np.linspace(-0.3, 0.3, 40)[:, None]
        result = bench.engine.solve(segment, batch_of(inject))
        assert not (result.outcome == Outcome.CONVERGED).any()
        assert set(result.outcome) <= {Outcome.LIMIT_CYCLE, Outcome.MAX_TIME}
        assert (result.outcome == Outcome.LIMIT_CYCLE).mean() > 0.5
        swing = bench.electronics.settle(
            bench.engine._codes(program, segment, bench.engine._coded(segment), batch_of(inject))[0], trace=True
        ).trace_counts[-40:, :, 0]
        unit = bench.electronics.spec.adc.units_per_code
        assert (np.ptp(swing, axis=0) * unit > 0.5).all()  # it really does swing

    def test_below_its_limit_it_settles(self, twin, one_segment, profile, noise_scale):
        bench = twin(profile, noise_scale=noise_scale, wait_us=60.0)
        program, segment = ring(one_segment, 3.0)
        bench.engine.load(program)
        result = bench.engine.solve(segment, batch_of(np.linspace(-0.3, 0.3, 40)[:, None]))
        assert (result.outcome == Outcome.CONVERGED).all()
