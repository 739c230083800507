"""Recipes with noise credit: measured on the rig, kept in the file, run again; refused where senseless."""

from __future__ import annotations

import numpy as np
import pytest

from labctl import load_protocol, open_rig, run
from labctl.devices import ConfigError
from labctl.procedures import chains_of, replay
from labctl.procedures.crediting import credited, noise_of
from labctl.reports.meanings import said
from labctl.rig import Rig, load_rig
from labctl.runlog import RunReader
from labctl.sampling import CreditedSampler

SMALL = {"samples": 200, "audit": 0, "reference": 200, "noise_credit": True, "steps": 8}


@pytest.fixture
def noisy():
    config = load_rig("optical-twin")
    world = config.world.model_copy(update={"overrides": {"loop_noise_percent": 5.0}})
    with Rig(config.model_copy(update={"world": world})) as rig:
        yield rig


def one_chain(rig, **settings):
    (chain,) = chains_of(load_protocol("sample_moons", {**SMALL, **settings}), rig, lambda *_: None)
    return chain


def test_a_plain_run_in_so_much_noise_is_refused_and_told_of_the_credit(noisy, tmp_path):
    with pytest.raises(ConfigError, match=r"sigma_min is 0\.06, but rig optical-twin .* or noise_credit"):
        run(load_protocol("sample_moons", {**SMALL, "noise_credit": False}), noisy, out=tmp_path)


def test_noise_is_counted_and_kept_and_the_run_can_be_made_again(noisy, tmp_path):
    result = run(load_protocol("sample_moons", SMALL), noisy, out=tmp_path)
    assert np.isfinite(result.samples).all()
    metrics = result.panels[0].metrics
    noise = [float(word) for word in metrics["credited_noise"].split(", ")]
    levels = [float(word) for word in metrics["credited_levels"].split(", ")]
    assert all(0.1 < s < 2 for s in noise)
    assert levels == sorted(levels, reverse=True)
    assert (len(noise), len(levels)) == (4, 9)
    with RunReader(result.file) as file:
        panel = file.panel()
        covariances = [
            np.array([[float(c) for c in row.split()] for row in text.split("; ")])
            for key, text in sorted(panel.program.settings.items())
            if key.startswith("credited_covariance_")
        ]
        assert [float(np.sqrt(np.trace(c) / 2)) for c in covariances] == pytest.approx(noise, rel=0.01)
        assert panel.sigma_next[:8] == pytest.approx(levels[1:], rel=0.01)
        assert panel.kinds == ("implicit",) * 4 + ("evaluate",) * 5
        told = {one.label: one.sentence for one in said(panel.metrics, panel.settings, file.header)}
    assert told["noise credit"].endswith("is what the settles add to x, one by one, and the sampler counts")
    assert metrics["credited_levels"] in told["credited levels"]
    again = replay(result.file, out=tmp_path / "again")
    assert again.equal, again


@pytest.mark.slow
def test_a_quiet_rig_keeps_its_settles():
    with open_rig("optical-twin") as rig:
        sampler = credited(one_chain(rig), rig).sampler
    assert isinstance(sampler, CreditedSampler)
    assert sampler.settled == 8
    assert 0.002 < noise_of(sampler)[-1] < 0.03
    assert sampler.level(8) == pytest.approx(0.06, rel=0.1)


def test_noise_that_leaves_no_room_is_refused(noisy):
    with pytest.raises(ConfigError, match=r"noise credit: the machine adds .* at the last settle; allowed"):
        credited(one_chain(noisy, noise_scale=60.0), noisy)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"stepping": "chain"}, r'a chain has none; allowed: stepping "host"'),
        ({"scheme": "ddim"}, "'ddim' has none such; allowed: implicit-midpoint, implicit-euler"),
        ({"readout": "camera"}, "readout is 'camera'; allowed with noise_credit: 'adc'"),
        ({"eta": 0.5}, r"eta is 0\.5; allowed with noise_credit: 0\.0"),
        ({"steps": 4}, "steps is 4; allowed with noise_credit: 8 or more"),
        ({"ending": "last-settle"}, "allowed with noise_credit: auto, denoise"),
    ],
)
def test_recipes_that_make_no_sense_are_refused(settings, words):
    with pytest.raises(ConfigError, match=words):
        load_protocol("sample_moons", {**SMALL, **settings})


def test_a_rig_without_noise_to_measure_is_refused():
    with (
        open_rig("digital") as rig,
        pytest.raises(ConfigError, match="noise_credit is true, but rig digital has no loop"),
    ):
        one_chain(rig)


def test_machines_in_sequence_are_refused():
    wanted = {"model": "fashion_x4", "samples": 12, "reference": 50, "noise_credit": True, "steps": 8}
    with (
        open_rig("optical-twin") as rig,
        pytest.raises(ConfigError, match="noise_credit is True, but fashion_x4 is 4 machines in sequence"),
    ):
        chains_of(load_protocol("sample_fashion_latent", wanted), rig, lambda *_: None)


@pytest.mark.slow
def test_pictures_by_class_too(noisy, tmp_path):
    wanted = {"samples": 40, "audit": 0, "reference": 50, "noise_credit": True, "steps": 8}
    result = run(load_protocol("sample_fashion_latent", wanted), noisy, out=tmp_path)
    assert np.isfinite(result.samples).all()
    assert "credited_noise" in result.panels[0].metrics
