"""Chains of equilibria as models: limits, codes, symmetry, levels, files, training."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from labctl.devices import CheckpointError, ConfigError, DataError, ProgramError
from labctl.models.oscillators.chain_checkpoint import describe_chain, load_chain, save_chain
from labctl.models.oscillators.chain_fitting import (
    fit_chain,
    fit_chain_codes,
    level_errors,
    level_loss,
    pair,
    tune_chain,
)
from labctl.models.oscillators.diffuser import Diffuser, HostSettler, TrainableDiffuser, chain_program_of
from labctl.models.oscillators.settings import (
    BoardErrors,
    ChainTuning,
    CodedTraining,
    DiffuserShape,
    DiffuserTraining,
)
from labctl.physics.oscillators import rest_of, symmetric

SMALL = DiffuserShape(radius=1, levels=3, duration=4.0, steps=24, row_limit=2.0)
BRIEF = DiffuserTraining(iterations=60, batch=32, warmup=5, tuning=ChainTuning(iterations=0))


def shaped(**changes) -> DiffuserShape:
    return SMALL.model_copy(update=changes)


def pictures(count: int = 64, side: int = 4) -> np.ndarray:
    """Bars: a bright row or column on a dark ground."""
    rng = np.random.default_rng(0)
    out = np.zeros((count, side, side), np.float32)
    for picture, where, upright in zip(out, rng.integers(side, size=count), rng.random(count), strict=True):
        (picture if upright < 0.5 else picture.T)[where] = 1.0
    return out


def described(diffuser: Diffuser, name: str = "chain"):
    return describe_chain(
        diffuser, name, objective="paired", dataset={"name": "bars"}, seed=0, settings={}, training_s=0,
        classifier={"name": "none", "sha256": ""}, reference={"name": "none", "sha256": ""}, trained_on="-",
    )  # fmt: skip


@pytest.mark.parametrize("couplings", ["directed", "symmetric", "none"])
@pytest.mark.parametrize("bits", [None, 4, 2])
def test_parameters_stay_within_their_limits(couplings, bits) -> None:
    model = TrainableDiffuser(4, shaped(couplings=couplings, hidden_share=1.0), seed=1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(30.0)
    if bits is not None:
        model.use_codes(bits)
    made = model.finished()
    law, shape = made.law, made.shape
    assert made.row_sum() <= shape.row_limit * (1 + 1e-6)
    assert float(law.coupling.abs().max()) <= shape.coupling_limit
    assert bool((made.strength > 0).all())
    assert float(made.strength.max()) <= shape.anchor_limit * (1 + 1e-6)
    visible = slice(0, 16)
    assert float(law.quadrature[:, visible].abs().max() + made.strength.max()) <= shape.injection_limit + 0.02
    assert float(law.quadrature.abs().max()) <= shape.injection_limit
    assert (float(law.coupling.abs().max()) == 0) == (couplings == "none")
    if couplings == "symmetric":
        assert all(symmetric(model.edges, law.coupling[k]) for k in range(3))
    if bits is not None:
        program = chain_program_of(made)
        assert (program.bits, program.segments, program.pixel_map) == (bits, 3, "linear")
        np.testing.assert_allclose(program.coupling.weights(), law.coupling, rtol=1e-6)


def test_symmetric_chains_flow_down_an_energy_to_where_every_step_says() -> None:
    """Rest: hardly any motion is left, and the slowest rate is above 0 with the bound held."""
    model = TrainableDiffuser(4, shaped(couplings="symmetric", duration=12.0, steps=96), seed=1)
    made = model.finished()
    phase = torch.randn(8, 16, generator=torch.Generator().manual_seed(0)).double().numpy()
    anchors = made.chain.anchors(0, phase)
    inject = tuple(torch.as_tensor(a, dtype=torch.float32) for a in anchors)
    rest = HostSettler(model.edges, made.law, 12.0, 96).rest(0, 0, made.chain.released(phase), anchors)
    said = rest_of(model.edges, made.law, 0, torch.as_tensor(rest, dtype=torch.float32), inject)
    assert float(said.residual.max()) < 1e-3
    assert float(said.slowest.min()) > 0
    assert bool((said.distance_rad[said.load <= 1] > 0).all())


def test_shared_parameters_are_one_segment_with_anchors_of_every_level() -> None:
    model = TrainableDiffuser(4, shaped(shared=True), seed=1)
    model.use_codes(4)
    made = model.finished()
    assert chain_program_of(made).segments == 1
    assert made.strength.shape == (3, 16)
    assert made.chain.segments.tolist() == [0, 0, 0]
    assert made.generate(5).shape == (5, 4, 4)


def test_the_same_seed_makes_the_same_pictures_whatever_the_batch() -> None:
    made = TrainableDiffuser(4, SMALL, seed=1).finished()
    some = made.generate(20, seed=4)
    np.testing.assert_array_equal(some, made.generate(20, seed=4))
    np.testing.assert_allclose(some[:7], made.generate(7, seed=4), atol=1e-5)
    assert np.abs(some - made.generate(20, seed=5)).mean() > 0.01
    with pytest.raises(DataError, match="count 0, refine 1"):
        made.generate(0)


def test_without_couplings_a_chain_knows_nothing_of_its_neighbours() -> None:
    made = TrainableDiffuser(4, shaped(), seed=1).finished()
    alone = made.uncoupled()
    assert alone.program is None
    assert float(alone.law.coupling.abs().max()) == 0
    assert float(made.law.coupling.abs().max()) > 0
    with pytest.raises(ConfigError, match="couplings are floats"):
        chain_program_of(alone)


def test_a_pair_is_one_picture_with_one_noise_at_both_levels() -> None:
    model = TrainableDiffuser(4, SMALL)
    x0, eps = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(0))
    for level in range(3):
        noisy, wanted = pair(model, level, x0, eps)
        t = [np.arctan(12.0) * (1 - k / 3) for k in (level, level + 1)]
        torch.testing.assert_close(noisy, np.cos(t[0]) * x0 + np.sin(t[0]) * eps, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(wanted, np.cos(t[1]) * x0 + np.sin(t[1]) * eps, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shared", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_training_makes_every_level_better(shared) -> None:
    model = TrainableDiffuser(4, shaped(shared=shared), seed=0)
    before = level_errors(model, pictures())
    fitted = fit_chain(model, pictures(), BRIEF, seed=0)
    after = level_errors(model, pictures())
    assert fitted.skipped == 0
    assert sum(after) < 0.9 * sum(before)


def test_both_gradients_train_alike() -> None:
    """The gradient of a level by the steps and by the state of rest: nearly one direction."""
    x0 = torch.as_tensor(2 * pictures().reshape(64, -1) - 1)
    found = []
    for gradient in ("unrolled", "implicit"):
        model = TrainableDiffuser(4, SMALL, seed=0)
        settings = BRIEF.model_copy(update={"gradient": gradient, "errors": BoardErrors()})
        level_loss(model, x0, 1, settings, torch.Generator().manual_seed(0)).backward()
        free = (model.coupling[1], model.in_phase[1], model.quadrature[1], model.strength[1])
        found.append(torch.cat([table.grad.flatten() for table in free]))
    cosine = torch.dot(*found) / (found[0].norm() * found[1].norm())
    assert float(cosine) > 0.999


def test_a_chain_is_tuned_and_coded_as_a_whole() -> None:
    model = TrainableDiffuser(4, SMALL, seed=0)
    fit_chain(model, pictures(), BRIEF, seed=0)
    tuning = ChainTuning(iterations=100, batch=64, warmup=5)
    tuned = tune_chain(model, pictures(), BRIEF, tuning, seed=0)
    assert tuned.losses[-1] < tuned.losses[0]
    both = BRIEF.model_copy(update={"tuning": tuning})
    assert (BRIEF.objective, both.objective) == ("paired", "paired, then mmd")
    how = CodedTraining(iterations=20)
    fit_chain_codes(model, pictures(), 4, both, how, seed=1)
    assert model.finished().bits == 4


def test_training_that_never_gives_numbers_ends_in_words() -> None:
    broken = pictures()
    broken[:] = np.nan
    with pytest.raises(ConfigError, match=r"level 1 of 3: step 5: .* not finite 6 steps in a row"):
        fit_chain(TrainableDiffuser(4, SMALL), broken, BRIEF.model_copy(update={"skips": 5}))


@pytest.mark.parametrize("bits", [None, 4])
def test_a_chain_comes_back_from_its_file(tmp_path, bits) -> None:
    model = TrainableDiffuser(4, shaped(hidden_share=1.0), seed=1)
    if bits:
        model.use_codes(bits)
    made = model.finished()
    path = tmp_path / "chain.safetensors"
    card = save_chain(made, path, described(made))
    loaded = load_chain(path)
    assert loaded.card == card
    assert loaded.diffuser.bits == bits
    np.testing.assert_array_equal(made.generate(4), loaded.diffuser.generate(4))
    if bits:
        assert path.stat().st_size < 5000


def test_files_that_are_not_what_they_say_are_refused(tmp_path) -> None:
    model = TrainableDiffuser(4, SMALL, seed=1)
    model.use_codes(4)
    made = model.finished()
    path = tmp_path / "chain.safetensors"
    save_chain(made, path, described(made))
    with pytest.raises(CheckpointError, match="kind is 'oscillator-generator', wanted 'oscillator-chain'"):
        load_chain("digits8_oscillators")
    content = json.loads(path.with_suffix(".json").read_text())
    for change, said in (
        ({"shape": {**content["shape"], "levels": 4}}, r"allowed: integers \(3, 16\)"),
        ({"topology_hash": "0" * 64}, "topology_hash"),
        ({"shape": {**content["shape"], "levels": 1}}, "levels"),
    ):
        path.with_suffix(".json").write_text(json.dumps({**content, **change}))
        with pytest.raises(CheckpointError, match=said):
            load_chain(path)


def test_shapes_that_no_board_could_hold_are_refused() -> None:
    with pytest.raises(ValueError, match=r"anchor_limit 3\.0 must be below injection_limit 3\.0"):
        DiffuserShape(anchor_limit=3.0)
    model = TrainableDiffuser(4, shaped(couplings="none"))
    with pytest.raises(ConfigError, match="one bit has no code 0"):
        model.use_codes(1)
    strong = TrainableDiffuser(4, shaped(row_limit=40.0, coupling_limit=20.0))
    with torch.no_grad():
        for table in strong.coupling:
            table.fill_(20.0)
    strong.use_codes(4)
    with pytest.raises(ProgramError, match="add up to"):
        strong.finished()
