"""Plain data that rooms above hand to the run log: the plan, the program, one step, the ledger."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from labctl.devices import Coercion, Scalar

Array = NDArray[np.generic]
FloatArray = NDArray[np.float64]
IntArray = NDArray[np.integer]


@dataclass(frozen=True)
class LayerSlice:
    """Rows [start, stop) of the machine that hold one layer, e.g. `u`, `h1`, `h2`."""

    name: str
    start: int
    stop: int


@dataclass(frozen=True)
class SegmentTables:
    """What the machine was told for each of K segments; n rows, C = max(n_classes, 1) classes.

    kind: "implicit" or "evaluate". sigma, sigma_next [K] in data units. leak [K, n], gain [K, C, n] and bias
    [K, C, n] in network units, as asked for; `*_applied` the same after quantising, `*_codes` the DAC codes.
    matrix [K]: which of the program's matrices (0 = the first). inject_scale [K] is the s_k of bias_k = s_k
    P c_k + b_k; chain_p, chain_q [K] form the next injection. None where the engine has no such table.
    """

    kind: Sequence[str]
    sigma: FloatArray
    sigma_next: FloatArray
    leak: FloatArray | None = None
    gain: FloatArray | None = None
    bias: FloatArray | None = None
    leak_applied: FloatArray | None = None
    gain_applied: FloatArray | None = None
    bias_applied: FloatArray | None = None
    leak_codes: IntArray | None = None
    gain_codes: IntArray | None = None
    bias_codes: IntArray | None = None
    inject_scale: FloatArray | None = None
    chain_p: FloatArray | None = None
    chain_q: FloatArray | None = None
    matrix: IntArray | None = None


@dataclass(frozen=True)
class MatrixRecord:
    """A further matrix of machines in sequence: weights [n, n] as asked for, codes and row_scale as below."""

    weights: FloatArray
    codes: IntArray | None = None
    row_scale: FloatArray | None = None


@dataclass(frozen=True)
class ProgramRecord:
    """A loop program as placed on the machine.

    weights [n, n] (row = output) as asked for; codes [n, n] at `bits` bits with weight = row_scale[row] *
    code / (2^(bits-1) - 1) (bits = 1: weight = row_scale[row] * code). layers in cyclic order, the injected
    rows first: block i maps layer i-1 to layer i, the last one back to the first. mask [n, n] is True where
    a weight may stand; elsewhere the zero is structural. frame_checksum is of the frame shown (frames: one
    after the other); it may also be given later (`PanelWriter.frame_shown`). further: the other matrices of
    machines in sequence, in the order of `SegmentTables.matrix`. settings: program hash, calibration record
    hash, anything that names what was applied.
    """

    weights: FloatArray
    layers: Sequence[LayerSlice] = ()
    segments: SegmentTables | None = None
    codes: IntArray | None = None
    row_scale: FloatArray | None = None
    bits: int | None = None
    mask: NDArray[np.bool_] | None = None
    frame_checksum: str = ""
    further: Sequence[MatrixRecord] = ()
    settings: Mapping[str, Scalar] = field(default_factory=dict)
    law: str = "loop"


@dataclass(frozen=True)
class OscillatorRecord:
    """An oscillator program as it was made: K segments, n oscillators, E directed couplings.

    What a board's own converters applied differently is among the first step's coercions.

    Edge e: oscillator target[e] hears source[e]. coupling_codes [K, E] of `bits` bits with coupling =
    scale[k] code / max code, in units of the coupling rate; node tables [K, n] and start tables [n] are
    converter codes (full scales in the settings). duration_us [K]. visible [m]: oscillators that are read, in
    the order of the pixels, by `pixel_map`. sites [n, 2]: row and column on the grid, where there is one.
    """

    target: IntArray
    source: IntArray
    coupling_codes: IntArray
    scale: FloatArray
    bits: int
    in_phase_codes: IntArray
    quadrature_codes: IntArray
    second_codes: IntArray
    detuning_codes: IntArray
    start_phase_codes: IntArray
    start_amplitude_codes: IntArray
    duration_us: FloatArray
    visible: IntArray
    pixel_map: str
    sites: FloatArray | None = None
    settings: Mapping[str, Scalar] = field(default_factory=dict)


@dataclass(frozen=True)
class DeviceTime:
    """Machine time of one step in us, summed over its queue of B samples.

    upload: codes and tables to the machine. wait: state held before the window. settle: the part of the
    wait in which states still moved (it lies inside the wait and is not added again). window: averaging.
    read: counts back to the host. NaN: not known, and not in the total.
    """

    upload_us: float = math.nan
    settle_us: float = math.nan
    wait_us: float = math.nan
    window_us: float = math.nan
    read_us: float = math.nan

    @property
    def total_us(self) -> float:
        """upload + wait + window + read: what the step took."""
        return float(np.nansum([self.upload_us, self.wait_us, self.window_us, self.read_us]))


@dataclass(frozen=True)
class StepLedger:
    """Cost of one step. Modelled device time and measured time never mix.

    modelled: what the time profile says the machine takes (None: no machine is modelled).
    measured: what a real machine's own clock said (None on twins). engine_s and sampling_s: wall clock of
    this host. nfe: network evaluations (a settle counts as one). host_macs and machine_macs: multiply-adds
    done by the host, and by light or charge, over the whole queue.
    """

    modelled: DeviceTime | None = None
    measured: DeviceTime | None = None
    engine_s: float = 0.0
    sampling_s: float = 0.0
    nfe: int = 1
    host_macs: int = 0
    machine_macs: int = 0


@dataclass(frozen=True)
class StepRecord:
    """What happened in one step; B samples in d dimensions on n rows, A of them audited for settle time.

    x [B, d] after the step, data units. injection [B, d]: c_k as asked for, network units;
    injection_codes [B, d]: the bias DAC codes it became. state [B, n] as read, network units. outcome [B]:
    `Outcome` values. step_norm [B]: largest last change of the watched rows, residual_norm [B]: largest
    |F(z) - z| of them, network units; on oscillators the root mean square of dtheta/dt, rad per unit of time.
    iterations [B] of a digital engine. settle_time_us [A], NaN =
    unsettled; transient [A]: leftover transient in the window's mean, network units. Of oscillators at rest,
    [B]: locking_load, the largest share of an anchor's strength that other forces can use up (held for
    certain up to 1), locking_distance_rad, how far inside that bound the phases are (NaN beyond), and
    slowest_rate, the smallest eigenvalue of the symmetric part of the Hessian, per unit of time. None where
    the step had no such thing.
    """

    sigma: float
    sigma_next: float
    x: FloatArray
    kind: str = "implicit"
    injection: FloatArray | None = None
    injection_codes: IntArray | None = None
    state: NDArray[np.floating] | None = None
    outcome: IntArray | None = None
    step_norm: NDArray[np.floating] | None = None
    residual_norm: NDArray[np.floating] | None = None
    iterations: IntArray | None = None
    settle_time_us: NDArray[np.floating] | None = None
    transient: NDArray[np.floating] | None = None
    locking_load: NDArray[np.floating] | None = None
    locking_distance_rad: NDArray[np.floating] | None = None
    slowest_rate: NDArray[np.floating] | None = None
    ledger: StepLedger = StepLedger()
    coercions: Sequence[Coercion | str] = ()


@dataclass(frozen=True)
class ControlRecord:
    """Something else that makes such pictures: what it is in words, its figures as a run's metrics are named,
    and some of its pictures [P, height, width] uint8.
    """

    name: str
    what: str
    figures: Mapping[str, Scalar]
    pictures: NDArray[np.uint8]


@dataclass(frozen=True)
class PanelPlan:
    """One chain of steps. A plain run has one panel without a name; a scan has one per value.

    reference [M, d]: data to stand beside the samples. pictures: shape (count, height, width) of the
    pictures that will be made of the samples; reference_pictures [P, height, width] uint8. step_pictures:
    shape (steps, some samples, height, width) of what each step takes their clean pictures to be. controls:
    what else makes such pictures, to stand beside.
    audit [A]: the samples whose settle time is recorded. anchored: oscillators at rest, of which it is
    recorded how safely they are held. own_mean, own_std [d]: the chain's x is
    standardised, samples and reference are in the data's own units, own = x * own_std + own_mean (None: no
    difference). forecast: of its quality, or in words why there is none.
    """

    n_steps: int
    n_samples: int
    d: int
    n_channels: int
    name: str = ""
    title: str = ""
    program: ProgramRecord | OscillatorRecord | None = None
    x_start: FloatArray | None = None
    labels: IntArray | None = None
    audit: IntArray | None = None
    reference: FloatArray | None = None
    reference_labels: IntArray | None = None
    pictures: tuple[int, int, int] | None = None
    step_pictures: tuple[int, int, int, int] | None = None
    reference_pictures: NDArray[np.uint8] | None = None
    controls: Sequence[ControlRecord] = ()
    own_mean: Sequence[float] | None = None
    own_std: Sequence[float] | None = None
    anchored: bool = False
    settings: Mapping[str, Scalar] = field(default_factory=dict)
    forecast: Mapping[str, Scalar] = field(default_factory=dict)


@dataclass(frozen=True)
class ScanPlan:
    """A table that gets one row per value: column name -> units ("" for a pure number).

    `axis` is the scanned column, `signal` the one a viewer plots against it. series: column -> (quantity,
    label) where several columns are one quantity under different settings; reports draw them together.
    """

    columns: Mapping[str, str]
    axis: str
    signal: str
    title: str = ""
    series: Mapping[str, tuple[str, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class DataPlan:
    """One further plot of the file (an NXdata group). Values may be rewritten later, in the same shape."""

    name: str
    fields: Mapping[str, Array]
    signal: str
    axes: Sequence[str] = ()
    units: Mapping[str, str] = field(default_factory=dict)
    title: str = ""


@dataclass(frozen=True)
class DriftRecord:
    """What a watch saw between two batches, and what was done. at: ISO 8601; device_s: device time into the
    run; over: the chart's statistic over its limit; change: of the series, in `unit` ("": relative).
    """

    at: str
    device_s: float
    panel: str
    step: int
    kind: str
    series: str
    change: float
    unit: str
    over: float
    words: str
    policy: str
    done: str


@dataclass(frozen=True)
class RunPlan:
    """The shape of a run file. `default` names the group or panel that a viewer opens first. watched: whether
    a watch on drift looks in between.
    """

    panels: Sequence[PanelPlan]
    scan: ScanPlan | None = None
    data: Sequence[DataPlan] = ()
    default: str | None = None
    watched: bool = False
