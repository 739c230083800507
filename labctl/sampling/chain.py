"""What carries a chain from settle to settle without the host: sums of what was read and what was injected.

Settle k solves z = c_k + g_k D(z; sigma_k); then, element by element (conventions, section 5),

    x_{k+1} = e_k z + f_k c_k        where the next settle starts
    c_{k+1} = p_k z + q_k c_k        what it is given

and with eta > 0 fresh noise n_k enters both, as n_k and as w_k n_k. After the last settle the denoiser at its
root is known without another evaluation: D = (z - c) / g.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from labctl.devices import ConfigError
from labctl.programs import ChainUpdate
from labctl.sampling.compile import asks_of
from labctl.sampling.machines import LoopMachine
from labctl.sampling.sampler import Observer, Sampler, StepSeen, fresh_noise
from labctl.sampling.schemes import Memory

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

Rule = Callable[[float, float], ChainUpdate]


def _euler(rho: float, rho_next: float) -> ChainUpdate:
    return ChainUpdate(e=1.0, f=0.0, p=rho_next, q=0.0, w=rho_next)


def _midpoint(rho: float, rho_next: float) -> ChainUpdate:
    m, m_next = math.sqrt(rho), math.sqrt(rho_next)
    return ChainUpdate(e=1 + m, f=-1.0, p=m_next * (1 + m), q=-m_next, w=m_next)


def _trapezoid(rho: float, rho_next: float) -> ChainUpdate:
    g, g_next = (1 - rho) / (1 + rho), (1 - rho_next) / (1 + rho_next)
    return ChainUpdate(e=1.0, f=0.0, p=rho_next * (1 + g_next / g), q=-rho_next * g_next / g)


CHAIN_RULES: dict[str, Rule] = {
    "implicit-euler": _euler,
    "implicit-midpoint": _midpoint,
    "implicit-trapezoid": _trapezoid,
}


def updates_of(sampler: Sampler) -> list[ChainUpdate]:
    """One update a settle; the last only says where x ends. ConfigError for a scheme the host must step."""
    rule = CHAIN_RULES.get(sampler.scheme.name)
    if rule is None:
        raise ConfigError(
            f"scheme {sampler.scheme.name!r} needs the host between steps; chains: {', '.join(CHAIN_RULES)}"
        )
    levels = sampler.sigmas
    splits = [sampler.split(k) for k in range(sampler.steps)]
    rhos = [down / float(levels[k]) for k, (down, _) in enumerate(splits)]
    out = [replace(rule(*pair), sigma_up=up) for pair, (_, up) in zip(pairwise(rhos), splits, strict=False)]
    end = rule(rhos[-1], 0.5)  # nothing follows: any next ratio will do
    return [*out, replace(end, p=0.0, q=0.0, w=0.0, sigma_up=splits[-1][1])]


class _FirstInjection:
    """A machine that only hears what the first settle is given; evaluations are real."""

    def __init__(self, machine: LoopMachine) -> None:
        self._machine = machine
        self.c: FloatArray | None = None

    def settle(self, c: FloatArray, g: float, sigma: float, start: FloatArray) -> FloatArray:
        self.c = c
        return c

    def denoise(self, x: FloatArray, sigma: float) -> FloatArray:
        return self._machine.denoise(x, sigma)


def run_chain(
    sampler: Sampler,
    machine: LoopMachine,
    x: FloatArray,
    *,
    sample_id: IntArray,
    seed: int,
    observe: Observer | None = None,
) -> FloatArray:
    """`sampler.run(machine, x)`, but all settles in one go on the machine's sequencer.

    Draws, settles and arithmetic are those of the host-stepped run with the ending "last-settle"; observers
    are told afterwards, step by step. A scheme that needs D before its first settle has it from one
    evaluation. Raises ConfigError for a scheme without a chain, or another ending.
    """
    if sampler.ending != "last-settle":
        raise ConfigError(f"ending is {sampler.ending!r}; a chain allows 'last-settle' alone")
    updates, levels = updates_of(sampler), [float(sigma) for sigma in sampler.sigmas]
    hears = _FirstInjection(machine)
    sampler.scheme.step(hears, x, levels[0], sampler.split(0)[0], Memory())
    if hears.c is None:
        raise ConfigError(f"scheme {sampler.scheme.name!r} settles nothing in its first step")
    noise = [
        fresh_noise(sample_id, x.shape[1], seed=seed, step=k, sigma_up=update.sigma_up)
        if update.sigma_up > 0
        else np.zeros_like(x)
        for k, update in enumerate(updates)
    ]
    settles = machine.chain(hears.c, x, updates[:-1], np.stack(noise[:-1]) if sampler.eta > 0 else None)
    denoised, asks = x, asks_of(sampler)[-sampler.steps :]
    for k, (z, c) in enumerate(settles):  # asks one by one, so that each step is seen with its settle
        denoised = (z - c) / asks[k].g
        if observe is not None:
            after = updates[k].e * z + updates[k].f * c + noise[k]
            observe(StepSeen(k, levels[k], levels[k + 1], after))
    if observe is not None:
        observe(StepSeen(sampler.steps, levels[-1], 0.0, denoised))
    return denoised
