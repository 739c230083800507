"""Run files that look like real ones, made without any machine: for tests of the log and of reports."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from labctl.devices import Coercion, Outcome
from labctl.runlog import (
    DeviceRecord,
    DeviceTime,
    Document,
    LayerSlice,
    OscillatorRecord,
    PanelPlan,
    ProgramRecord,
    RunHeader,
    RunPlan,
    RunWriter,
    SegmentTables,
    StepLedger,
    StepRecord,
    Timing,
)

RECIPE = 'protocol = "sample_moons"\nn_samples = 1000\nsteps = 4\nscheme = "implicit midpoint"\n'
N = 48


def moons(count: int, rng: np.random.Generator, noise: float = 0.06) -> np.ndarray:
    """Two half circles, standardised."""
    angle = rng.uniform(0, np.pi, count)
    upper = rng.random(count) < 0.5
    x = np.where(upper, np.cos(angle), 1 - np.cos(angle))
    y = np.where(upper, np.sin(angle), 0.5 - np.sin(angle))
    points = np.stack([x, y], axis=1) + noise * rng.normal(size=(count, 2))
    return (points - [0.5, 0.25]) / [0.87, 0.5]


def header(n_samples: int = 200, d: int = 2, n_classes: int = 0, **more) -> RunHeader:
    values = {
        "title": "Two moons on the simulated optical computer",
        "protocol": Document(name="sample_moons", text=RECIPE),
        "rig": Document(name="optical-twin", text='{"timing": "adm", "bits": 4}', format="json"),
        "seed": 7,
        "n_samples": n_samples,
        "d": d,
        "n_channels": N,
        "n_classes": n_classes,
        "versions": {"labctl": "0.1.0", "python": "3.11.7", "torch": "2.13.0", "numpy": "2.4.6"},
        "git_commit": "10c133a4b1d0",
        "numerics": {"threads": 1, "dtype": "float64", "batch": n_samples},
        "devices": (
            DeviceRecord(
                name="panel",
                vendor="labctl",
                model="panel twin",
                serial="T-0001",
                firmware="1",
                simulated=True,
            ),
            DeviceRecord(
                name="loop", vendor="labctl", model="loop twin", serial="T-0002", firmware="1", simulated=True
            ),
        ),
        "network": {"sizes": [d, 23, 23], "dataset": "moons", "sha256": "0f" * 32},
        "timing": Timing(
            profile="adm", tau_us=0.75, trip_us=0.02, wait_us=8.5, window_us=6.4, step_us=14.9, full_scale=3.8
        ),
        "operator": "A. Person",
        "hostname": "bench-1",
        "command": ("labctl", "run", "sample_moons", "--rig", "optical-twin"),
    }
    return RunHeader(**(values | more))


def program(steps: int, rng: np.random.Generator, d: int = 2, classes: int = 1) -> ProgramRecord:
    """A network [d, h, h] in 48 rows: three blocks, zeros elsewhere, 4-bit codes, per-row scale."""
    half = (N - d) // 2
    layers = (LayerSlice("u", 0, d), LayerSlice("h1", d, d + half), LayerSlice("h2", d + half, N))
    mask = np.zeros((N, N), dtype=bool)
    for out, into in zip(layers, (layers[-1], *layers[:-1]), strict=True):
        mask[out.start : out.stop, into.start : into.stop] = True
    weights = np.where(mask, rng.normal(size=(N, N)) * 0.4, 0.0)
    scale = np.abs(weights).max(axis=1)
    codes = np.rint(weights / scale[:, None] * 7).astype(np.int16)
    kinds = ["implicit"] * (steps - 1) + ["evaluate"]
    sigma = np.append(np.geomspace(20, 0.1, steps - 1), 0.06)
    leak = np.ones((steps, N))
    gain = np.exp(rng.normal(size=(steps, classes, N)) * 0.3)
    bias = 3.5 * np.tanh(rng.normal(size=(steps, classes, N)) * 0.5)
    return ProgramRecord(
        weights=weights,
        layers=layers,
        segments=SegmentTables(
            kind=kinds,
            sigma=sigma,
            sigma_next=np.append(sigma[1:], 0.0),
            leak=leak,
            gain=gain,
            bias=bias,
            leak_applied=leak,
            gain_applied=gain * 1.001,
            bias_applied=bias + 1e-4,
            leak_codes=np.full((steps, N), 255),
            gain_codes=rng.integers(1, 256, size=(steps, classes, N)),
            bias_codes=np.rint(bias / 3.8 * 8191).astype(np.int64),
            inject_scale=np.linspace(0.1, 1, steps),
        ),
        codes=codes,
        row_scale=scale,
        bits=4,
        mask=mask,
        frame_checksum="sha256:" + "ab" * 32,
        settings={"program_hash": "5e1f", "record_hash": "77aa"},
    )


def plan(n_samples: int = 200, steps: int = 5, d: int = 2, seed: int = 0, **more) -> PanelPlan:
    rng = np.random.default_rng(seed)
    values = {
        "n_steps": steps,
        "n_samples": n_samples,
        "d": d,
        "n_channels": N,
        "program": program(steps, rng, d),
        "x_start": rng.normal(size=(n_samples, d)) * 20,
        "audit": np.arange(min(64, n_samples)),
        "reference": moons(2000, rng) if d == 2 else rng.normal(size=(500, d)),
    }
    return PanelPlan(**(values | more))


def step(index: int, of: PanelPlan, seed: int = 0) -> StepRecord:
    """Step `index` of a plausible chain; the same arguments always give the same record."""
    rng = np.random.default_rng([seed, index])
    segments = of.program.segments if of.program else None
    sigma = float(segments.sigma[index]) if segments else 1.0 / (1 + index)
    sigma_next = float(segments.sigma_next[index]) if segments else sigma / 2
    size, audited = of.n_samples, 0 if of.audit is None else of.audit.size
    clean = moons(size, np.random.default_rng(seed)) if of.d == 2 else np.zeros((size, of.d))
    x = clean + sigma_next * np.random.default_rng(seed + 1).normal(size=(size, of.d))
    outcome = np.full(size, Outcome.CONVERGED)
    outcome[rng.random(size) < 0.01 / (1 + index)] = Outcome.MAX_TIME
    if index == 1:
        outcome[rng.random(size) < 0.004] = Outcome.SATURATED
    settle = rng.gamma(9, 0.42, size=audited) * (1.25 - 0.13 * index)
    settle[rng.random(audited) < 0.02] = np.nan
    evaluating = segments is not None and segments.kind[index] == "evaluate"
    return StepRecord(
        sigma=sigma,
        sigma_next=sigma_next,
        kind="evaluate" if evaluating else "implicit",
        x=x,
        injection=x / np.hypot(1, sigma),
        injection_codes=np.clip(np.rint(x / np.hypot(1, sigma) / 3.8 * 8191), -8191, 8191).astype(np.int16),
        state=np.rint(np.tanh(rng.normal(size=(size, of.n_channels))) * 16384) / 16384,
        outcome=outcome,
        step_norm=rng.lognormal(-7.5 - 0.2 * index, 0.5, size),
        residual_norm=rng.lognormal(-6.5 - 0.2 * index, 0.5, size),
        settle_time_us=settle if audited else None,
        ledger=StepLedger(
            modelled=DeviceTime(
                upload_us=16_700.0 if index == 0 else 12.0,
                settle_us=size * 5.1,
                wait_us=size * 8.5,
                window_us=size * 6.4,
                read_us=size * 0.4,
            ),
            engine_s=0.08,
            sampling_s=0.0004,
            host_macs=size * of.d * 4 + (size * of.d * 23 if evaluating else 0),
            machine_macs=size * of.n_channels**2,
        ),
        coercions=[Coercion("loop.bias", 4.1, 3.8, "network units", 3)] if index == 0 else [],
    )


def write(path: Path, n_samples: int = 200, steps: int = 5, **more) -> Path:
    """A whole run of two moons."""
    panel = plan(n_samples, steps, **more)
    with RunWriter.create(path, header(n_samples), RunPlan([panel])) as run:
        for index in range(steps):
            run.step(step(index, panel))
        final = step(steps - 1, panel).x
        return run.finish(final, {"energy_distance": 0.31e-3, "outliers": 2, "passed": True})


def oscillators(segments: int = 4, side: int = 8, radius: int = 2, seed: int = 0) -> OscillatorRecord:
    """A 4-bit program on a square grid, every oscillator read."""
    rng = np.random.default_rng(seed)
    n = side * side
    sites = np.stack(np.divmod(np.arange(n), side), axis=1).astype(np.float64)
    distance = np.abs(sites[:, None] - sites[None]).max(axis=2)
    target, source = np.nonzero((distance > 0) & (distance <= radius))
    tables = {
        f"{name}_codes": rng.integers(-127, 128, (segments, n))
        for name in ("in_phase", "quadrature", "second", "detuning")
    }
    return OscillatorRecord(
        target=target,
        source=source,
        coupling_codes=rng.integers(-7, 8, (segments, len(target))),
        scale=np.full(segments, 1.25),
        bits=4,
        start_phase_codes=rng.integers(0, 256, n),
        start_amplitude_codes=rng.integers(0, 256, n),
        duration_us=np.full(segments, 0.48),
        visible=np.arange(n),
        pixel_map="cosine",
        sites=sites,
        settings={"program_sha256": "ab" * 32},
        **tables,
    )


def write_oscillators(path: Path, n_samples: int = 20, segments: int = 4) -> Path:
    """A finished run of a board: one step a segment, phases as states, pixels as samples."""
    rng = np.random.default_rng(3)
    record = oscillators(segments)
    n, side = len(record.start_phase_codes), 8
    pictures = rng.integers(0, 256, (n_samples, side, side)).astype(np.uint8)
    panel = PanelPlan(
        n_steps=segments,
        n_samples=n_samples,
        d=n,
        n_channels=n,
        program=record,
        pictures=pictures.shape,
        step_pictures=(segments, 5, side, side),
        reference_pictures=pictures,
    )
    made = header(n_samples, n, n_channels=n, timing=None, title="Digits by coupled oscillators")
    with RunWriter.create(path, made, RunPlan([panel])) as run:
        log = run.panel()
        for _ in range(segments):
            phases = rng.uniform(-np.pi, np.pi, (n_samples, n))
            log.step(
                StepRecord(
                    sigma=float("nan"),
                    sigma_next=float("nan"),
                    kind="segment",
                    x=(1 - np.cos(phases)) / 2,
                    state=phases,
                    outcome=np.full(n_samples, Outcome.TIME_ELAPSED),
                    ledger=StepLedger(modelled=DeviceTime(upload_us=2.0, wait_us=0.48 * n_samples)),
                )
            )
        steps = rng.integers(0, 256, (segments, 5, side, side)).astype(np.uint8)
        log.finish(pictures.reshape(n_samples, n) / 255, pictures=pictures, step_pictures=steps)
        return run.finish()
