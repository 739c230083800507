"""The camera's spots, and the rows with the loop closed, as procedures."""

from __future__ import annotations

import numpy as np

from labctl.devices import CalibrationRecord, Camera, LoopElectronics, WeightModulator
from labctl_calibration.closed_loop import EQUILIBRIA, SPREAD_US, measure_rows
from labctl_calibration.effective_map import EffectiveMap, measure_map
from labctl_calibration.gain_ramp import KIND as MARGIN_KIND
from labctl_calibration.gain_ramp import ramp_gain
from labctl_calibration.known_answers import KNOWN_ANSWERS, WORST_ANSWER, ask_known_answers
from labctl_calibration.noise_budget import KIND as NOISE_KIND
from labctl_calibration.noise_budget import SETTLES, measure_noise
from labctl_calibration.nominal import nominal_spot_record
from labctl_calibration.optical.dense import dense_fractions, pose
from labctl_calibration.optical.durations import taking
from labctl_calibration.panel_record import KIND as PANEL_KIND
from labctl_calibration.procedure import Devices, Measured, Plot, Procedure, Quantity, Tell, Upstream, require
from labctl_calibration.rows_record import KIND as ROWS_KIND
from labctl_calibration.rows_record import rows_arrays, rows_of
from labctl_calibration.settling import PATTERNS, REPEATS, WAIT_TAU, measure_settling
from labctl_calibration.spots import KIND as SPOTS_KIND
from labctl_calibration.spots import find_spots, spots_words

WEIGHTS, ANSWERS, SETTLING = "effective weights", "known answers", "settling"
WEIGHT_ERROR, ANSWERS_MISSED, NOISE_TOTAL, SETTLE_P95, SAFE_GAIN = (
    "weight error", "known answers missed by", "noise of a settled state", "settle time, p95",
    "safe loop gain",
)  # fmt: skip
DENSE_PROBES = 3200
CODE_BITS = 4  # of the step in which weight errors are told: this project's default
DAY_S = 86400.0
ONSET = 1.2  # loop gain: rings need 2 where rows do as asked; programs use up to half of the onset


def _spots(devices: Devices, upstream: Upstream, tell: Tell) -> Measured:
    camera, electronics = devices.get(Camera), devices.get(LoopElectronics)
    found = find_spots(devices.get(WeightModulator), electronics, camera, require(upstream, PANEL_KIND))
    record = found.record(camera.open().serial)
    down, right = found.shift_px(nominal_spot_record(camera.spec, electronics.spec.n_channels, "design"))
    scatter = found.residual_px / np.sqrt(2 * found.centre_px[..., 0].size)
    along = np.arange(found.centre_px.shape[1], dtype=np.float64)
    return Measured(
        kind=SPOTS_KIND,
        arrays={**record.arrays, "spot_centre_px_sd": np.full(found.centre_px.shape, found.residual_px)},
        quantities=(
            Quantity("image, down", down, found.error_px, "px", words="against the design"),
            Quantity("image, right", right, found.error_px, "px", words="against the design"),
            Quantity(
                "spots, scatter", found.residual_px, float(scatter), "px", high=1.0,
                words="rms around their grid",
            ),
        ),
        settings=record.settings,
        findings=(spots_words(camera, found, electronics.spec.n_channels),),
        plots=(
            Plot("Spots of the positive path", along, found.centre_px[0, :, 1], "output channel",
                 "place across (px)", fit=found.grid_px[0, :, 1]),
        ),
    )  # fmt: skip


def _weights(devices: Devices, upstream: Upstream, tell: Tell) -> Measured:
    panel, electronics = require(upstream, PANEL_KIND), devices.get(LoopElectronics)
    pose(devices, panel)
    light = measure_map(electronics, probes=DENSE_PROBES)
    full, lives = float(panel.array("full_scale_units")[0]), panel.array("dead_channels") == 0
    asked = dense_fractions(electronics.spec.n_channels)[:, lives].reshape(-1)
    seen = light.powers[0][:, lives].reshape(-1) / full
    step = 1 / (2 ** (CODE_BITS - 1) - 1)
    missed = (seen - asked) / step
    rms = float(np.sqrt(np.mean(missed**2)))
    return Measured(
        kind=WEIGHTS,
        arrays={"powers": light.powers, "powers_sd": light.error, "constant": light.constant},
        quantities=(
            Quantity(
                WEIGHT_ERROR, rms, float(np.std(missed**2, ddof=1) / np.sqrt(missed.size) / (2 * rms)), "LSB",
                words=f"of {CODE_BITS} bits, rms over a dense frame's live channels, before compensation",
            ),
            Quantity(
                "scatter of a probe", float(np.median(light.residual)),
                float(np.median(light.residual) / np.sqrt(2 * light.probes)), "units",
                words="around the fitted map, median row",
            ),
        ),
        residuals={"residual": light.residual},
        settings={"probes": light.probes},
        findings=(
            f"weights of a dense frame are within {rms:.2f} LSB of {CODE_BITS} bits rms of what was asked",
        ),
        plots=(
            Plot("Effective weights of a dense frame", asked, seen, "asked", "measured (of full scale)"),
        ),
    )  # fmt: skip


def map_of(weights: CalibrationRecord, residual: np.ndarray | None = None) -> EffectiveMap:
    """The map of the dense frame; residuals are not needed to use it."""
    powers = weights.array("powers")
    left = np.full(powers.shape[1], np.nan) if residual is None else residual
    return EffectiveMap(
        powers, weights.array("powers_sd"), weights.array("constant"), left, int(weights.settings["probes"])
    )


def _rows(devices: Devices, upstream: Upstream, tell: Tell) -> Measured:
    electronics = devices.get(LoopElectronics)
    pose(devices, require(upstream, PANEL_KIND))
    rows = measure_rows(electronics, map_of(require(upstream, WEIGHTS)))
    curve, n = rows.curve, len(rows.leak_scale)
    error = np.zeros((3, n)) if rows.open_error is None else rows.open_error
    mean_error = np.sqrt((error**2).mean(axis=1) / n)
    beside = rows.relative
    channels = np.arange(n, dtype=np.float64)
    return Measured(
        kind=ROWS_KIND,
        arrays=rows_arrays(rows),
        quantities=(
            Quantity(
                "leak", float(rows.leak_scale.mean()), float(mean_error[0]), "", 0.5, 2.0,
                words="of what is set, mean of the rows",
            ),
            Quantity(
                "gain", float(rows.gain_scale.mean()), np.nan,
                words="of what is set, mean of the rows; only its product with the curve acts",
            ),
            Quantity(
                "offset", float(rows.offset_units.mean()), float(mean_error[2]), "units",
                words="behind the gain, mean of the rows",
            ),
            Quantity(
                "equations hold within", float(rows.residual.mean()),
                float(rows.residual.std(ddof=1)), "units", words="rms, mean of the rows",
            ),
        ),
        residuals={"residual": rows.residual},
        findings=(
            f"leaks are {rows.leak_scale.mean():.4f} of what is set (sd {rows.leak_scale.std():.4f}), and "
            f"{rows.leak_offset.mean():+.4f} (sd {rows.leak_offset.std():.4f})",
            f"gains are {rows.gain_scale.mean():.3f} of what is set (sd {rows.gain_scale.std():.3f}); "
            f"offsets {rows.offset_units.mean():+.3f} units (sd {rows.offset_units.std():.3f}), in front of "
            f"the gain {rows.light_offset.mean():+.3f} (sd {rows.light_offset.std():.3f})",
            f"the electronics' curve saturates at {float(curve.reach.mean()):.3f} with slope "
            f"{float((curve.reach * curve.scale).mean()):.3f} at zero; equations of all rows hold within "
            f"{rows.residual.mean():.4f} units rms",
        ),
        plots=(
            Plot("Offsets of the rows", channels, rows.offset_units, "row", "offset (units)", sd=error[2]),
            Plot("Gains of the rows", channels, rows.gain_scale, "row", "gain (of what is set)",
                 sd=None if beside is None else beside.gain_error * rows.gain_scale / beside.gain),
        ),
    )  # fmt: skip


def _rows_s(devices: Devices) -> float:
    return taking(settles=EQUILIBRIA)(devices) + 1e-6 * SPREAD_US


def _answers(devices: Devices, upstream: Upstream, tell: Tell) -> Measured:
    electronics = devices.get(LoopElectronics)
    pose(devices, require(upstream, PANEL_KIND))
    found = ask_known_answers(
        electronics, map_of(require(upstream, WEIGHTS)), rows_of(require(upstream, ROWS_KIND))
    )
    full_scale, rows = electronics.spec.adc.range_units, np.sqrt((found.missed**2).mean(axis=0))
    missed = found.rms_units
    return Measured(
        kind=ANSWERS,
        arrays={"missed_units": rows},
        quantities=(
            Quantity(
                ANSWERS_MISSED, 100 * missed / full_scale, 100 * found.error_units / full_scale, "%",
                high=100 * WORST_ANSWER, words="of full scale, rms: do the records describe this bench?",
            ),
        ),
        findings=(
            f"{KNOWN_ANSWERS} known answers: missed by {missed:.4f} units rms, "
            f"{100 * missed / full_scale:.2f}% of full scale",
        ),
        settings={"samples": len(found.missed), "missed_units": missed},
        raw={"missed_units": found.missed},
        plots=(
            Plot("Known answers", np.arange(len(rows), dtype=np.float64), rows, "row",
                 "missed by (units rms)"),
        ),
    )  # fmt: skip


def _noise(devices: Devices, upstream: Upstream, tell: Tell) -> Measured:
    pose(devices, require(upstream, PANEL_KIND))
    budget = measure_noise(
        devices.get(WeightModulator),
        devices.get(LoopElectronics),
        map_of(require(upstream, WEIGHTS)),
        rows_of(require(upstream, ROWS_KIND)),
    )
    parts = tuple(
        Quantity(f"noise: {s.name}", s.percent, s.error if s.measured else np.nan, "%",
                 words=s.how if s.measured else f"below that; {s.how}")
        for s in (*budget.sources, budget.total)
    )  # fmt: skip
    seen = Quantity(NOISE_TOTAL, budget.seen.percent, budget.seen.error, "%",
                    words=f"of full scale, as seen, every row at gain {budget.gain:.3f}")  # fmt: skip
    return Measured(
        kind=NOISE_KIND,
        arrays=budget.arrays,
        quantities=(seen, *parts),
        settings=budget.settings,
        findings=budget.findings,
    )


def _margin(devices: Devices, upstream: Upstream, tell: Tell) -> Measured:
    panel = require(upstream, PANEL_KIND)
    pose(devices, panel)
    margin = ramp_gain(
        devices.get(WeightModulator),
        devices.get(LoopElectronics),
        panel,
        rows_of(require(upstream, ROWS_KIND)),
    )
    gains = np.array([step.loop_gain for step in margin.steps])
    return Measured(
        kind=MARGIN_KIND,
        arrays=margin.arrays,
        quantities=(
            Quantity(
                "onset of oscillation", margin.onset, margin.onset_error, "", low=ONSET,
                words="loop gain of rings of three rows; 2 where rows do as asked, at once",
            ),
            Quantity(SAFE_GAIN, margin.safe, np.nan, words="3 dB below"),
        ),
        settings=margin.settings,
        findings=(margin.finding,),
        plots=(
            Plot("Ring-down", gains, np.array([step.decay for step in margin.steps]), "loop gain",
                 "decay rate (1/tau)"),
        ),
    )  # fmt: skip


def _settling(devices: Devices, upstream: Upstream, tell: Tell) -> Measured:
    electronics = devices.get(LoopElectronics)
    pose(devices, require(upstream, PANEL_KIND))
    found = measure_settling(electronics, map_of(require(upstream, WEIGHTS)))
    return Measured(
        kind=SETTLING,
        arrays={"settle_us": found.settle_us},
        quantities=(
            Quantity(
                SETTLE_P95, found.p95_us, found.p95_error_us, "µs", high=electronics.spec.wait_us,
                words="to within 1% of full scale, all rows, random biases on a dense frame",
            ),
            Quantity("unsettled", 100 * found.unsettled, np.nan, "%", words="of the samples"),
        ),
        settings={"wait_us": electronics.spec.wait_us, "patterns": PATTERNS, "repeats": REPEATS},
        raw={"time_us": found.time_us, "slowest_distance": found.distance},
        findings=(
            f"samples settle to 1% of full scale within {found.p95_us:.2f} us (p95 of {PATTERNS}; the rig "
            f"waits {electronics.spec.wait_us:g} us)",
        ),
        plots=(
            Plot("The slowest sample", found.time_us, 100 * found.distance, "time since release (us)",
                 "largest distance to its end (% of full scale)"),
        ),
    )  # fmt: skip


def _settling_s(devices: Devices) -> float:
    wait_us = WAIT_TAU * devices.get(LoopElectronics).spec.tau_us
    return taking(settles=PATTERNS * REPEATS, wait_us=wait_us)(devices)


_BENCH = (WeightModulator, LoopElectronics)

LOOP = (
    Procedure(
        name="spots", kind=SPOTS_KIND, title="the camera's spots", needs=(PANEL_KIND,), device=Camera,
        roles=(*_BENCH, Camera), validity_s=7 * DAY_S,
        notices=("a saturated or dark camera", "missing spots", "a mirrored or shifted image"),
        duration_s=taking(frames=4), measure=_spots, essential=False,
    ),
    Procedure(
        name="weights", kind=WEIGHTS, title="effective weights", needs=(PANEL_KIND,), device=LoopElectronics,
        roles=_BENCH, validity_s=DAY_S,
        notices=("detectors that clip", "weights that are not what was asked"),
        duration_s=taking(frames=1, probes=DENSE_PROBES, nulls=1),
        measure=_weights,
    ),
    Procedure(
        name="rows", kind=ROWS_KIND, title="rows, loop closed", needs=(PANEL_KIND, WEIGHTS),
        device=LoopElectronics, roles=_BENCH, validity_s=DAY_S,
        notices=("rows that do not follow their bias", "offsets, leak and gain errors"),
        duration_s=_rows_s, measure=_rows,
    ),
    Procedure(
        name="answers", kind=ANSWERS, title="known answers", needs=(PANEL_KIND, WEIGHTS, ROWS_KIND),
        device=LoopElectronics, roles=_BENCH, validity_s=DAY_S,
        notices=("records that do not describe this bench",),
        duration_s=taking(settles=KNOWN_ANSWERS), measure=_answers,
    ),
    Procedure(
        name="noise", kind=NOISE_KIND, title="noise", needs=(PANEL_KIND, WEIGHTS, ROWS_KIND),
        device=LoopElectronics, roles=_BENCH, validity_s=7 * DAY_S,
        notices=("noise of one source that rose", "flicker and mains"),
        duration_s=taking(frames=12, probes=16000, settles=2 * SETTLES, nulls=1), measure=_noise,
    ),
    Procedure(
        name="margin", kind=MARGIN_KIND, title="gain margin", needs=(PANEL_KIND, ROWS_KIND),
        device=LoopElectronics, roles=_BENCH, validity_s=7 * DAY_S,
        notices=("a loop that oscillates", "a margin that shrank"),
        duration_s=taking(frames=2, probes=4000, settles=2000, nulls=2), measure=_margin,
    ),
    Procedure(
        name="settling", kind=SETTLING, title="settling", needs=(PANEL_KIND, WEIGHTS),
        device=LoopElectronics, roles=_BENCH, validity_s=7 * DAY_S,
        notices=("rows that settle too slowly", "samples that never settle"),
        duration_s=_settling_s, measure=_settling,
    ),
)  # fmt: skip
