"""Procedures of the bench itself: true values in their stated intervals, and each named fault noticed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from labctl_calibration.optical import OPTICAL
from labctl_calibration.optical.crosstalk import CROSSTALK
from labctl_calibration.optical.flats import FLATS, flats_of
from labctl_calibration.optical.golden import FEWEST, GOLDEN, METRIC, control_limits, limits_of
from labctl_calibration.optical.linear_answers import LINEAR_ANSWERS
from labctl_calibration.optical.loopback import LOOPBACK
from labctl_calibration.optical.panel_procedures import EMITTERS
from labctl_calibration.optical.panel_timing import PANEL_TIMING, settled_us
from labctl_calibration.optical.row_dynamics import ROW_DYNAMICS
from labctl_calibration.optical.warm_up import LIMIT, WARM_UP
from labctl_calibration.probing import half
from labctl_calibration.procedure import Devices
from labctl_calibration.registry import PROCEDURES
from labctl_calibration.repeats import standard_error
from labctl_calibration.store import RecordStore
from labctl_calibration.taking import keep_all, take
from labctl_sim_devices import ElectronicsTwin, OpticalBench, PanelTwin, load_profile

from labctl.devices import CalibrationRecord, DeviceFault, LoopElectronics, WeightModulator

UNITS = (1, 2)


def silent(*_):
    pass


class Broken(ElectronicsTwin):
    """Electronics of which one row has died: its readings are zero; `heard` bends those of the others.
    `traces` off: none are given.
    """

    row, traces, heard = None, True, None

    def _do_settle(self, codes, wait_us, trace, hold):
        read = super()._do_settle(codes, wait_us, trace, hold)
        changed = {}
        if self.heard is not None:
            read = replace(read, counts=self.heard(read.counts))
        if self.row is not None:
            for name in ("counts", "trace_counts"):
                if getattr(read, name) is not None:
                    changed[name] = getattr(read, name).copy()
                    changed[name][..., self.row] = 0
        if not self.traces:
            changed |= {"trace_counts": None, "trace_time_us": None}
        return replace(read, **changed)


def opened(
    unit, profile="unit", *, change=None, panels=None, electronics=ElectronicsTwin, noise_scale=1.0, **over
):
    """(bench, devices), open."""
    bench = OpticalBench(load_profile(profile, over), seed=unit, unit_seed=unit, noise_scale=noise_scale)
    panel, loop = PanelTwin("panel", bench), electronics("electronics", bench)
    modulator = panel if change is None else panels.MountedWrongly(panel, change)
    modulator.open()
    loop.open()
    return bench, Devices({WeightModulator: modulator, LoopElectronics: loop})


def measured(procedure, devices, records=None):
    return procedure.measure(devices, {kind: records[kind] for kind in procedure.needs}, silent)


def values(found):
    return {q.name: q for q in found.quantities}


def pulls(found, array, truth):
    """Errors in stated uncertainties."""
    return (found.arrays[array] - truth) / found.arrays[f"{array}_sd"]


def nearly_all(z):
    """At least nine of ten in the 95% interval: few units, errors of rows that mains ties together."""
    return np.mean(np.abs(z) <= 1.96) >= 0.9


def test_every_procedure_states_what_it_must_notice_and_how_long_it_takes():
    assert set(OPTICAL) <= set(PROCEDURES)
    for what in ("name", "kind"):
        assert len({getattr(one, what) for one in OPTICAL}) == len(OPTICAL)
    for procedure in OPTICAL:
        assert procedure.notices, procedure.name
        assert procedure.validity_s > 0


def test_a_standard_error_holds_95_percent_of_few_repeats():
    drawn = np.random.default_rng(1).normal(size=(8, 4000))
    inside = np.abs(drawn.mean(axis=0)) <= 1.96 * standard_error(drawn)
    assert 0.94 < inside.mean() < 0.96


# -- electronics -----------------------------------------------------------------------------------------


def test_loopback_finds_slopes_and_offsets_of_the_rows():
    z = []
    for unit in UNITS[:1]:
        bench, devices = opened(unit)
        found, loop = measured(LOOPBACK, devices), bench.truth().law.loop
        leak = (loop.leak_scale + loop.leak_offset).numpy()
        z.append(pulls(found, "slope", 1 / leak))
        z.append(pulls(found, "offset_units", (loop.scale * loop.offset).numpy() / leak))
        assert found.accepted
    assert nearly_all(np.stack(z))


def test_loopback_notices_a_dead_row_and_a_stuck_adc():
    _, devices = opened(1, electronics=Broken)
    devices.get(LoopElectronics).row = 7
    with pytest.raises(DeviceFault, match=r"electronics: loopback: row 7 does not follow its bias"):
        measured(LOOPBACK, devices)
    _, devices = opened(1, "adm", noise_scale=0.0)
    with pytest.raises(DeviceFault, match="is the ADC stuck"):
        measured(LOOPBACK, devices)


@pytest.mark.slow
def test_loopback_notices_a_converter_that_is_not_linear():
    _, devices = opened(1, electronics=Broken)
    loop = devices.get(LoopElectronics)
    top = loop.spec.adc.max_code
    loop.heard = lambda counts: counts * (1 - 0.04 * (counts / top) ** 2)
    assert not values(measured(LOOPBACK, devices))["nonlinearity"].accepted


def test_time_constants_and_noise_at_rest_of_every_row():
    z, rest = [], []
    for unit in UNITS:
        bench, devices = opened(unit)
        found, truth = measured(ROW_DYNAMICS, devices), bench.truth()
        leak = (truth.law.loop.leak_scale + truth.law.loop.leak_offset).numpy()
        z.append(pulls(found, "row_time_us", truth.tau_us / leak))
        rest.append(values(found)["noise at rest"].value)
        assert found.accepted
    assert nearly_all(np.stack(z))
    # an Ornstein-Uhlenbeck process with the profile's noise, seen for a finite time
    assert np.mean(rest) == pytest.approx(bench.profile.loop_noise_percent, rel=0.04)


def test_row_dynamics_notices_dead_and_slow_rows_and_electronics_without_a_trace():
    _, devices = opened(1, electronics=Broken)
    devices.get(LoopElectronics).row = 3
    with pytest.raises(DeviceFault, match=r"row 3 moves by .* has it died\?"):
        measured(ROW_DYNAMICS, devices)
    devices.get(LoopElectronics).row, devices.get(LoopElectronics).traces = None, False
    with pytest.raises(DeviceFault, match="gave no trace"):
        measured(ROW_DYNAMICS, devices)
    bench, devices = opened(1)
    ratio = bench.unit.tau_ratio.copy()
    ratio[5] = 2.0
    bench.unit = replace(bench.unit, tau_ratio=ratio)
    found = measured(ROW_DYNAMICS, devices)
    assert not values(found)["slowest row"].accepted
    assert values(found)["slowest row"].words == "row 5"


# -- light and panel -------------------------------------------------------------------------------------


def true_settling_us(bench, level, since):
    """When the first half's mean transmittance stays within 1% of its swing, by the panel's physics."""
    time_us = np.linspace(0, bench.profile.panel_settle_us, 400)
    frame = np.zeros(bench.profile.panel_shape_px, np.uint16)
    frame[:, : frame.shape[1] // 2] = level
    bench.optics.frame_changed(frame, bench.now_us)
    light = np.array([bench.optics.transmittances(bench.now_us + t)[0].mean() for t in time_us])
    bench.advance(bench.profile.panel_settle_us)
    return settled_us(time_us, light)[0]


def test_panel_settling_and_flicker_are_the_panels():
    for unit in UNITS[:1]:
        bench, devices = opened(unit)
        found = values(measured(PANEL_TIMING, devices))
        for name, level in (("brightens in", 255), ("darkens in", 0)):
            true = true_settling_us(bench, level, bench.now_us)
            assert abs(found[name].value - true) < 3 * found[name].sd < 0.1 * true, (unit, name)
        flicker = 100 * float(bench.unit.flicker_share) / np.sqrt(2)
        assert found["flicker"].value == pytest.approx(flicker, rel=0.01)
        frequency_hz = 1e6 / bench.unit.settings["flicker_us"]
        assert found["flicker frequency"].value == pytest.approx(frequency_hz, rel=1e-3)


def test_panel_timing_notices_a_slow_panel_and_one_that_does_not_switch(panels):
    _, devices = opened(1, panel_tau_us=6000.0)
    found = values(measured(PANEL_TIMING, devices))
    assert not found["brightens in"].accepted
    _, devices = opened(1, change=np.zeros_like, panels=panels)
    with pytest.raises(DeviceFault, match="panel: panel timing: the panel does not switch"):
        measured(PANEL_TIMING, devices)


@pytest.mark.slow
def test_strong_flicker_is_out_of_range():
    bench, devices = opened(1)
    bench.unit = replace(bench.unit, flicker_share=np.array(0.05))
    bench.clock._unit = bench.unit
    assert not values(measured(PANEL_TIMING, devices))["flicker"].accepted


def test_warm_up_waits_until_the_light_changes_slowly():
    """Faster than a real bench warms, so that the test need not wait."""
    bench, devices = opened(1)
    bench.unit = replace(bench.unit, settings={**bench.unit.settings, "warm_up_us": 6e7, "room_us": 1e12})
    bench.clock._unit = replace(bench.unit, light_walk=np.zeros(()))
    found = measured(WARM_UP, devices)
    slope, took = values(found)["slope of the light"], values(found)["warmed up in"]
    assert found.accepted
    rise = float(bench.unit.warm_up_c) * float(bench.unit.light_per_c)
    middle_us = bench.now_us - 60e6
    true = 100 * 60 * rise * np.exp(-middle_us / 6e7) / 60
    assert abs(slope.value - true) < max(4 * slope.sd, 0.02)
    assert 150 < took.value < 600


@pytest.mark.slow
def test_warm_up_says_what_still_drifts_and_notices_a_lens_cap(panels, monkeypatch):
    monkeypatch.setattr("labctl_calibration.optical.warm_up.LONGEST_S", 120.0)
    bench, devices = opened(1)
    bench.unit = replace(bench.unit, settings={**bench.unit.settings, "warm_up_us": 1e8})
    bench.clock._unit = bench.unit
    found = measured(WARM_UP, devices)
    assert not found.accepted
    assert abs(values(found)["slope of the light"].value) > LIMIT
    blank = opened(1, change=np.zeros_like, panels=panels)
    capped = opened(1)
    capped[0].damage.alive = np.zeros(48)
    for _, devices in (blank, capped):
        with pytest.raises(DeviceFault, match="no light to watch"):
            measured(WARM_UP, devices)


def emitters_record(bench):
    dead = np.zeros(bench.profile.n_channels)
    dead[bench.unit.input_efficiency.min(axis=0) < 0.05] = 1
    return {EMITTERS: CalibrationRecord(EMITTERS, "x", "", {"dead_channels": dead})}


def test_flats_are_the_benchs_gauge_fixed(panels):
    z = []
    for unit in UNITS:
        bench, devices = opened(unit)
        records = emitters_record(bench)
        found = measured(FLATS, devices, records)
        lives = records[EMITTERS].array("dead_channels") == 0
        for path, sign in ((0, 1), (1, -1)):
            modulator = devices.get(WeightModulator)
            frame = np.zeros(modulator.spec.shape_px, np.uint16)
            frame[:, half(modulator.spec, path)] = modulator.spec.n_levels - 1
            modulator.show(frame)
            inputs, outputs, _, _ = flats_of(sign * panels.true_slopes(bench)[:, lives])
            z += [
                (found.arrays[name][path, use] - true) / found.arrays[f"{name}_sd"][path, use]
                for name, use, true in (("input_flat", lives, inputs), ("output_flat", slice(None), outputs))
            ]
            assert np.abs(np.log(found.arrays["output_flat"][path])).max() < 1.5
            assert np.log(found.arrays["output_flat"][path]).mean() == pytest.approx(0, abs=1e-9)
    assert nearly_all(np.concatenate(z))


def test_flats_notice_a_channel_that_dies_after_the_emitters_were_measured():
    bench, devices = opened(1)
    records = emitters_record(bench)
    alive = bench.damage.alive.copy()
    live = int(np.flatnonzero(records[EMITTERS].array("dead_channels") == 0)[4])
    alive[live] = 0.0
    bench.damage.alive = alive
    with pytest.raises(DeviceFault, match=rf"input channel {live} was live .* has it died\?"):
        measured(FLATS, devices, records)


@pytest.mark.slow
def test_flats_notice_an_output_without_light(panels):
    def blind(levels):
        height = levels.shape[0] // 48
        levels = levels.copy()
        levels[20 * height : 22 * height + height // 2] = 0  # two rows of cells, wherever the image lies
        return levels

    bench, devices = opened(1, change=blind, panels=panels)
    with pytest.raises(DeviceFault, match=r"output (19|20|21|22) sees .* of the median's light"):
        measured(FLATS, devices, emitters_record(bench))


# -- with the records of a bring-up ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def records(unit_bringup):
    """By kind, of rig optical-unit: unit 1."""
    return {kind: taken.record for kind, taken in unit_bringup.found.taken.items()}


@pytest.mark.slow
def test_crosstalk_and_balance_are_those_of_the_same_bench_without_noise(records):
    """And the detectors' part of it is the unit's, up to what light spills over."""
    bench, devices = opened(1)
    found = measured(CROSSTALK, devices, records)
    quiet = measured(CROSSTALK, opened(1, noise_scale=0.0)[1], records)
    truth = bench.unit.neighbour
    for step, k in ((0, 0), (1, 1)):
        rows = slice(1, None) if step == 0 else slice(None, -1)
        share = found.arrays["neighbour_share"][:, rows, k]
        assert np.abs(share - truth[:, rows, step]).max() < 0.03
        assert np.abs(share - quiet.arrays["neighbour_share"][:, rows, k]).max() < 1e-3
    z = (found.arrays["sign_balance"] - quiet.arrays["sign_balance"]) / found.arrays["sign_balance_sd"]
    assert nearly_all(z)
    assert found.accepted


@pytest.mark.slow
def test_crosstalk_notices_swapped_planes(records, panels):
    def swapped(levels):
        return np.roll(levels, levels.shape[1] // 2, axis=1)

    _, devices = opened(1, change=swapped, panels=panels)
    with pytest.raises(DeviceFault, match="are the sign planes swapped"):
        measured(CROSSTALK, devices, records)


@pytest.fixture
def few(monkeypatch):
    """Fewer repeats than a calibration takes: enough to see a fault."""
    for module in ("linear_answers", "golden"):
        monkeypatch.setattr(f"labctl_calibration.optical.{module}.REPEATS", 4)


@pytest.mark.slow
def test_crosstalk_notices_signs_and_neighbours(records, panels):
    def dimmed(levels):
        right = levels.shape[1] // 2
        return np.concatenate([levels[:, :right], (0.8 * levels[:, right:]).astype(levels.dtype)], axis=1)

    _, devices = opened(1, change=dimmed, panels=panels)
    assert not values(measured(CROSSTALK, devices, records))["sign balance"].accepted
    bench, devices = opened(1)
    bench.set_terms({"neighbour_crosstalk": 3.0})
    assert not values(measured(CROSSTALK, devices, records))["crosstalk, largest"].accepted


def test_linear_answers_and_golden_sample_are_what_the_records_predict(records, few):
    _, devices = opened(1)
    linear, golden = measured(LINEAR_ANSWERS, devices, records), measured(GOLDEN, devices, records)
    assert linear.accepted
    assert values(linear)["linear answers missed by"].value < 2
    assert values(linear)["superposition missed by"].value < 2
    assert golden.accepted
    assert values(golden)["golden repeatability"].value < 0.2


@pytest.mark.parametrize("procedure", [LINEAR_ANSWERS, GOLDEN])
def test_a_swapped_device_is_out_of_range(records, procedure, few):
    _, devices = opened(2)
    assert not measured(procedure, devices, records).accepted


def test_a_row_that_died_is_noticed_by_both(records, few):
    _, devices = opened(1, electronics=Broken)
    devices.get(LoopElectronics).row = 11
    with pytest.raises(DeviceFault, match="row 11 does not answer small biases"):
        measured(LINEAR_ANSWERS, devices, records)
    assert not measured(GOLDEN, devices, records).accepted


def test_control_limits_come_from_the_history(records, tmp_path, unit_bringup, few):
    assert control_limits([0.3] * (FEWEST - 1), [0.01] * (FEWEST - 1)) is None
    limits = control_limits([0.30, 0.31, 0.29, 0.30, 0.9], [0.01] * 5)  # one bad day does not widen them
    assert limits.hold(0.32)
    assert not limits.hold(0.36)
    assert limits.middle == pytest.approx(0.30)
    store, serial = RecordStore(tmp_path), ""
    ids = keep_all(unit_bringup.found.taken, store)
    for day in range(FEWEST):
        bench, devices = opened(1)
        bench.seed = day
        taken = take(GOLDEN, devices, records, silent)
        taken.keep(store, [ids[kind] for kind in GOLDEN.needs])
        serial = taken.record.device_serial
    kept = limits_of(store.all(), serial)
    assert kept.count == FEWEST
    assert kept.hold(values(taken.measured)[METRIC].value)
    assert limits_of(store.all(), "another") is None


def test_a_loop_that_does_not_add_up_is_out_of_range(records, few):
    _, devices = opened(1, electronics=Broken)
    loop = devices.get(LoopElectronics)
    typical = 0.05 / loop.spec.adc.units_per_code
    loop.heard = lambda counts: np.sign(counts) * np.abs(counts) ** 1.4 / typical**0.4
    assert not values(measured(LINEAR_ANSWERS, devices, records))["superposition missed by"].accepted
