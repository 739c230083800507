"""Recipes with noise credit: measured on the rig, recorded in the file, refused where it makes no sense."""

from __future__ import annotations

import numpy as np
import pytest

from labctl import load_protocol, open_rig, run
from labctl.devices import ConfigError
from labctl.procedures import chains_of
from labctl.procedures.crediting import credited
from labctl.rig import Rig, load_rig
from labctl.runlog import RunReader
from labctl.sampling import CreditedSampler

SMALL = {"samples": 200, "audit": 0, "reference": 200, "noise_credit": True}


@pytest.fixture
def noisy():
    config = load_rig("optical-twin")
    world = config.world.model_copy(update={"overrides": {"loop_noise_percent": 5.0}})
    with Rig(config.model_copy(update={"world": world})) as rig:
        yield rig


def test_noise_that_a_plain_run_is_refused_for_is_counted(noisy, tmp_path):
    with pytest.raises(ConfigError, match=r"sigma_min is 0\.06, but rig optical-twin reads states"):
        run(load_protocol("sample_moons", {**SMALL, "noise_credit": False}), noisy, out=tmp_path)
    result = run(load_protocol("sample_moons", SMALL), noisy, out=tmp_path)
    assert np.isfinite(result.samples).all()
    metrics = result.panels[0].metrics
    noise = [float(word) for word in metrics["credited_noise"].split(", ")]
    levels = [float(word) for word in metrics["credited_levels"].split(", ")]
    assert metrics["credited_settles"] == len(noise) == 2
    assert all(0.1 < s < 2 for s in noise)
    assert levels == sorted(levels, reverse=True)
    assert len(levels) == 5
    with RunReader(result.file) as file:
        assert file.panel().metrics["credited_noise"] == metrics["credited_noise"]
        assert file.panel().n_steps == 5


def test_a_quiet_rig_keeps_its_settles(tmp_path):
    with open_rig("optical-twin") as rig:
        (chain,) = chains_of(load_protocol("sample_moons", SMALL), rig, lambda *_: None)
        sampler = credited(chain, rig).sampler
    assert isinstance(sampler, CreditedSampler)
    assert sampler.settled == 4
    assert 0.002 < sampler.noise[-1] < 0.03
    assert sampler.level(4) == pytest.approx(0.06, rel=0.1)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"stepping": "chain"}, r'a chain has none; allowed: stepping "host"'),
        ({"scheme": "ddim"}, "'ddim' has none such; allowed: implicit-midpoint, implicit-euler"),
        ({"eta": 0.5}, r"eta is 0\.5; allowed with noise_credit: 0\.0"),
        ({"readout": "camera"}, "readout is 'camera'; allowed with noise_credit: 'adc'"),
        ({"ending": "last-settle"}, "allowed with noise_credit: denoise"),
        ({"steps": 1}, "steps is 1; allowed with noise_credit: 2 or more"),
    ],
)
def test_recipes_that_make_no_sense_are_refused(settings, words):
    with pytest.raises(ConfigError, match=words):
        load_protocol("sample_moons", {**SMALL, **settings})


def test_a_rig_without_noise_to_measure_is_refused():
    with (
        open_rig("digital") as rig,
        pytest.raises(ConfigError, match="noise_credit is true, but rig digital"),
    ):
        chains_of(load_protocol("sample_moons", SMALL), rig, lambda *_: None)
