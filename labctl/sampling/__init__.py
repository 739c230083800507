"""Schedules, implicit and explicit schemes, and the closed loop that runs them on an engine."""

from labctl.sampling.chain import CHAIN_RULES, run_chain, updates_of
from labctl.sampling.compile import DEFAULT_SWEEPS, Ask, asks_of, compile_program, placed, segment_of
from labctl.sampling.credit import (
    CREDITED_SCHEMES,
    CREDITED_STEPS,
    CreditedSampler,
    EvaluationError,
    NoiseProbe,
    axis_noise,
    credited_sampler,
)
from labctl.sampling.equilibria import AnchoredChain, EquilibriumMachine, RestSeen, Settler, cosine_levels
from labctl.sampling.machines import HostMachine, LoopMachine, SettleSeen
from labctl.sampling.network import LoopNetwork, RowTables
from labctl.sampling.noise_probe import LoopProbe
from labctl.sampling.parametrisation import Preconditioning, alpha_of, sigma_of_time, time_of_sigma
from labctl.sampling.sampler import Ending, Observer, Sampler, StepSeen, fresh_noise, start_noise
from labctl.sampling.schedules import sigmas
from labctl.sampling.schemes import SCHEMES, Machine, Memory, Scheme, scheme
from labctl.sampling.split import PartNetwork, parts_of, visits

__all__ = [
    "CHAIN_RULES",
    "CREDITED_SCHEMES",
    "CREDITED_STEPS",
    "DEFAULT_SWEEPS",
    "SCHEMES",
    "AnchoredChain",
    "Ask",
    "CreditedSampler",
    "Ending",
    "EquilibriumMachine",
    "EvaluationError",
    "HostMachine",
    "LoopMachine",
    "LoopNetwork",
    "LoopProbe",
    "Machine",
    "Memory",
    "NoiseProbe",
    "Observer",
    "PartNetwork",
    "Preconditioning",
    "RestSeen",
    "RowTables",
    "Sampler",
    "Scheme",
    "SettleSeen",
    "Settler",
    "StepSeen",
    "alpha_of",
    "asks_of",
    "axis_noise",
    "compile_program",
    "cosine_levels",
    "credited_sampler",
    "fresh_noise",
    "parts_of",
    "placed",
    "run_chain",
    "scheme",
    "segment_of",
    "sigma_of_time",
    "sigmas",
    "start_noise",
    "time_of_sigma",
    "updates_of",
    "visits",
]
