"""Fixed-point engines: devices and a calibration record in, settled states out; and the digital reference."""

from labctl.engines.digital import DigitalEngine
from labctl.engines.host_model import contraction, law_of
from labctl.engines.optical_host import OpticalHostLoopEngine
from labctl.engines.optical_loop import OpticalLoopEngine
from labctl.engines.oscillator import FittedCodes, OscillatorEngine, OscillatorResult
from labctl.engines.readout import CameraRead, CameraReadout, NoiseBudget
from labctl.engines.result import (
    AppliedKnobs,
    Batch,
    ChainEngine,
    FixedPointEngine,
    FixedPointResult,
    Ledger,
)
from labctl.engines.second_starts import SecondStarts
from labctl.engines.weight_panel import WeightPanel

__all__ = [
    "AppliedKnobs",
    "Batch",
    "CameraRead",
    "CameraReadout",
    "ChainEngine",
    "DigitalEngine",
    "FittedCodes",
    "FixedPointEngine",
    "FixedPointResult",
    "Ledger",
    "NoiseBudget",
    "OpticalHostLoopEngine",
    "OpticalLoopEngine",
    "OscillatorEngine",
    "OscillatorResult",
    "SecondStarts",
    "WeightPanel",
    "contraction",
    "law_of",
]
