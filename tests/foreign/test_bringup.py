"""Bring-up on a bench that its authors' equations do not describe: what it finds there is so."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from foreign_bench import ForeignBench, ForeignElectronics, ForeignPanel, drawn_unit
from foreign_bench.bench import PANEL_SETTLE_US
from foreign_bench.field import placed
from labctl_calibration.bringup import bring_up
from labctl_calibration.rows_record import curve_of, trims_of

from labctl.programs import CellMap, encode_frame

pytestmark = pytest.mark.slow  # brings a whole bench up
N = 48


@pytest.fixture(scope="module")
def foreign():
    """Unit 3, brought up through its interfaces: `unit`, `bench`, `found`."""
    bench = ForeignBench(drawn_unit(3), seed=3)
    panel, electronics = ForeignPanel("panel", bench), ForeignElectronics("electronics", bench)
    with panel, electronics:
        found = bring_up(panel, electronics)
        yield SimpleNamespace(unit=bench.unit, bench=bench, found=found, panel=panel, electronics=electronics)


def test_the_bench_answers_as_its_records_say(foreign):
    """0.3% of full scale, rms over all rows and new biases, as on the twin."""
    assert foreign.found.known_answer_units < 0.003 * foreign.electronics.spec.adc.range_units


def test_cells_are_found_where_the_optics_see_them(foreign):
    """A panel askew is in no fit: what the map cannot bend stays, and is small beside a pixel."""
    middle = (np.arange(N) + 0.5)[:, None] * 22, (np.arange(N) + 0.5)[None, :] * 20
    for path in (0, 1):
        y, x = placed(foreign.unit, path, *middle)
        found = CellMap.of_record(foreign.found.panel, path).centres()
        error = np.stack([found[..., 0] - y, found[..., 1] - x - 960 * path])
        assert np.sqrt((error**2).mean()) < 0.15


def test_the_dead_channel_is_found_and_the_others_are_ranked_by_their_light(foreign):
    unit, panel = foreign.unit, foreign.found.panel
    dead = np.flatnonzero(panel.array("dead_channels"))
    assert dead.tolist() == np.flatnonzero(unit.efficiency == 0).tolist()
    order = panel.array("channel_order").astype(int)
    assert order[-1] == dead[0]
    ranks = np.argsort(np.argsort(-unit.efficiency))
    assert np.corrcoef(ranks[order], np.arange(N))[0, 1] > 0.8


def test_rows_are_measured_as_they_are(foreign):
    unit, trims = foreign.unit, trims_of(foreign.found.rows)
    assert np.abs(trims.leak_scale - unit.leak_scale).max() < 0.01
    assert np.abs(trims.leak_offset - unit.leak_offset).max() < 0.01
    assert np.corrcoef(trims.gain_scale, unit.gain_scale)[0, 1] > 0.9


def test_the_curve_is_met_though_the_fit_has_another_form(foreign):
    """gain x phi of every channel, up to one factor for all of them that light and gain share."""
    unit, found = foreign.unit, curve_of(foreign.found.rows)
    z = torch.linspace(-2.5, 2.5, 51, dtype=torch.float64)[:, None].expand(-1, N)
    x = (z.numpy() - unit.centre_units) * unit.slope / unit.reach
    erf = torch.erf(torch.from_numpy(x) * np.sqrt(np.pi) / 2).numpy()
    true = unit.reach * ((1 - unit.erf_share) * np.tanh(x) + unit.erf_share * erf)
    lives = unit.efficiency > 0
    fitted, true = found(z).numpy()[:, lives], true[:, lives]
    fitted = fitted - fitted.mean(axis=0)
    true = true - true.mean(axis=0)
    factor = (fitted * true).sum() / (fitted**2).sum()
    assert np.sqrt(((factor * fitted - true) ** 2).mean()) < 0.02


def test_an_even_frame_comes_out_even(foreign):
    """Levels by the record: every live cell that can reach it gives half of full scale over dark."""
    record = foreign.found.panel
    signs = np.random.default_rng(0).choice([-0.5, 0.5], (N, N))
    foreign.panel.show(encode_frame(signs, foreign.panel.spec, record).levels)
    foreign.bench.advance(PANEL_SETTLE_US)
    codes = np.concatenate([np.eye(N), -np.eye(N)]) * foreign.electronics.spec.probe_dac.max_code
    seen = foreign.electronics.probe(codes.astype(np.int64), at="phi", repeats=8).counts
    slopes = (seen[:N] - seen[N:]).T / 2 * foreign.electronics.spec.offset_dac.units_per_code
    span = record.array("span_units").min(axis=0)
    full_scale = float(record.array("full_scale_units")[0])
    able = span > 0.75 * full_scale
    assert able.mean() > 0.6
    off = slopes / full_scale - signs
    assert np.abs(np.median(off[able & (signs > 0)])) < 0.02
    assert np.abs(np.median(off[able & (signs < 0)])) < 0.02
