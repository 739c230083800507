"""A chain whose sampler counts the machine's own noise: measured on the rig, then planned and compiled."""

from __future__ import annotations

from dataclasses import replace

from labctl.devices import ConfigError, Scalar
from labctl.engines import OpticalLoopEngine
from labctl.procedures.plan import Chain, coded_tables
from labctl.rig import Rig
from labctl.sampling import CreditedSampler, LoopProbe, Sampler, compile_program, credited_sampler


def credited(chain: Chain, rig: Rig) -> Chain:
    """Load the chain's matrix, measure state noise step by step, and plan the chain around it.

    The new chain has as many settles and evaluations in all. Raises ConfigError where the rig has no loop, or
    where the noise leaves no room below sigma_max.
    """
    engine, recipe = rig.engine, chain.recipe
    if not isinstance(engine, OpticalLoopEngine):
        raise ConfigError(f"noise_credit is true, but rig {rig.name} has no loop; allowed: false")
    if rig.world is not None:
        rig.set_noise_scale(recipe.noise_scale)
    rig.set_readout(recipe.readout, recipe.exposure_us)
    engine.load(chain.program)
    network = chain.subject.network
    probe = LoopProbe(engine, network, chain.program, recipe.tolerance)
    sampler = credited_sampler(
        probe, chain.sampler.scheme, recipe.schedule, recipe.steps, recipe.sigma_max, recipe.sigma_min
    )
    program = compile_program(network, sampler, engine.n_channels, tolerance=recipe.tolerance)
    return replace(
        chain, sampler=sampler, program=program, tables=coded_tables(program, engine.electronics.spec)
    )


def credit_metrics(sampler: Sampler) -> dict[str, Scalar]:
    """What the run's record says of the credit: noise counted after each settle (x units), levels before
    each step, mean errors of the evaluations. Empty without credit.
    """
    if not isinstance(sampler, CreditedSampler):
        return {}
    pairs = [f"{e.on_denoised:.5f} {e.on_residual:.5f}" for e in sampler.errors]
    return {
        "credited_noise": ", ".join(f"{s:.6g}" for s in sampler.noise),
        "credited_levels": ", ".join(f"{sampler.level(k):.6g}" for k in range(sampler.steps + 1)),
        "credited_settles": sampler.settled,
        "evaluation_errors": ", ".join(pairs),
    }
