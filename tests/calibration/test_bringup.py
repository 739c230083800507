"""The whole bring-up on shipped rigs: what it finds, what it finds nothing of, what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from labctl_calibration.bringup import bring_up
from labctl_calibration.known_answers import KNOWN_ANSWERS, WORST_ANSWER, KnownAnswers
from labctl_calibration.optical import loop_procedures
from labctl_calibration.rows_record import curve_of, trims_of
from labctl_calibration.store import RecordStore

from labctl.devices import DeviceFault, LoopElectronics, WeightModulator
from labctl.rig import load_rig
from labctl.rig.rig import Rig

N = 48


@pytest.fixture(scope="module")
def plain():
    """(what was found on the twin without faults, what was told, full scale in units)."""
    told = []
    with Rig(load_rig("optical-twin")) as rig:
        electronics = rig.device(LoopElectronics)
        found = bring_up(rig.device(WeightModulator), electronics, tell=lambda *what: told.append(what))
        return found, told, electronics.spec.adc.range_units


def test_a_drawn_unit_answers_as_its_records_say(unit_bringup):
    """0.3% of full scale, rms over all rows and new biases; no truth is asked."""
    assert unit_bringup.found.known_answer_units < 0.003 * unit_bringup.full_scale_units
    assert f"{KNOWN_ANSWERS} known answers: missed by" in unit_bringup.found.findings[-1]


def test_its_records_name_the_devices_and_rest_on_each_other(unit_bringup):
    found = unit_bringup.found
    rows = found.rows_resting_on("abc")
    assert rows.upstream == ("abc",)
    assert {found.panel.device_serial, rows.device_serial} == set(unit_bringup.serials)
    assert found.panel.taken_at <= rows.taken_at


def test_a_drawn_unit_is_measured_as_it_is(unit_bringup):
    trims, loop = trims_of(unit_bringup.found.rows), unit_bringup.truth.law.loop
    assert np.abs(trims.leak_scale - loop.leak_scale.numpy()).max() < 3e-3
    assert np.abs(trims.leak_offset - loop.leak_offset.numpy()).max() < 3e-3
    assert np.abs(trims.offset_units - (loop.scale * loop.offset).numpy()).max() < 0.015
    assert np.corrcoef(trims.gain_scale, loop.scale.numpy())[0, 1] > 0.99


@pytest.mark.slow  # brings a bench up
def test_on_a_machine_without_faults_next_to_nothing_is_wrong(plain):
    found, _, full_scale = plain
    trims, curve = trims_of(found.rows), curve_of(found.rows)
    assert np.abs(trims.leak_scale - 1).max() < 2e-3
    assert np.abs(trims.leak_offset).max() < 2e-3
    assert np.abs(trims.offset_units).max() < 3e-3
    assert np.abs(trims.light_offset_units).max() < 0.02
    z = torch.linspace(-3, 3, 61, dtype=torch.float64)[:, None].expand(-1, N)
    acting = trims.gain_scale * curve(z).numpy()
    assert np.abs(acting - np.tanh(z.numpy())).max() < 0.02
    assert found.known_answer_units < 0.001 * full_scale
    assert any("no dead input channel, no weak input channel" in line for line in found.findings)


@pytest.mark.slow  # brings a bench up
def test_what_is_told_on_the_way(plain):
    _, told, _ = plain
    steps = [what for what, _, _ in told]
    assert steps[-5:] == ["rows, loop closed", "known answers", "noise", "gain margin", "done"]
    assert all(0 <= done <= total for _, done, total in told)


@pytest.mark.parametrize("change", [np.zeros_like, lambda levels: np.full_like(levels, 40)])
def test_a_frame_that_never_changes_is_one_fault(panels, change):
    """A lens cap, or a panel that hangs: nothing is made up out of noise."""
    _, modulator, electronics = panels.opened(1, change=change)
    with pytest.raises(DeviceFault) as caught:
        bring_up(modulator, electronics)
    assert "allowed" in str(caught.value)


def test_what_the_bench_is_good_for_is_kept(unit_bringup, tmp_path):
    """A budget whose total is what states scatter by, and a gain below oscillation, beside the records."""
    found = unit_bringup.found
    assert found.noise.seen.percent == pytest.approx(found.noise.total.percent, rel=0.08)
    assert found.margin.finding in found.findings
    assert 1.0 < found.margin.safe < found.margin.reached < found.margin.onset
    store = RecordStore(tmp_path)
    found.keep(store)
    noise = store.newest("noise budget", unit_bringup.serials[1]).record
    margin = store.newest("gain margin", unit_bringup.serials[1]).record
    panel, weights, rows = noise.upstream
    assert margin.upstream == (panel, rows)
    assert store.get(rows).record.upstream == (panel, weights)


@pytest.mark.slow  # brings a bench up
def test_records_that_do_not_describe_the_bench_are_refused(monkeypatch, panels):
    """Known answers that are missed by more than 1% of full scale."""
    _, modulator, electronics = panels.opened(1, profile="adm")
    full_scale = electronics.spec.adc.range_units
    wrong = KnownAnswers(np.full((2, N), 1.5 * WORST_ANSWER * full_scale))
    monkeypatch.setattr(loop_procedures, "ask_known_answers", lambda *_: wrong)
    with pytest.raises(DeviceFault, match=r"states miss what the records predict by .* allowed"):
        bring_up(modulator, electronics)
