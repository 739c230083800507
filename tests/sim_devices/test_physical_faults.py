"""Physical faults of a simulated bench: each does something, and the bench is mended after it."""

from __future__ import annotations

import numpy as np
import pytest
from labctl_sim_devices import ElectronicsTwin, OpticalBench, PanelTwin, load_profile
from labctl_sim_devices.physical_faults import PHYSICAL_FAULTS

from labctl.devices import ConfigError, SettleCodes
from labctl.rig import Rig, load_rig
from labctl.rig.config import WorldConfig


@pytest.fixture(scope="module")
def bench():
    """A drawn bench with light on every cell."""
    made = OpticalBench(load_profile("unit"), seed=1, unit_seed=1)
    panel, electronics = PanelTwin("panel", made), ElectronicsTwin("electronics", made)
    panel.open()
    electronics.open()
    levels = np.random.default_rng(3).integers(0, 256, (54, 96)).astype(np.uint16)
    panel.show(np.kron(levels, np.ones((20, 20), np.uint16)))
    made.advance(1e6)
    return made, electronics


def settled(electronics, *, trace=False):
    """States [3, n] of three biases without gain."""
    spec = electronics.spec
    n = spec.n_channels
    bias = np.rint(np.array([-1.0, 0.3, 1.0]) / spec.dac.units_per_code).astype(np.int64)
    codes = SettleCodes(
        bias=bias[:, None].repeat(n, axis=1), gain=np.zeros((1, n), np.int64),
        leak=np.full((1, n), spec.max_leak_code), gain_range=np.ones(n, np.int64),
        start=np.zeros((3, n), np.int64), step_id=1, sample_id=np.arange(3),
    )  # fmt: skip
    return electronics.settle(codes, trace=trace)


def state_of(bench):
    """All that a fault may change, as numbers."""
    truth, clock, broken = bench.truth(), bench.clock, bench.broken
    return np.concatenate(
        [truth.matrix().ravel(), truth.rest(), truth.tau_us, truth.unit.mains.ravel(), truth.unit.loop_scale,
         [truth.temperature_c, float(truth.unit.flicker_share), broken.early_us, broken.panel_tau_us or 0.0],
         clock.light(bench.now_us), np.ones(1) if broken.noise is None else broken.noise,
         truth.next_state(np.zeros((1, 48)), np.ones(48), np.ones(48), np.zeros((1, 48)))[0],
         [0.0] if broken.adc is None else [broken.adc.offset_units, broken.adc.bit]]
    )  # fmt: skip


OFTEN = ("emitter-dim", "drives-swapped", "image-flipped", "detector-dead", "too-warm")


@pytest.mark.parametrize(
    "name",
    [name if name in OFTEN else pytest.param(name, marks=pytest.mark.slow) for name in PHYSICAL_FAULTS],
)
def test_each_changes_the_bench_and_is_mended(bench, name):
    made, _ = bench
    sound, serial = state_of(made), made.serial
    made.break_part(name, 5)
    broken, place = state_of(made), made.fault.place
    assert broken.shape != sound.shape or not np.array_equal(broken, sound)
    assert made.serial == serial
    made.break_part(name, 5)
    assert np.array_equal(state_of(made), broken)
    assert made.fault.place == place
    assert PHYSICAL_FAULTS[name].low <= made.fault.size <= PHYSICAL_FAULTS[name].high
    made.break_part(None)
    assert np.array_equal(state_of(made), sound)
    assert not made.damage.events


def test_faults_of_the_read_out_are_in_the_readings(bench):
    made, electronics = bench
    unit = electronics.spec.adc.units_per_code
    sound = settled(electronics, trace=True)
    made.break_part("adc-offset", 2)
    moved = settled(electronics).counts - sound.counts
    assert np.allclose(moved * unit, made.fault.broken.adc.offset_units, atol=0.01)
    made.break_part("adc-stuck-bit", 2)
    adc = made.fault.broken.adc
    codes = settled(electronics, trace=True).trace_counts[:, :, adc.row].astype(int) + 8192
    assert {(code >> adc.bit) & 1 for code in codes.ravel()} == {adc.held}
    made.break_part("reads-early", 2)
    early = settled(electronics, trace=True)
    later = early.trace_time_us <= made.fault.size
    assert np.abs(early.trace_counts[later]).max() == 0
    made.break_part(None)
    again = settled(electronics, trace=True)
    assert np.abs(again.counts - sound.counts).max() < 20  # the mains went on


def test_bad_names_and_benches_are_refused(bench):
    with pytest.raises(ConfigError, match="fault 'emitter-dimm' is not known"):
        bench[0].break_part("emitter-dimm")
    with pytest.raises(ValueError, match="allowed: kind optical-bench"):
        WorldConfig(kind="oscillator-bench", profile="unit50", fault="dust")
    config = load_rig("optical-unit")
    world = config.world.model_copy(update={"fault": "nothing like it"})
    with pytest.raises(ConfigError, match="rig optical-unit: world: fault 'nothing like it' is not known"):
        Rig(config.model_copy(update={"world": world})).open()
    assert '"fault"' not in config.as_json()
    broken = config.model_copy(update={"world": config.world.model_copy(update={"fault": "dust"})})
    assert '"fault": "dust"' in broken.as_json()
