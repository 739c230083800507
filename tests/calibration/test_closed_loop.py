"""What closing the loop adds, against the truth of drawn benches."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from labctl_calibration import calibrate_steady
from labctl_calibration.closed_loop import equilibria, loop_constant, measure_rows
from labctl_calibration.effective_map import measure_map
from labctl_calibration.row_errors import Settles, relative_rows
from labctl_sim_devices import ElectronicsTwin, OpticalBench, PanelTwin, load_profile

from labctl.devices import DeviceFault, LoopElectronics
from labctl.physics import FittedMap
from labctl.programs import RowTrims

N = 48


@pytest.fixture(scope="module")
def measured():
    """Drawn bench by seed: (bench, electronics, light, rows, trims, truth at the time); made once."""
    made = {}

    def of(unit_seed):
        if unit_seed not in made:
            bench = OpticalBench(load_profile("unit", {}), seed=unit_seed, unit_seed=unit_seed)
            panel, electronics = PanelTwin("panel", bench), ElectronicsTwin("electronics", bench)
            panel.open()
            electronics.open()
            one = SimpleNamespace(bench=bench, panel=panel, electronics=electronics)
            show(one, np.random.default_rng(0).choice([-1.0, -0.5, 0.5, 1.0], size=(N, N)))
            one.light = measure_map(electronics, probes=3200)
            one.rows = measure_rows(electronics, one.light)
            one.truth = bench.truth()
            one.trims = RowTrims(
                one.rows.leak_scale, one.rows.leak_offset, one.rows.gain_scale, one.rows.offset_units,
                one.rows.light_offset,
            )  # fmt: skip
            made[unit_seed] = one
        return made[unit_seed]

    return of


def show(one, fractions):
    """A frame by the twin's own design, whatever the unit makes of it, nulled: the null's codes [n]."""
    profile = one.bench.profile
    height, width = profile.cell_px
    levels = np.zeros(profile.panel_shape_px, np.uint16)
    for path, (top, left) in enumerate(profile.path_origin_px):
        share = np.clip(fractions if path == 0 else -fractions, 0, None)
        cells = np.rint(np.arcsin(np.sqrt(share)) / (np.pi / 2) * (profile.panel_levels - 1))
        field = np.kron(cells, np.ones((height, width)))
        levels[top : top + N * height, left : left + N * width] = field
    one.panel.show(levels)
    return calibrate_steady(one.electronics).array("null_codes").astype(np.int64)


def rms(values):
    return float(np.sqrt(np.mean(np.square(values))))


def states(count=400):
    return np.random.default_rng(3).uniform(-2, 2, (count, N))


def true_drive(truth, z):
    """What stands behind a row's gain setting [B, n]: scale (y + the offset in front of the gain)."""
    loop = truth.law.loop
    return loop.scale.numpy() * (truth.response(z) + loop.offset_per_gain.numpy())


def fitted_drive(light, rows, constant, z):
    fitted = FittedMap(torch.from_numpy(light.powers), rows.curve, torch.from_numpy(constant))
    return rows.gain_scale * fitted(torch.from_numpy(z)).numpy()


@pytest.mark.parametrize("unit_seed", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_leaks_and_offsets(measured, unit_seed):
    one = measured(unit_seed)
    loop = one.truth.law.loop
    assert rms(one.rows.leak_scale - loop.leak_scale.numpy()) < 3e-4
    assert rms(one.rows.leak_offset - loop.leak_offset.numpy()) < 2e-4
    true_offset = (loop.scale * loop.offset).numpy()
    assert true_offset.std() > 0.03
    assert (
        rms(one.rows.offset_units - true_offset) < 3e-4
    )  # mains moves all of them by 2e-3, and averages out


@pytest.mark.parametrize("unit_seed", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_the_product_of_gain_and_curve(measured, unit_seed):
    """Neither is known apart from the other; together they are what acts: within 1.5% of its spread."""
    one = measured(unit_seed)
    wanted = true_drive(one.truth, states())
    off = fitted_drive(one.light, one.rows, one.rows.light_offset, states()) - wanted
    assert rms(off - off.mean(axis=0)) < 0.015 * wanted.std()
    assert rms(off.mean(axis=0)) < 0.03  # the null's rounding is in it
    gains = np.corrcoef(one.rows.gain_scale, one.truth.law.loop.scale.numpy())[0, 1]
    assert gains > 0.995


def test_stated_errors_are_those_of_the_rows(measured):
    """Of 48 rows; what a unit alone cannot decide is the benchmark's (optical_calibration)."""
    one = measured(1)
    gain = one.truth.law.loop.scale.numpy()
    beside = one.rows.relative
    off = (beside.gain - gain / np.exp(np.log(gain).mean())) / beside.gain_error
    assert 0.7 < rms(off) < 1.4
    assert beside.gain_error.max() < 3e-3
    assert beside.gain.prod() == pytest.approx(1.0)
    lives = one.bench.unit.input_efficiency[0] > 0.05
    assert beside.slope[lives].mean() == pytest.approx(1.0, abs=1e-6)
    assert np.isinf(beside.slope_error).tolist() == (~lives).tolist()


def test_errors_grow_as_settles_get_few(measured):
    """By the root of their number, as far as the map's own errors are not in it."""
    one = measured(1)
    gain, bias, z = equilibria(one.electronics, one.light, seed=5, count=512)
    rows = one.rows
    wanted = (rows.leak_scale + rows.leak_offset) * z - bias - rows.offset_units
    light = replace(one.light, error=np.zeros_like(one.light.error))
    made = Settles(*(torch.from_numpy(part) for part in (z, wanted, gain)))
    gains, offsets = (torch.from_numpy(part) for part in (rows.gain_scale, rows.light_offset))
    quarter = np.random.default_rng(5).choice(512, 128, replace=False)  # what flickers differs in time
    fewer = Settles(made.z[quarter], made.wanted[quarter], made.gains[quarter])
    errors = [
        np.median(relative_rows(light, part, rows.curve, gains, offsets, np.zeros((2, N)), 1e-4).gain_error)
        for part in (made, fewer)
    ]
    assert errors[1] / errors[0] == pytest.approx(2.0, rel=0.3)


def test_the_curve_stays_within_what_states_can_be(measured):
    curve = measured(1).rows.curve
    far = curve(torch.tensor([[-30.0], [30.0]], dtype=torch.float64).expand(2, N))
    assert far.abs().max() < 1.0 + 30 * 0.05
    assert (curve.slope >= 0).all()


def test_the_equations_hold_within_the_stated_residual(measured):
    """At equilibria under biases that the fit did not see."""
    one = measured(1)
    gain, bias, z = equilibria(one.electronics, one.light, seed=5, count=256)
    rows = one.rows
    drive = gain * fitted_drive(one.light, rows, rows.light_offset, z)
    left = (rows.leak_scale + rows.leak_offset) * z - drive - bias - rows.offset_units
    inside = (np.abs(z) < 0.97 * one.electronics.spec.adc.range_units).all(axis=1)
    assert inside.sum() > 100
    assert rms(left[inside]) < 1.5 * rows.residual.mean()


@pytest.mark.slow  # a second unit
def test_the_constant_of_another_frame(measured):
    """With the null moved by the first frame's, as engines do, what is left belongs to the new frame."""
    one = measured(2)
    rng = np.random.default_rng(8)
    null = show(one, rng.uniform(-1, 1, (N, N)) * (rng.random((N, N)) < 0.3))
    unit = one.electronics.spec.offset_dac.units_per_code
    moved = np.rint(one.rows.light_offset / unit).astype(np.int64)
    one.electronics.set_offset_null(null + moved)
    light = measure_map(one.electronics, probes=1600)
    constant = loop_constant(one.electronics, light, one.rows.curve, one.trims)
    loop = one.bench.truth().law.loop
    wanted = true_drive(one.bench.truth(), states()) - loop.scale.numpy() * moved * unit
    new, old = (
        (fitted_drive(light, one.rows, c, states()) - wanted).mean(axis=0) for c in (constant, np.zeros(N))
    )
    assert rms(new) < 6e-3
    assert rms(old) > 2 * rms(new)


@pytest.mark.parametrize("broken", [lambda counts: 3.0 * counts, lambda counts: 0 * counts + 41])
def test_rows_that_do_not_follow_their_bias_are_a_fault(measured, monkeypatch, broken):
    one = measured(1)
    settle = LoopElectronics.settle

    def stuck(electronics, codes, **options):
        read = settle(electronics, codes, **options)
        read.counts[:, 7] = broken(read.counts[:, 7])
        return read

    monkeypatch.setattr(LoopElectronics, "settle", stuck)
    with pytest.raises(DeviceFault, match=r"rows 7 do not follow their bias: .* allowed: 0.5 to 2"):
        measure_rows(one.electronics, one.light)


def test_a_row_that_leaves_the_range_has_no_constant(measured, monkeypatch):
    one = measured(1)
    settle = LoopElectronics.settle

    def driven(electronics, codes, **options):
        read = settle(electronics, codes, **options)
        read.counts[:, 11] = electronics.spec.adc.max_code
        return read

    monkeypatch.setattr(LoopElectronics, "settle", driven)
    with pytest.raises(DeviceFault, match=r"row 11 leaves the ADC's range in most settles"):
        loop_constant(one.electronics, one.light, one.rows.curve, one.trims)
