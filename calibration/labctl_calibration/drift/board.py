"""The fixed probes of an oscillator board: free frequencies, phases at release, a golden vector on its way.

In a run the loaded program's first segment is played from fixed start phases; without one, a plain program
of the prober's own is loaded. Nothing that is loaded changes by a look.
"""

from __future__ import annotations

import numpy as np

from labctl.devices import DeviceFault, DeviceStateError, OscillatorBoard, RunCodes
from labctl_calibration.drift.look import FloatArray, Group, Look, Reading
from labctl_calibration.oscillators.couplings import KIND as COUPLINGS
from labctl_calibration.oscillators.frequency import COUNT_VARIANCE
from labctl_calibration.oscillators.frequency import KIND as FREQUENCIES
from labctl_calibration.oscillators.probing import Probe, probe_image, wrapped
from labctl_calibration.oscillators.skew import KIND as READ_PATHS

STEP_ID = 0x5D000000
SAMPLES = 64
GATE_UNITS = 0.002  # detuning that the gates together resolve
MOST_GATES = 8
PLAIN_UNITS, PLAIN_SCALE = 1.0, 0.2  # of the prober's own program: duration, couplings' full scale in units

FREQUENCY = Group(
    "frequency", FREQUENCIES, "frequencies", OscillatorBoard, "units",
    "free frequencies against the reference",
)  # fmt: skip
SKEW = Group("read", READ_PATHS, "read-paths", OscillatorBoard, "rad", "phases at release")
GOLDEN = Group(
    "golden phase", COUPLINGS, "couplings", OscillatorBoard, "rad",
    "where coupled phases go from a fixed start", ("frequency", "read"),
)  # fmt: skip


class BoardProber:
    """See `labctl_calibration.drift.look.Prober`. plain: load a program of its own first."""

    title = "frequencies, read paths, golden vector"

    def __init__(self, board: OscillatorBoard, *, plain: bool = False) -> None:
        self.board = board
        self._looks = 0
        spec = board.spec
        low, high = spec.gate_range_us
        wanted_us = 1e6 / (spec.f0_hz * spec.eps * GATE_UNITS)
        self._gate_us = _whole(min(max(wanted_us, low), high), spec.f0_hz, (low, high))
        scatter = COUNT_VARIANCE**0.5 / (spec.f0_hz * spec.eps * self._gate_us * 1e-6)
        self._gates = int(min(max(np.ceil((scatter / GATE_UNITS) ** 2), 1), MOST_GATES))
        rng = np.random.Generator(np.random.Philox(key=7713))
        self._start = rng.integers(0, spec.max_start_code + 1, size=spec.n)
        if plain:
            edges = spec.topology.n_edges
            codes = rng.integers(-spec.max_coupling_code, spec.max_coupling_code + 1, size=edges)
            codes = np.where(spec.usable, codes, 0)
            scale = min(max(round(PLAIN_SCALE / spec.scale_units_per_code), 1), spec.max_scale_code)
            board.load(
                probe_image(board, Probe(PLAIN_UNITS, codes[None].astype(np.int64), np.array([scale])))
            )

    @property
    def device_us(self) -> float:
        """By the data sheet; the loaded program's first segment is part of it."""
        spec = self.board.spec
        each = spec.setup_us + spec.read_us + self.board.run_us(np.zeros(1, np.int64))
        return self._gates * self._gate_us + SAMPLES * each

    def look(self) -> Look:
        """Read once: DeviceFault where most samples lose their lock, DeviceStateError where nothing is
        loaded.
        """
        spec = self.board.spec
        trims = np.zeros(spec.n, np.int64)
        counts = np.zeros(spec.n)
        expected = spec.f0_hz * self._gate_us * 1e-6
        for _ in range(self._gates):
            counts += self.board.count_frequency(self._gate_us, trims).counts - expected
        self._looks += 1
        end_us = self.board.run_us(np.zeros(1, np.int64))
        times = [0.0, end_us] if spec.max_reads > 1 else [end_us]
        seen = self.board.run(
            RunCodes(
                sample_id=np.arange(SAMPLES),
                step_id=STEP_ID + self._looks % 2**20,
                play=np.zeros(1, np.int64),
                start_phase=np.tile(self._start, (SAMPLES, 1)),
            ),
            read_at_us=times,
        )
        good = seen.locked & ~seen.overflow
        if good.mean() < 0.5:
            raise DeviceFault(
                f"{good.mean():.0%} of {SAMPLES} samples kept their lock; allowed: 50% or more",
                device=self.board.name, operation="probe for drift",
            )  # fmt: skip
        turned = np.exp(1j * spec.read_rad(seen.codes[good])).mean(axis=0)
        return Look(
            {
                "detuning_units": counts / self._gates / (expected * spec.eps),
                "phase_cos": turned.real,
                "phase_sin": turned.imag,
            },
            self.device_us,
        )

    def reading(self, look: Look, reference: Look) -> Reading:
        """Series: detuning and phases of every oscillator, and their means."""
        n = self.board.spec.n
        turned, before = (one.arrays["phase_cos"] + 1j * one.arrays["phase_sin"] for one in (look, reference))
        away = wrapped(np.angle(turned * np.conj(before)))
        each = [f"of oscillator {i}" for i in range(n)]
        detuning = look.arrays["detuning_units"]
        count = 1 / (self.board.spec.f0_hz * self._gate_us * 1e-6 * self.board.spec.eps)
        steps = {  # a count between two: up to half of it; phases are means of many
            "units": 0.5 * count / self._gates**0.5,
            "rad": 2 * np.pi / 2**self.board.spec.read_bits / (12 * SAMPLES) ** 0.5,
        }
        parts: list[tuple[Group, list[str], FloatArray]] = [
            (FREQUENCY, ["mean of the board"], np.atleast_1d(detuning.mean())),
            (FREQUENCY, each, detuning),
            *([(SKEW, each, away[0])] if len(away) > 1 else []),
            (GOLDEN, each, away[-1]),
        ]
        return Reading(
            tuple(f"{group.name} {word}" for group, words, _ in parts for word in words),
            np.concatenate([values for _, _, values in parts]),
            tuple(group for group, words, _ in parts for _ in words),
            np.concatenate(
                [
                    np.full(len(values), steps[group.unit] * (n**-0.5 if len(values) == 1 else 1.0))
                    for group, _, values in parts
                ]
            ),
        )


def has_program(board: OscillatorBoard) -> bool:
    """Whether a look has something to play."""
    try:
        board.loaded()
    except DeviceStateError:
        return False
    return True


def _whole(gate_us: float, f0_hz: float, allowed_us: tuple[float, float]) -> float:
    """The nearest gate of whole reference periods."""
    periods = max(1.0, round(gate_us * 1e-6 * f0_hz))
    return float(min(max(periods * 1e6 / f0_hz, allowed_us[0]), allowed_us[1]))
