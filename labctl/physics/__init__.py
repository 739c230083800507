"""The equations of the machines: batched, differentiable, parameters passed in."""

from labctl.physics.at_rest import at_rest
from labctl.physics.bench import BenchLaw, LightPath, LoopErrors
from labctl.physics.curve import ElectronicsCurve
from labctl.physics.fitted import CurveTable, FittedCurve, FittedMap, carried, summed
from labctl.physics.fitted_loop import FittedLaw, FittedLoop
from labctl.physics.loop import (
    ExponentialStep,
    Forced,
    LoopLaw,
    delayed_map,
    saturate,
    settle_fast,
    trajectory,
)
from labctl.physics.noise import LoopNoise
from labctl.physics.philox import Stream
from labctl.physics.settling import Settling, cycling, row_peaks, settle_times

__all__ = [
    "BenchLaw",
    "CurveTable",
    "ElectronicsCurve",
    "ExponentialStep",
    "FittedCurve",
    "FittedLaw",
    "FittedLoop",
    "FittedMap",
    "Forced",
    "LightPath",
    "LoopErrors",
    "LoopLaw",
    "LoopNoise",
    "Settling",
    "Stream",
    "at_rest",
    "carried",
    "cycling",
    "delayed_map",
    "row_peaks",
    "saturate",
    "settle_fast",
    "settle_times",
    "summed",
    "trajectory",
]
