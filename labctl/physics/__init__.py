"""The equations of the machines: batched, differentiable, parameters passed in."""

from labctl.physics.bench import BenchLaw, LightPath, LoopErrors
from labctl.physics.curve import ElectronicsCurve
from labctl.physics.fitted import CurveTable, FittedCurve, FittedMap, summed
from labctl.physics.loop import ExponentialStep, LoopLaw, delayed_map, saturate, settle_fast, trajectory
from labctl.physics.noise import LoopNoise
from labctl.physics.philox import Stream
from labctl.physics.settling import Settling, cycling, row_peaks, settle_times

__all__ = [
    "BenchLaw",
    "CurveTable",
    "ElectronicsCurve",
    "ExponentialStep",
    "FittedCurve",
    "FittedMap",
    "LightPath",
    "LoopErrors",
    "LoopLaw",
    "LoopNoise",
    "Settling",
    "Stream",
    "cycling",
    "delayed_map",
    "row_peaks",
    "saturate",
    "settle_fast",
    "settle_times",
    "summed",
    "trajectory",
]
