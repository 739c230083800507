"""Control charts: run lengths against published tables and simulation, limits, steps found."""

import math

import numpy as np
import pytest
from labctl_calibration.drift.charts import Baseline, Charts
from labctl_calibration.drift.run_length import (
    Design,
    average_run_length,
    false_alarm_rate,
    limit_for,
    siegmund,
)

from labctl.devices import ConfigError


def _known(m=1):
    names = tuple(f"series {i}" for i in range(m))
    return Baseline(names, np.zeros(m), np.ones(m), np.zeros(m), math.inf)


@pytest.mark.parametrize(
    ("design", "limit", "shift", "published"),
    [
        (Design("ewma", 0.25), 2.998, 0.0, 500.0),  # Lucas and Saccucci 1990, table 3
        (Design("ewma", 0.1), 2.814, 0.0, 500.0),
        (Design("ewma", 0.1), 2.814, 1.0, 10.3),
        (Design("cusum", 0.5), 5.0, 0.0, 465.0),  # Montgomery, table 9.3
        (Design("cusum", 0.5), 5.0, 1.0, 10.4),
        (Design("cusum", 0.5), 5.0, 2.0, 4.01),
    ],
)
def test_run_lengths_are_the_published_ones(design, limit, shift, published):
    assert float(average_run_length(design, limit, shift)) == pytest.approx(published, rel=0.012)


def test_siegmunds_approximation_agrees_with_the_chain():
    for limit, slack in ((5.0, 0.5), (4.0, 0.5), (10.0, 0.25)):
        one_sided = 2 * float(average_run_length(Design("cusum", slack), limit))
        assert siegmund(limit, slack) == pytest.approx(one_sided, rel=0.05)
    assert siegmund(5.0, 0.5, 1.0) == pytest.approx(10.34, rel=0.01)


@pytest.mark.parametrize("design", [Design("ewma", 0.4), Design("cusum", 1.5)])
def test_a_limit_gives_the_rate_it_was_asked_for(design):
    for rate in (1e-2, 1e-5):
        limit = limit_for(design, rate)
        assert 1 / float(average_run_length(design, limit)) == pytest.approx(rate, rel=0.01)


def test_a_baseline_that_was_estimated_asks_for_wider_limits():
    design = Design("ewma", 0.4)
    known, estimated = limit_for(design, 1e-4), limit_for(design, 1e-4, 0.18, 31.0)
    assert estimated > known
    assert false_alarm_rate(design, known, 0.18, 31.0) > 3e-4
    assert false_alarm_rate(design, estimated, 0.18, 31.0) == pytest.approx(1e-4, rel=0.01)


def _simulated_rate(*, estimated, series=400, readings=500, seed=1):
    """False alarms a series and reading, and the rate that the charts were set to."""
    rng = np.random.Generator(np.random.Philox(key=seed))
    rate = 4e-3
    names = tuple(f"series {i}" for i in range(series))
    baseline = Baseline.of(names, rng.standard_normal((32, series))) if estimated else _known(series)
    charts = Charts.new(baseline, interval_s=1.0, alarms_per_day=rate * series * 86400.0)
    alarms = 0
    for reading in rng.standard_normal((readings, series)):
        charts, found = charts.after(reading)
        alarms += len(found)
        reset = np.ones(series)
        reset[[alarm.index for alarm in found]] = 0.0
        charts = Charts(
            baseline, charts.limits, charts.z * reset, charts.up * reset, charts.down * reset, charts.count
        )
    return alarms / (series * readings), rate


def test_simulated_alarms_come_at_the_set_rate_or_below():
    seen, rate = _simulated_rate(estimated=False)
    assert 0.5 * rate < seen < 1.1 * rate  # the two charts of a series often alarm together


def test_with_an_estimated_baseline_too():
    seen, rate = _simulated_rate(estimated=True)
    assert 0.3 * rate < seen < 1.25 * rate


def test_a_step_of_six_sd_is_found_within_three_readings():
    rng = np.random.Generator(np.random.Philox(key=2))
    charts = Charts.new(_known(), interval_s=10.0)
    for reading in rng.standard_normal((200, 1)):
        charts, found = charts.after(reading)
        assert not found
    late = 0
    for _ in range(200):
        now = charts.afresh()
        for _ in range(3):
            now, found = now.after(6.0 + rng.standard_normal(1))
            if found:
                break
        late += not found
    assert late == 0


def test_an_alarm_says_what_it_saw():
    baseline = Baseline(("dark",), np.array([0.5]), np.array([0.1]), np.array([0.0]), math.inf)
    charts, found = Charts.new(baseline, interval_s=60.0).after(np.array([1.5]))
    (alarm,) = found
    assert alarm.name == "dark"
    assert alarm.change == pytest.approx(1.0)
    assert alarm.over > 1
    assert charts.afresh().after(np.array([0.5]))[1] == ()
    assert charts.after(np.array([np.nan]))[1][0].over == math.inf


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Charts.new(_known(), interval_s=0.0), "interval_s is 0.0; allowed: above 0"),
        (lambda: Charts.new(_known(), interval_s=1.0, alarms_per_day=0.0), "alarms_per_day"),
        (lambda: Baseline.of(("a",), np.zeros((3, 1))), "baseline of 3 readings; allowed: 8 or more"),
        (lambda: Baseline.of(("a",), np.zeros((9, 1))), "baseline of a: the sd is 0"),
        (lambda: Design("ewma", 0.0), "weight of an EWMA is 0.0"),
        (lambda: limit_for(Design("ewma", 0.4), 0.5), "rate of false alarms is 0.5"),
        (lambda: limit_for(Design("ewma", 0.4), 0.1, 0.0, 3.0), "3 degrees of freedom"),
    ],
)
def test_what_makes_no_chart_is_refused(make, words):
    with pytest.raises(ConfigError, match=words):
        make()
