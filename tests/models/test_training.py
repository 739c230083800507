"""Training learns, is reproducible, keeps replicas apart; the re-fit repairs what coding broke."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from labctl.devices.errors import ProgramError
from labctl.models.datasets import TOY_SETS
from labctl.models.points import PointTable
from labctl.models.reference import converged_samples, start_noise
from labctl.models.refit import RefitTarget, code_network, quantise, refit_settings
from labctl.models.training import Progress, TrainSettings, sigma_quantile, train
from labctl.sampling.parametrisation import Kind

SMALL = TrainSettings(hidden=(12,), iterations=300, sigma_levels=16, samples_per_level=16, width=16)
NORMAL = PointTable.standardised(np.random.default_rng(0).standard_normal((4000, 2)) * [2.0, 0.5] + 3.0)


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.mark.parametrize("kind", ["edm", "flow", pytest.param("vp", marks=pytest.mark.slow)])
def test_every_objective_learns_the_denoiser_of_a_normal_distribution(kind: Kind) -> None:
    network = train(NORMAL, SMALL.model_copy(update={"objective": kind})).network
    x = torch.randn(2000, 2, generator=torch.Generator().manual_seed(0))
    for sigma in (0.2, 0.5, 1.0):
        noisy = x * (1 + sigma**2) ** 0.5
        exact = noisy / (1 + sigma**2)  # unit normal data: D(x) = x / (1 + sigma^2)
        error = (network.denoise(noisy, sigma).detach() - exact).square().mean().sqrt()
        _, c_out, _ = network.preconditioning.coefficients(sigma)
        assert float(error) / c_out < 0.25, (kind, sigma)


def test_equal_seeds_give_equal_bits_and_other_seeds_do_not() -> None:
    settings = SMALL.model_copy(update={"iterations": 60})
    runs = [train(TOY_SETS["moons"], settings, seeds=seeds).network for seeds in ([1], [1], [2])]
    states = [torch.cat([p.flatten() for p in run.parameters()]) for run in runs]
    assert torch.equal(states[0], states[1])
    assert not torch.allclose(states[0], states[2])


def test_a_replica_is_the_same_network_alone() -> None:
    settings = SMALL.model_copy(update={"iterations": 30, "clip_norm": 0.01})
    together = train(TOY_SETS["moons"], settings, seeds=[1, 2]).network
    alone = train(TOY_SETS["moons"], settings, seeds=[2]).network
    for name, value in alone.state_dict().items():
        torch.testing.assert_close(together.replica(1).state_dict()[name], value, rtol=1e-3, atol=1e-4)


def test_labels_are_learnt() -> None:
    # Two classes at -1 and +1 on the first axis: at high noise the label alone tells where the point is.
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 2000)
    table = PointTable.standardised(
        np.stack([2.0 * labels + 0.1 * rng.standard_normal(2000), rng.standard_normal(2000)], axis=1),
        labels=labels,
        n_classes=2,
    )
    network = train(table, SMALL).network
    for label in (0, 1):
        x = torch.randn(200, 2, generator=torch.Generator().manual_seed(0)) * 5.0
        mean = network.denoise(x, 5.0, torch.full((200,), label)).detach().mean(dim=0)
        assert float(mean[0]) == pytest.approx(2.0 * label - 1.0, abs=0.25)


def test_progress_is_reported_and_can_stop_the_training() -> None:
    seen: list[Progress] = []
    result = train(TOY_SETS["moons"], SMALL.model_copy(update={"iterations": 120}), progress=seen.append)
    assert [(p.done, p.total) for p in seen] == [(50, 120), (100, 120), (120, 120)]
    np.testing.assert_allclose(result.losses[:, 0], [p.loss[0] for p in seen])

    def stop(event: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(TOY_SETS["moons"], SMALL, progress=stop)


@pytest.mark.parametrize(
    "law",
    [{}, {"objective": "flow"}, {"sigma_law": "loguniform"}, {"sigma_law": "lognormal", "log_std": 3.0}],
)
def test_noise_levels_follow_their_law_within_their_limits(law: dict[str, object]) -> None:
    settings = TrainSettings.model_validate(law)
    levels = sigma_quantile(settings, np.linspace(0.0, 1.0, 101))
    assert (np.diff(levels) > 0).all()
    assert levels[0] == pytest.approx(settings.sigma_low)
    assert levels[-1] == pytest.approx(settings.sigma_high)
    if settings.objective == "flow":
        t = levels / (1 + levels)
        np.testing.assert_allclose(np.diff(t), np.diff(t).mean())


def test_settings_refuse_what_they_do_not_know() -> None:
    with pytest.raises(ValidationError, match="learning_rte"):
        TrainSettings.model_validate({"learning_rte": 0.1})
    with pytest.raises(ValidationError, match="must be below"):
        TrainSettings(sigma_low=1.0, sigma_high=0.5)
    with pytest.raises(ValidationError, match="iterations"):
        TrainSettings(iterations=0)


@pytest.mark.parametrize("target", ["network", pytest.param("data", marks=pytest.mark.slow)])
def test_refit_repairs_what_coding_broke(target: RefitTarget) -> None:
    source = TOY_SETS["gaussians"]
    network = train(source, SMALL.model_copy(update={"iterations": 500}), seeds=[0, 1]).network
    coded = code_network(network, 3)
    settings = refit_settings(SMALL).model_copy(update={"iterations": 400})
    refit = quantise(network, source, 3, target=target, settings=settings, seeds=[0, 1]).network
    assert refit.bits == 3
    for i in range(2):
        for a, b in zip(coded.all_weights()[i], refit.all_weights()[i], strict=True):
            np.testing.assert_array_equal(a, b)  # the codes are frozen
    start = start_noise(500, 2, seed=0)
    wanted = converged_samples(network, start, steps=24)
    far = (converged_samples(coded, start, steps=24) - wanted).square().mean(dim=(1, 2))
    near = (converged_samples(refit, start, steps=24) - wanted).square().mean(dim=(1, 2))
    assert (near < 0.5 * far).all()


def test_quantise_refuses_bad_bits_and_another_objective() -> None:
    network = train(NORMAL, SMALL.model_copy(update={"iterations": 1})).network
    with pytest.raises(ProgramError, match="bits = 10"):
        quantise(network, NORMAL, 10)
    with pytest.raises(ValueError, match="objective 'flow'"):
        quantise(network, NORMAL, settings=SMALL.model_copy(update={"objective": "flow"}))


@pytest.mark.slow
def test_converged_sampler_carries_a_normal_to_a_normal() -> None:
    network = train(NORMAL, SMALL).network
    start = start_noise(4000, 2, seed=3)
    assert float(start.std()) == pytest.approx(101**0.5, rel=0.03)
    samples = converged_samples(network, start, sigma_min=0.05, steps=32)
    assert float(samples.std()) == pytest.approx(1.0, abs=0.15)
    fine = converged_samples(network, start, sigma_min=0.05, steps=256)
    assert float((samples - fine).square().mean().sqrt()) < 0.01
