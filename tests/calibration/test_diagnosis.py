"""Diagnosis: the thirty faults by one name everywhere, hypotheses on made-up looks, and on drawn benches."""

from __future__ import annotations

import numpy as np
import pytest
from labctl_calibration.diagnosis.faults import FAULTS, HEALTHY, NAMES
from labctl_calibration.diagnosis.from_run import MOVES, RunSigns
from labctl_calibration.diagnosis.light_model import LightModel, moved
from labctl_calibration.diagnosis.signs import Signs
from labctl_calibration.diagnosis.verdict import diagnose
from labctl_calibration.drift.look import Look
from labctl_calibration.drift.morning import OpticalMorning, panel_of
from labctl_calibration.optical import OPTICAL, PANEL
from labctl_calibration.optical.dense import dense_fractions
from labctl_calibration.session import calibrate
from labctl_calibration.store import RecordStore
from labctl_sim_devices.physical_faults import PHYSICAL_FAULTS

from labctl.devices import LoopElectronics, WeightModulator
from labctl.rig import Rig, load_rig
from labctl.rig.calibrating import bench_of

N = 24
ASKED = dense_fractions(N)
BIASES = np.random.default_rng(2).choice([-1.0, 1.0], size=(8, N))


def light(cells=None, rows=None, columns=None, wandering=0.0):
    """Slopes of a made-up bench: gains of rows and columns, detectors that see their neighbours and lose to
    each of them a share, `wandering`.
    """
    rng = np.random.default_rng(1)
    gains, shares = rng.uniform(0.7, 1.2, N), rng.uniform(0.6, 1.3, N)
    cells = ASKED if cells is None else cells
    own = cells * shares * (1.0 if columns is None else columns)
    seen = own + 0.1 * moved(own, 1, 0) + 0.06 * moved(own, -1, 0)
    down, up = seen[:-1] * wandering, seen[1:] * wandering
    seen = seen + np.pad(down - up, ((1, 0), (0, 0))) + np.pad(up - down, ((0, 1), (0, 0)))
    return seen * gains[:, None] * (1.0 if rows is None else rows[:, None])


def look(slopes, day=0, **changed):
    """What an examination would read: a row's answer is its bias and what little light adds."""
    rng = np.random.default_rng(day)
    answers = BIASES + 0.08 * 0.7 * np.tanh(BIASES) @ slopes.T
    readings = {
        "temperature_c": np.array([25.0]), "dark_units": np.zeros(N), "rest_units": 1.1 * slopes.sum(axis=1),
        "slope_units": slopes + 0.002 * rng.standard_normal((N, N)), "flicker": np.array([0.0014]),
        "unsettled": np.array([0.0]), "offset_units": np.zeros(N), "adc_units": np.zeros(N),
        "line_slope": np.ones(N), "bit_units": np.zeros(N), "hum_units": np.full(N, 0.003),
        "noise_units": 0.002 * np.exp(0.06 * rng.standard_normal(N)), "tau_us": np.full(N, 0.75),
        "delay_us": np.zeros(1), "answer_units": answers,
    }  # fmt: skip
    return readings | changed


def named(today):
    signs = Signs(today, look(light()), ASKED, ASKED, BIASES)
    return diagnose(signs)


def one(row, value, rest=1.0):
    values = np.full(N, rest)
    values[row] = value
    return values


CASES = {
    HEALTHY: lambda: look(light(columns=1 + 0.02 * np.random.default_rng(5).standard_normal(N)), 1),
    "emitter-dead": lambda: look(light(columns=one(7, 0.0)), 1),
    "emitter-dim": lambda: look(light(columns=one(7, 0.6)), 1),
    "supply-sag": lambda: look(light(columns=np.full(N, 0.85)), 1),
    "drive-stuck": lambda: look(light(columns=one(7, 0.0)), 1, dark_units=0.7 * light()[:, 7]),
    "row-gain": lambda: look(light(rows=one(5, 1.2)), 1),
    "image-shifted": lambda: look(0.4 * light() + 0.6 * light(moved(ASKED, 0, 1)), 1),
    "image-flipped": lambda: look(light(ASKED[::-1]), 1),
    "crosstalk": lambda: look(light() + 0.1 * (moved(light(), 1, 0) + moved(light(), -1, 0)), 1),
    "shutter-closed": lambda: look(0 * light(), 1, answer_units=BIASES, unsettled=np.array([0.7])),
    "ambient-light": lambda: look(light(), 1, dark_units=0.3 + 0.1 * np.linspace(-1, 1, N)),
    "dark-current": lambda: look(light(), 1, dark_units=one(3, -0.4, 0.0)),
    "adc-offset": lambda: look(light(), 1, adc_units=np.full(N, -0.1)),
    "reads-early": lambda: look(light(), 1, delay_us=np.array([5.0])),
    "row-slow": lambda: look(light(), 1, tau_us=one(9, 1.5, 0.75)),
    "too-warm": lambda: look(light(columns=np.full(N, 0.96)), 1, temperature_c=np.array([40.0])),
    "panel-flicker": lambda: look(light(), 1, flicker=np.array([0.03])),
}


@pytest.mark.parametrize("name", CASES)
def test_what_a_look_shows_is_named(name):
    found = named(CASES[name]())
    assert found.first.name == name
    assert found.first.probability > 0.7
    assert sum(suspect.probability for suspect in found.suspects) == pytest.approx(1.0)


def test_crosstalk_may_take_from_a_row_what_its_neighbours_get():
    found = named(look(light(wandering=0.1), 1)).first
    assert (found.name, found.size) == ("crosstalk", pytest.approx(0.1, rel=0.25))
    spread = sum(moved(ASKED, *by) - ASKED for by in ((1, 0), (-1, 0), (0, 1), (0, -1)))
    assert named(look(light(ASKED + 0.05 * spread), 1)).first.name == "defocused"


def test_evidence_tells_place_and_size():
    assert named(CASES["emitter-dim"]()).first.evidence == "emitter 7 gives 40% less light than the others"
    assert "row 3" in named(CASES["dark-current"]()).first.evidence
    assert named(CASES["row-gain"]()).first.place == (5,)


def test_the_light_model_foretells_another_frame():
    model = LightModel.of(light(), ASKED)
    other = np.random.default_rng(8).uniform(-1, 1, (N, N))
    cells = np.stack([np.maximum(other, 0), np.maximum(-other, 0)])
    assert np.abs(model.frame(cells) - light(other)).max() < 0.02


def test_every_fault_has_one_name_and_its_procedures_exist():
    assert set(NAMES) == set(PHYSICAL_FAULTS)
    assert len(NAMES) == 30
    procedures = {procedure.name for procedure in OPTICAL}
    for fault in FAULTS.values():
        assert set(fault.procedures) <= procedures, fault.name
    assert set(MOVES) == set(NAMES)


def test_a_run_counts_for_what_explains_it():
    odds = RunSigns(("time constant", "rest of row 7"), late=0.2).odds()
    assert odds["row-slow"] > odds["adc-offset"] * 2
    assert odds["row-slow"] > 20 * odds[HEALTHY]
    assert set(RunSigns().odds().values()) == {1.0}
    signs = Signs(look(light(), 1, tau_us=one(9, 0.79, 0.75)), look(light()), ASKED, ASKED, BIASES)
    alone, told = diagnose(signs), diagnose(signs, odds)
    share = [next(s.probability for s in d.suspects if s.name == "row-slow") for d in (alone, told)]
    assert share[1] > share[0]


@pytest.fixture(scope="module")
def brought_up(tmp_path_factory):
    """A drawn bench that no benchmark scores: store, and the mean of some looks at it."""
    store = RecordStore(tmp_path_factory.mktemp("records"))
    with opened() as rig:
        assert not any(one.failed for one in calibrate(bench_of(rig, store, procedures=PANEL)))
    with opened(started_h=0.5) as rig:
        looks = [prober(rig, store).examine().arrays for _ in range(4)]
    return store, Look({name: np.mean([one[name] for one in looks], axis=0) for name in looks[0]}, 0.0)


def opened(**world):
    config = load_rig("optical-unit")
    changed = config.world.model_copy(update={"unit_seed": 301, "seed": 301, **world})
    return Rig(config.model_copy(update={"world": changed}))


def prober(rig, store):
    bench = bench_of(rig, store, procedures=PANEL)
    modulator, electronics = rig.device(WeightModulator), rig.device(LoopElectronics)
    panel = panel_of(bench, modulator, electronics.spec.n_channels)
    return OpticalMorning(rig.engine, modulator, electronics, panel)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [HEALTHY, "emitter-dim", "image-turned", "panel-row-stuck", "dust", "adc-stuck-bit", "mains-hum"]
)
def test_a_drawn_bench_is_diagnosed_a_day_later(brought_up, name):
    store, reference = brought_up
    broken = {} if name == HEALTHY else {"fault": name, "fault_seed": 4}
    with opened(started_h=24.0, seed=77, **broken) as rig:
        one = prober(rig, store)
        assert one.device_us < 60e6
        found = one.diagnose(one.examine(), reference)
        assert not rig.world.damage.events
    assert found.first.name == name
