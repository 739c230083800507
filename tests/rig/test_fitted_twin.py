"""`rig.fitted_twin()`: of today's records, refused where it is not to be trusted, and trained through."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from labctl_calibration.in_situ import KIND as TUNED_KIND
from labctl_calibration.in_situ import fine_tune
from labctl_calibration.optical import agreement
from labctl_calibration.planning import Wish
from labctl_calibration.session import calibrate
from labctl_calibration.store import RecordStore
from labctl_calibration.store_training import rows_of, train_through

from labctl.devices import CalibrationMissing, ConfigError
from labctl.models.checkpoint import load_network
from labctl.models.datasets import TOY_SETS
from labctl.models.metrics import EnergyReference
from labctl.rig import open_rig
from labctl.rig.calibrating import bench_of
from labctl.sampling import (
    LoopMachine,
    Sampler,
    compile_program,
    scheme,
    sigmas,
    start_noise,
)

RIG, SAMPLES = "optical-unit", 2000
HOW = Sampler(scheme("implicit-midpoint"), sigmas("flow", 4, 10.0, 0.06))


@pytest.fixture(scope="module")
def folder(tmp_path_factory, unit_bringup):
    """The records of a whole calibration."""
    store = RecordStore(tmp_path_factory.mktemp("calibrated"))
    unit_bringup.found.keep(store)
    with open_rig(RIG) as rig:
        assert all(one.accepted for one in calibrate(bench_of(rig, store)))
    return store.folder


def test_a_rig_without_records_has_none() -> None:
    with open_rig("optical-twin") as rig, pytest.raises(CalibrationMissing, match="opened without records"):
        rig.fitted_twin()


def test_a_rig_that_was_not_calibrated_has_none(tmp_path) -> None:
    with (
        open_rig("optical-twin", records=tmp_path) as rig,
        pytest.raises(CalibrationMissing, match="its fitted twin is not known: never measured"),
    ):
        rig.fitted_twin()


@pytest.mark.slow
def test_it_is_of_the_records_whose_agreement_was_measured(folder) -> None:
    with open_rig(RIG, records=folder) as rig:
        twin = rig.fitted_twin()
    (found,) = [one for one in RecordStore(folder).in_use() if one.record.kind == agreement.KIND]
    assert twin.record_ids == (*found.record.upstream, found.id)
    assert twin.overridden == ""
    bias = torch.zeros(3, 48, dtype=torch.float64, requires_grad=True)
    z = twin(bias + 0.3, 0.1)
    torch.autograd.backward(z.square().sum())
    assert bias.grad is not None
    assert torch.isfinite(bias.grad).all()
    twin.noisy = True
    noisy = twin(bias, 0.1, seed=1)
    assert not torch.equal(noisy, twin(bias, 0.1, seed=2))
    again = twin(bias[1:], 0.1, seed=1, sample_id=np.array([1, 2]))
    torch.testing.assert_close(noisy[1:], again, atol=1e-10, rtol=0)


@pytest.mark.slow
def test_below_its_gate_it_takes_a_reason(folder, monkeypatch, tmp_path) -> None:
    store = RecordStore(shutil.copytree(folder, tmp_path / "copy"))
    monkeypatch.setattr(agreement, "GATE", 1.001)
    with open_rig(RIG, records=store.folder) as rig:
        (only,) = [
            one
            for one in calibrate(bench_of(rig, store), Wish(only="twin", again="twin"))
            if one.measured is not None
        ]
        assert not only.accepted
        with pytest.raises(ConfigError, match=r"not to be trusted: .*allowed: 100\.1 or more"):
            rig.fitted_twin()
        with pytest.raises(ConfigError, match="not to be trusted"):
            rig.fitted_twin(override=" ")
        assert rig.fitted_twin(override="to look at it").overridden == "to look at it"


def energy(engine, network, program):
    ids = np.arange(SAMPLES)
    machine = LoopMachine(engine, network, program, labels=None, sample_id=ids, seen=lambda _: None)
    made = HOW.run(machine, start_noise(ids, 2, seed=0, sigma_max=10.0), sample_id=ids, seed=0)
    rng = np.random.Generator(np.random.Philox(key=1))
    return EnergyReference.of(TOY_SETS["moons"].draw(SAMPLES, rng)[0]).distance(made)


@pytest.mark.slow
def test_training_from_records_and_on_the_machine_each_take_damage_away(folder) -> None:
    """A network as it is loses more on this bench than one that was trained through its twin, from records
    alone; and fine-tuning on the bench takes some of the rest, within its budget.
    """
    wanted, coded = load_network("moons"), load_network("moons-4bit")
    with open_rig(RIG, records=folder) as rig:
        engine = rig.engine
        program = compile_program(coded, HOW, engine.n_channels)
        engine.load(program)
        as_it_is = energy(engine, coded, program)
        tuned = fine_tune(engine, program, wanted, TOY_SETS["moons"], budget=3000, samples=32, rate=1e-2)
        assert tuned.calls == 4 * 32 * (3000 // (4 * 32))
        assert tuned.calls <= tuned.budget
        record = tuned.record("serial", rig.record_ids)
        assert (record.kind, record.settings["calls"]) == (TUNED_KIND, tuned.calls)
        assert np.sqrt((tuned.missed[-4:] ** 2).mean()) < 0.8 * np.sqrt((tuned.missed[:2] ** 2).mean())
        assert energy(engine, coded, tuned.program) < as_it_is
        twin = rig.fitted_twin()
        trained = train_through(twin, wanted, TOY_SETS["moons"], shorter=4)
        assert trained.bits == 4
        engine.use_order(rows_of(twin, wanted))
        program = compile_program(trained, HOW, engine.n_channels)
        engine.load(program)
        assert energy(engine, trained, program) < 0.6 * as_it_is
        with pytest.raises(ConfigError, match="budget is 100 device calls; allowed: 512 or more"):
            fine_tune(engine, program, wanted, TOY_SETS["moons"], budget=100, samples=32)
        with pytest.raises(ConfigError, match="has codes of 4 bits"):
            train_through(twin, coded)
