"""Procedures on oscillator boards: values within their uncertainties, and every fault noticed."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
from labctl_calibration.oscillators import (
    ANCHORS,
    COUPLINGS,
    DIFFUSION,
    ESSENTIAL,
    FREQUENCIES,
    LAG,
    READ_PATHS,
    SETTLING,
    TEMPERATURE,
    agreement,
    anchors,
    couplings,
    diffusion,
    lag,
    settling,
    skew,
)
from labctl_calibration.oscillators.fitted import FittedBoard
from labctl_calibration.oscillators.skew import ReadPaths
from labctl_calibration.oscillators.stationary import fit_row
from labctl_calibration.oscillators.twin import FittedBoardTwin
from labctl_calibration.procedure import Devices, Unidentifiable
from labctl_sim_devices.oscillator_board import OscillatorBoardTwin

from labctl.devices import ConfigError, DeviceFault, FrequencyCount, OscillatorBoard

DEAD_CELL = 5


@pytest.fixture(scope="module")
def few():
    """Fewer samples than a person takes: errors are larger, and said to be."""
    patch = pytest.MonkeyPatch()
    for module, name, value in (
        (anchors, "PER_SEGMENT", 24), (couplings, "PER_SEGMENT", 24), (lag, "PER_SEGMENT", 24),
        (skew, "SAMPLES", 1024), (diffusion, "PAIRS", 256), (settling, "SAMPLES", 1024),
    ):  # fmt: skip
        patch.setattr(module, name, value)
    yield
    patch.undo()


@pytest.fixture(scope="module")
def measured(oscillators, few):
    """(bench, board, records, what every procedure measured) of a board with one dead cell."""
    bench, board = oscillators.drawn()
    dead = bench.drawn.dead.copy()
    dead[DEAD_CELL] = 1.0
    bench.drawn = replace(bench.drawn, dead=dead)
    bench.set_terms({})
    records, found = {}, {}
    for procedure in (*ESSENTIAL, LAG, DIFFUSION, SETTLING):
        found[procedure.name] = oscillators.taken(procedure, board, records)
    return bench, board, records, found


def errors(found, array, truth):
    """Errors in stated uncertainties."""
    z = (found.arrays[array] - truth) / found.arrays[f"{array}_sd"]
    return z[np.isfinite(z)]


def test_every_value_lies_within_what_its_uncertainty_says(measured) -> None:
    bench, _, _, found = measured
    unit, live = bench.unit, bench.unit.dead < 0.5
    every = [
        errors(found["read-paths"], "skew_rad", unit.read_skew_rad),
        errors(found["read-paths"], "bow_sine_rad", unit.read_bow_rad[:, 0]),
        errors(found["anchors"], "gain", 1 + unit.injection_gain),
        errors(found["anchors"], "phase_rad", unit.injection_phase_rad),
        errors(found["couplings"], "gain", unit.coupling_gain)[live],
        errors(found["couplings"], "offset_units", unit.coupling_offset)[live],
        errors(found["couplings"], "bow_even", unit.bow_even)[live],
        errors(found["couplings"], "bow_odd", unit.bow_odd)[live],
        errors(found["phase-lag"], "lag_rad", np.where(live, unit.lag_rad, np.nan)),
        errors(found["phase-noise"], "diffusion_rad2_per_unit", bench.profile.diffusion_rad2_per_unit),
    ]
    for z in every:
        assert np.abs(z).max() < 5
    inside = np.mean(np.abs(np.concatenate(every)) < 1.96)
    assert 0.88 < inside < 0.99  # about 220 values: three standard deviations round 95%


def test_what_still_creeps_to_its_rest_does_not_bias_the_fit(oscillators, few) -> None:
    """Without noise, and with codes too fine to matter, what is left is the model's own error."""
    bench, board = oscillators.drawn(3, read_bits=16, start_bits=16)
    bench.scale_noise(0.0)
    records = {}
    for procedure in (*ESSENTIAL, LAG):
        oscillators.taken(procedure, board, records)
    live = bench.unit.dead < 0.5
    for kind, array, truth in (
        (anchors.KIND, "gain", 1 + bench.unit.injection_gain),
        (couplings.KIND, "gain", np.where(live, bench.unit.coupling_gain, np.nan)),
        (lag.KIND, "lag_rad", np.where(live, bench.unit.lag_rad, np.nan)),
    ):
        away = records[kind].array(array) - truth
        assert np.sqrt(np.nanmean(away**2)) < 2e-4, kind


def test_trims_null_what_was_counted(measured) -> None:
    bench, board, _, found = measured
    arrays = found["frequencies"].arrays
    np.testing.assert_allclose(arrays["detuning_units"], bench.detuning(), atol=3e-4)  # it warms up meanwhile
    left = bench.detuning() + arrays["trim_codes"] * board.spec.detuning.units_per_code
    assert np.abs(left).max() < 0.6 * board.spec.detuning.units_per_code
    assert found["frequencies"].accepted


def test_a_dead_cell_is_found_and_named(measured) -> None:
    _, board, _, found = measured
    assert np.flatnonzero(found["couplings"].arrays["dead"]).tolist() == [DEAD_CELL]
    assert f"{board.spec.topology.name(DEAD_CELL)} is dead" in found["couplings"].findings


def test_read_paths_give_the_true_phases_back(measured) -> None:
    bench, _, records, _ = measured
    theta = np.linspace(-3, 3, 50)[:, None].repeat(9, axis=1)
    sine, cosine = bench.unit.read_bow_rad.T
    seen = theta + bench.unit.read_skew_rad + sine * np.sin(2 * theta) + cosine * np.cos(2 * theta)
    assert np.abs(ReadPaths(records[skew.KIND]).phases(seen) - theta).max() < 0.01


def test_oscillators_settle_as_their_anchors_pull(measured) -> None:
    bench, _, _, found = measured
    arrays = found["settling"].arrays
    assert found["settling"].accepted
    z = (arrays["rate_per_unit"] - (1 + bench.unit.injection_gain)) / arrays["rate_per_unit_sd"]
    assert np.abs(z).max() < 5


def test_temperature_coefficients_while_it_warms_up(oscillators) -> None:
    bench, board = oscillators.drawn(2)
    records = {}
    oscillators.taken(FREQUENCIES, board, records)
    found = oscillators.taken(TEMPERATURE, board, records)
    assert np.abs(errors(found, "units_per_c", bench.unit.units_per_c)).max() < 4


def test_without_a_change_of_temperature_there_is_no_coefficient(oscillators) -> None:
    bench, board = oscillators.drawn(2)
    bench.set_terms({"temperature": 0.0})
    records = {}
    oscillators.taken(FREQUENCIES, board, records)
    with pytest.raises(Unidentifiable, match="detuning and temperature coefficient apart"):
        oscillators.taken(TEMPERATURE, board, records)


class Faulty(OscillatorBoardTwin):
    """Oscillator 2 dead from count `dies_at` on, 3 without a trim, the reference off by a factor."""

    dies_at, stuck, reference = 10**9, False, 1.0
    counted = runs = 0
    on_run: ClassVar[dict] = {}
    silent_after = 10**9

    def _do_count_frequency(self, gate_us, detuning):
        self.counted += 1
        codes = detuning.copy()
        if self.stuck:
            codes[3] = 0
        found = super()._do_count_frequency(gate_us, codes)
        counts = found.counts.copy()
        if self.counted >= self.dies_at:
            counts[2] = 0
        return FrequencyCount(counts, int(found.reference_count * self.reference), gate_us)

    def _do_run(self, codes, read_at_us):
        self.runs += 1
        self.on_run.get(self.runs, lambda: None)()
        phases = super()._do_run(codes, read_at_us)
        if self.runs > self.silent_after:
            noise = np.random.default_rng(self.runs).integers(0, 256, phases.codes[:, :, 2].shape)
            phases.codes[:, :, 2] = noise
        return phases


@pytest.mark.parametrize("dies_at", [1, 9])
def test_a_dead_oscillator_is_named_whenever_it_dies(oscillators, dies_at) -> None:
    _, board = oscillators.drawn(1, Faulty)
    board.dies_at = dies_at
    found = oscillators.taken(FREQUENCIES, board, {})
    assert any("oscillators 2 do not oscillate" in line for line in found.findings)
    assert found.arrays["alive"].tolist() == [1, 1, 0, 1, 1, 1, 1, 1, 1]
    assert not found.accepted


def test_a_stuck_trim_is_named_and_its_anchor_cannot_be_told(oscillators, few) -> None:
    _, board = oscillators.drawn(1, Faulty)
    board.stuck = True
    records = {}
    found = oscillators.taken(FREQUENCIES, board, records)
    assert "oscillators 3 do not follow their trim" in found.findings
    oscillators.taken(READ_PATHS, board, records)
    with pytest.raises(Unidentifiable, match="oscillator 3"):
        oscillators.taken(ANCHORS, board, records)


def test_a_detuning_beyond_the_trim_is_named(oscillators) -> None:
    _, board = oscillators.drawn(1, detuning_units=0.3)
    found = oscillators.taken(FREQUENCIES, board, {})
    assert any("beyond their trim's range" in line for line in found.findings)
    assert not found.accepted


def test_a_reference_that_counts_wrongly_is_refused(oscillators) -> None:
    _, board = oscillators.drawn(1, Faulty)
    board.reference = 0.9
    with pytest.raises(DeviceFault, match=r"the reference counts .* allowed: "):
        oscillators.taken(FREQUENCIES, board, {})


def test_a_channel_that_dies_mid_procedure_is_named(oscillators, few, measured) -> None:
    _, board = oscillators.drawn(1, Faulty)
    board.silent_after = 8
    records = dict(measured[2])
    with pytest.raises(DeviceFault, match=r"oscillators .*2"):
        oscillators.taken(COUPLINGS, board, records)


def test_lost_locks_are_left_out_and_too_many_refused(oscillators, few) -> None:
    bench, board = oscillators.drawn(1)
    bench.unit = replace(bench.unit, lock_loss=np.asarray(0.2))
    found = oscillators.taken(READ_PATHS, board, {})
    assert 0.1 < float(found.arrays["lock_loss_share"]) < 0.3
    assert not found.accepted
    assert np.abs(errors(found, "skew_rad", bench.unit.read_skew_rad)).max() < 5
    bench.unit = replace(bench.unit, lock_loss=np.asarray(0.9))
    with pytest.raises(DeviceFault, match="kept their lock"):
        oscillators.taken(READ_PATHS, board, {})


@pytest.mark.parametrize("when", [0, pytest.param(8, marks=pytest.mark.slow)])
def test_another_board_mid_procedure_is_refused(oscillators, few, measured, when) -> None:
    """One of the same wiring, before the first run or in the middle."""
    bench, board = oscillators.drawn(1, Faulty)
    board.on_run = {when: lambda: bench.become(7)}
    if not when:
        bench.become(7)
    with pytest.raises(DeviceFault, match="another board answers"):
        oscillators.taken(COUPLINGS, board, dict(measured[2]))


def test_a_board_of_another_size_is_refused(oscillators, measured) -> None:
    _, board = oscillators.drawn(1, rows=2)
    with pytest.raises(DeviceFault, match="of 9 oscillators, this board has 6"):
        oscillators.taken(COUPLINGS, board, dict(measured[2]))


def test_records_of_another_board_are_refused(oscillators, measured) -> None:
    _, other = oscillators.drawn(1, rows=2)
    with pytest.raises(ConfigError, match=r"detuning_units has shape \(9,\); allowed: \(6,\)"):
        FittedBoard.of(other.spec, measured[2])


def test_columns_that_say_the_same_are_named() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 200, 1))
    with pytest.raises(Unidentifiable, match="first and second") as error:
        fit_row(np.concatenate([x, x], axis=2), x[..., 0], ("first", "second"), device="board")
    assert error.value.condition > 1e7


def test_errors_in_variables_do_not_bias_the_fit() -> None:
    """Ordinary least squares would find a fifth less: here the second run is the instrument."""
    rng = np.random.default_rng(1)
    true = rng.normal(size=(20000, 2))
    x = true + 0.5 * rng.normal(size=(2, 20000, 2))
    fit = fit_row(x, -(true @ [1.0, -2.0]) + 0.1 * rng.normal(size=(2, 20000)), ("a", "b"), device="board")
    assert np.abs((fit.coefficients - [1.0, -2.0]) / fit.sd).max() < 4
    assert fit.sd.max() < 0.02


def test_the_fit_predicts_what_an_image_couples(measured) -> None:
    _, board, records, _ = measured
    rng = np.random.default_rng(2)
    image = replace(
        board.loaded(), coupling=rng.integers(-7, 8, board.loaded().coupling.shape), scale=np.array([800])
    )
    board.load(image)
    law = board.law()
    true = law.direct / np.cos(board._bench.unit.lag_rad)
    assert np.abs(FittedBoard.of(board.spec, records).couplings(image) - true).max() < 0.1


def test_the_fitted_twin_predicts_held_out_programs_and_knows_what_it_does_not(measured, monkeypatch) -> None:
    """Fewer samples than a person takes: the records are worse, and so is their twin."""
    _, board, records, found = measured
    monkeypatch.setattr(agreement, "PER_SEGMENT", 32)
    share, rate = agreement.measure_agreement(
        Devices({OscillatorBoard: board}), records, lambda what, done, total: None
    ).quantities
    assert share.value > 95
    assert rate.value == pytest.approx(1, abs=0.1)
    errors = FittedBoardTwin(board.spec, records).errors
    live = found["couplings"].arrays["dead"] < 0.5
    stated = found["couplings"].arrays["gain_sd"][live]
    assert errors.gain == pytest.approx(np.sqrt((stated**2).mean()))
    assert 0 < errors.detuning < 0.1
    assert errors.diffusion == found["phase-noise"].arrays["diffusion_rad2_per_unit"].mean()
