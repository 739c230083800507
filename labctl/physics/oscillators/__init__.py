"""Coupled oscillators: the law of their phases, its evolution and the gradient of that."""

from labctl.physics.oscillators.edges import Edges
from labctl.physics.oscillators.evolve import PhaseNoise, evolve
from labctl.physics.oscillators.law import OscillatorLaw, coupled_sum, rhs
from labctl.physics.oscillators.schemes import SCHEMES, Method

__all__ = ["SCHEMES", "Edges", "Method", "OscillatorLaw", "PhaseNoise", "coupled_sum", "evolve", "rhs"]
