"""A chain whose sampler counts the machine's own noise: measured on the rig, then planned and compiled."""

from __future__ import annotations

from dataclasses import replace

from labctl.devices import ConfigError, Scalar
from labctl.engines import OpticalLoopEngine
from labctl.procedures.plan import Chain
from labctl.rig import Rig
from labctl.sampling import (
    CreditedSampler,
    LoopProbe,
    Sampler,
    axis_noise,
    compile_program,
    credited_sampler,
)


def credited(chain: Chain, rig: Rig) -> Chain:
    """Load the chain's matrix, measure state noise step by step, and plan the chain around it.

    The new chain has as many settles and evaluations in all. Raises ConfigError where the rig has no loop, or
    where the noise leaves no room below sigma_max.
    """
    engine, recipe, network = rig.engine, chain.recipe, chain.subject.network
    if not isinstance(engine, OpticalLoopEngine):
        raise ConfigError(f"noise_credit is true, but rig {rig.name} has no loop; allowed: false")
    if rig.world is not None:
        rig.set_noise_scale(recipe.noise_scale)
    rig.set_readout(recipe.readout, recipe.exposure_us)
    engine.load(chain.program)
    probe = LoopProbe(engine, network, chain.program, recipe.tolerance)
    sampler = credited_sampler(
        probe, chain.sampler.scheme, recipe.schedule, recipe.steps, recipe.sigma_max, recipe.sigma_min
    )
    program = compile_program(network, sampler, engine.n_channels, tolerance=recipe.tolerance)
    return replace(chain, sampler=sampler, program=program, tables=engine.tables_of(program))


def noise_of(sampler: Sampler) -> list[float]:
    """Standard deviation, an axis, of what each settle adds to x (x units); empty without credit."""
    return [axis_noise(c) for c in sampler.noise] if isinstance(sampler, CreditedSampler) else []


def credit_settings(sampler: Sampler) -> dict[str, Scalar]:
    """What a run's record keeps of the credit from its first step on; empty without credit.

    credited_covariance_K of settle K (rows apart by ";", x units squared), and evaluation_error_K of the K-th
    evaluation (on D, on x - D).
    """
    if not isinstance(sampler, CreditedSampler):
        return {}
    kept: dict[str, Scalar] = {
        f"credited_covariance_{k}": "; ".join(" ".join(f"{c:.9g}" for c in row) for row in covariance)
        for k, covariance in enumerate(sampler.noise, start=1)
    }
    for k, error in enumerate(sampler.errors, start=1):
        kept[f"evaluation_error_{k}"] = f"{error.on_denoised:.9g} {error.on_residual:.9g}"
    return kept


def credit_metrics(sampler: Sampler) -> dict[str, Scalar]:
    """What a run says of the credit: noise of each settle, and the level before each step and the final
    denoise (x units); empty without credit.
    """
    if not isinstance(sampler, CreditedSampler):
        return {}
    return {
        "credited_noise": ", ".join(f"{s:.3g}" for s in noise_of(sampler)),
        "credited_levels": ", ".join(f"{sampler.level(k):.3g}" for k in range(sampler.steps + 1)),
    }
