"""The morning check: dark, flat, golden vector, settle trace and golden sample against charts in the store,
and on an optical bench an examination that says which physical fault the readings speak for.

The first check after a calibration learns how its readings scatter, and what they are where no record states
that (`drift.stated`); from then on every check is one more reading of the same charts. Its record keeps all
readings since, so that the newest tells the whole story.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from labctl.devices import CalibrationRecord, Device, Identity, LoopElectronics, WeightModulator
from labctl.engines import OpticalLoopEngine
from labctl.models.checkpoint import load_network
from labctl.programs import encode_frame
from labctl.sampling import LoopMachine, Sampler, compile_program, scheme, sigmas
from labctl.sampling.sampler import start_noise
from labctl.version import __version__
from labctl_calibration.diagnosis.examining import Examination
from labctl_calibration.diagnosis.faults import FAULTS, HEALTHY
from labctl_calibration.diagnosis.signs import Signs
from labctl_calibration.diagnosis.verdict import Diagnosis, diagnose
from labctl_calibration.drift.charts import DAY_S, Alarm, Charts
from labctl_calibration.drift.keeping import baseline_of, keep_baseline
from labctl_calibration.drift.look import FloatArray, Group, Learnt, Look, Prober, Reading, learn
from labctl_calibration.drift.optical import OpticalProber
from labctl_calibration.drift.stated import stated_by
from labctl_calibration.drift.watch import Drifted, by_group
from labctl_calibration.nominal import nominal_panel_record
from labctl_calibration.open_loop import OFFSET_REPEATS, WEIGHT_REPEATS, calibrate_open_loop, usual_us
from labctl_calibration.optical.dense import dense_fractions
from labctl_calibration.optical.warm_up import KIND as WARM_UP
from labctl_calibration.optical.warm_up import TEMPERATURE
from labctl_calibration.panel_record import KIND as PANEL_KIND
from labctl_calibration.planning import Bench
from labctl_calibration.procedure import Tell
from labctl_calibration.staleness import Standing
from labctl_calibration.store import About, DriftEvent, RecordStore, Stored
from labctl_calibration.taking import silent

BASELINE, MORNING, GOLDEN = "morning baseline", "morning", "golden sample"
LEARN = 16  # looks of a baseline
AVERAGED = 4  # looks on the bench that make one
COLD_C = 1.0  # below the temperature at which the light had become steady
FALSE_A_DAY = 0.01  # of the morning's charts: one false alarm in 100 mornings
NETWORK, SAMPLES, STEPS = "moons-4bit", 64, 4
SIGMA_MAX, SIGMA_MIN = 10.0, 0.06
READINGS, BROKEN, EXAM = "readings", "broken", "exam_"
NAMED = 3  # suspects that a record and a screen name

SAMPLE = Group(
    "golden sample", GOLDEN, "golden", LoopElectronics, "units", "what comes out of a fixed sampling run",
    ("light", "dark level", "golden vector", "shape of the golden vector", "rest", "answer"),
)  # fmt: skip


class OpticalMorning:
    """An examination and several looks on the dense frame, then a small sampling run on the engine."""

    title = "examination, dark, flat, golden vector, settle trace, golden sample"

    def __init__(self, engine: OpticalLoopEngine, modulator: WeightModulator, electronics: LoopElectronics,
                 panel: CalibrationRecord) -> None:  # fmt: skip
        self._engine, self._modulator, self._electronics = engine, modulator, electronics
        n = electronics.spec.n_channels
        frame = encode_frame(dense_fractions(n), modulator.spec, panel)
        self._levels, self._shown = frame.levels, frame.realised
        self._examination = Examination(modulator, electronics, frame.levels)
        self._null = np.zeros(n)
        self._probes = OpticalProber(electronics, lambda: self._null)
        self._network = load_network(NETWORK)
        self._sampler = Sampler(scheme("implicit-midpoint"), sigmas("flow", STEPS, SIGMA_MAX, SIGMA_MIN))
        self._program = compile_program(self._network, self._sampler, n)
        self._looks = 0

    @property
    def device_us(self) -> float:
        """By the data sheets: two frames, their nulls and weights (in steady light for samples), the looks,
        the samples.
        """
        spec = self._electronics.spec
        shown = self._modulator.spec.settle_time_us
        null = (OFFSET_REPEATS + 2 * spec.n_channels * WEIGHT_REPEATS) * spec.window_us
        settles = SAMPLES * len(self._program.segments) * (spec.wait_us + spec.window_us)
        looks = AVERAGED * self._probes.device_us + self._examination.device_us
        return 2 * shown + null + usual_us(spec) + looks + settles

    @property
    def patterns(self) -> FloatArray:
        """phi [P, n] of the golden vectors."""
        return self._probes.patterns

    def look(self) -> Look:
        """Read once; what is on display afterwards is the sampling run's frame."""
        examined = self.examine().arrays
        looks = [self._probes.look() for _ in range(AVERAGED)]
        arrays = {name: np.mean([one.arrays[name] for one in looks], axis=0) for name in looks[0].arrays}
        arrays |= examined
        arrays["golden_samples"] = self._samples()
        return Look(arrays, self.device_us)

    def examine(self) -> Look:
        """The examination alone, all that `diagnose` asks for; the dense frame is on display afterwards."""
        self._modulator.show(self._levels)
        self._null = calibrate_open_loop(self._electronics).array("null_codes")
        found = self._examination.look(self._null)
        return Look({EXAM + name: values for name, values in found.items()}, self._examination.device_us)

    def diagnose(self, look: Look, reference: Look, odds: Mapping[str, float] | None = None) -> Diagnosis:
        """Which physical fault a look speaks for; odds: `labctl_calibration.diagnosis.verdict.diagnose`."""
        today, before = (
            {name.removeprefix(EXAM): values for name, values in one.arrays.items() if name.startswith(EXAM)}
            for one in (look, reference)
        )
        asked = dense_fractions(self._electronics.spec.n_channels)
        return diagnose(Signs(today, before, self._shown, asked, self._examination.biases_units), odds)

    def reading(self, look: Look, reference: Look) -> Reading:
        """The probes' series, and by how much the samples miss the reference's."""
        seen = self._probes.reading(look, reference)
        missed = look.arrays["golden_samples"] - reference.arrays["golden_samples"]
        rms = float(np.sqrt(np.mean(missed**2)))
        return Reading(
            (*seen.names, "golden sample, missed by"),
            np.append(seen.values, rms),
            (*seen.groups, SAMPLE),
            np.append(seen.least_sd, 0.0),
        )

    def _samples(self) -> FloatArray:
        """[SAMPLES, 2] of the same start noise every time."""
        self._engine.load(self._program)
        ids = np.arange(SAMPLES)
        self._looks += 1
        machine = LoopMachine(
            self._engine, self._network, self._program, labels=None,
            sample_id=self._looks * SAMPLES + ids,  # a twin's draws; the start is the same
        )  # fmt: skip
        start = start_noise(ids, self._network.sizes[0], seed=0, sigma_max=SIGMA_MAX)
        return self._sampler.run(machine, start, sample_id=ids, seed=0)


@dataclass(frozen=True, eq=False)
class Morning:
    """What a morning found. wrong: series that left their charts, by record. stale: records not in order.

    learnt: whether this check was the first, and so sets what later ones are compared with. charts: after
    this reading; history [k, m]: all readings since the baseline. device_s: device time that it took.
    procedures: names by the kind of their records. diagnosis: of an optical bench, None on others. cold: that
    the bench is colder than when its light was steady, in words; empty where it is not, or nobody knows.
    """

    rig: str
    at: datetime
    wrong: tuple[Drifted, ...]
    stale: tuple[Standing, ...]
    learnt: bool
    baseline: Learnt
    charts: Charts
    history: FloatArray
    baseline_at: str
    device_s: float
    procedures: dict[str, str]
    diagnosis: Diagnosis | None = None
    cold: str = ""

    @property
    def green(self) -> bool:
        """Whether nothing is wrong."""
        return not self.wrong and not self.stale and not self.fault

    @property
    def fault(self) -> str:
        """Name of the likeliest physical fault; empty where none is likelier than health, or none is told."""
        return "" if self.diagnosis is None or self.diagnosis.healthy else self.diagnosis.first.name

    @property
    def remedies(self) -> tuple[str, ...]:
        """Procedures to run, each once: what the fault spoilt, then what drifted; none of a cold bench."""
        if self.cold:
            return ()
        known = self.procedures.values()
        broken = [name for name in FAULTS[self.fault or HEALTHY].procedures if name in known]
        drifted = [one.group.procedure for one in self.wrong if one.group.procedure in known]
        stale = [self.procedures[one.kind] for one in self.stale if one.kind in self.procedures]
        return tuple(dict.fromkeys((*broken, *drifted, *stale)))


def check_morning(
    bench: Bench,
    prober: Prober,
    device: Device,
    *,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    tell: Tell = silent,
    again: bool = False,
    odds: Mapping[str, float] | None = None,
) -> Morning:
    """Read once and compare. The first time, after any calibration, and where `again`: learn first. `odds`:
    what a run's file says of faults (`labctl_calibration.diagnosis.from_run`).

    Drift is noted in the store, so that the records in doubt are stale; not that of a cold bench. DeviceFault
    for what cannot be read.
    """
    store, now = bench.store, clock()
    identity = device.open()
    standings = [bench.standing(one, now) for one in bench.procedures]
    in_use = [one.stored.id for one in standings if one.stored is not None]
    cold = told_cold(standings, device)
    kept = None if again else store.newest(BASELINE, identity.serial)
    if kept is not None and not set(in_use) <= set(kept.record.upstream):
        kept = None  # calibrated since
    learnt = None if kept is None else baseline_of(kept, prober)
    first, looked = learnt is None, 0
    if learnt is None or kept is None:
        looks = []
        for done in range(LEARN):
            tell("what is usual", done, LEARN)
            looks.append(prober.look())
        looked = LEARN
        rig = bench.circumstances.rig
        kept = keep_baseline(store, BASELINE, device, looks, prober, rig=rig, upstream=in_use)
        learnt = learn(prober, looks)
    patterns = prober.patterns if isinstance(prober, OpticalMorning) else None
    learnt = learnt.with_stated(stated_by(_rests_on(store, kept), learnt.reference, patterns))
    tell("today", 0, 1)
    look = prober.look()
    values = learnt.values(prober, look)
    diagnosis = prober.diagnose(look, learnt.reference, odds) if isinstance(prober, OpticalMorning) else None
    before, broken = _history(store, identity, kept, 0 if first else len(values))
    history = np.vstack([before.reshape(-1, len(values)), values])
    charts = Charts.new(learnt.baseline, interval_s=DAY_S, alarms_per_day=FALSE_A_DAY)
    alarms: tuple[Alarm, ...] = ()
    for reading, was_broken in zip(history, [*broken, False], strict=True):  # the last is today's
        charts, alarms = (charts.afresh(), ()) if was_broken else charts.after(reading)
    wrong = by_group(alarms, learnt.groups)
    _keep(store, bench, identity, kept, history, broken, wrong, look, diagnosis)
    if not cold:
        _note(store, bench, wrong, now)
    # what drifted today is told once, by its charts
    told = {one.group.kind for one in wrong}
    stale = tuple(
        one for one in standings
        if (one.because_of("identity") or (one.stored is not None and not one.in_order))
        and one.kind not in told
    )  # fmt: skip
    return Morning(
        bench.circumstances.rig, now, wrong, stale, first, learnt, charts, history, kept.record.taken_at,
        (looked + 1) * prober.device_us * 1e-6, {one.kind: one.name for one in bench.procedures},
        diagnosis, cold,
    )  # fmt: skip


def told_cold(standings: Sequence[Standing], device: Device) -> str:
    """That a bench is not at the temperature which its warm-up ended at, in words; empty otherwise."""
    ended = next((one.stored for one in standings if one.kind == WARM_UP and one.stored is not None), None)
    warm = None if ended is None else ended.about.quantity(TEMPERATURE)
    if warm is None or not isinstance(device, LoopElectronics):
        return ""
    now_c = device.temperature_c()
    if now_c > warm.value - COLD_C:
        return ""
    return f"not warm yet: the electronics are at {now_c:.1f} °C, and were at {warm.value:.1f} °C when warm"


def panel_of(bench: Bench, modulator: WeightModulator, n: int) -> CalibrationRecord:
    """The panel's record in use, or that of its design."""
    serial = modulator.open().serial
    stored = bench.store.newest(PANEL_KIND, serial)
    return nominal_panel_record(modulator.spec, n, serial) if stored is None else stored.record


def _rests_on(store: RecordStore, kept: Stored) -> dict[str, CalibrationRecord]:
    """Accepted records by kind that a baseline rests on, as far as they are still in the store."""
    there = [store.get(name) for name in kept.record.upstream if store.head_path(name).is_file()]
    return {one.record.kind: one.record for one in there if one.about.accepted}


def _history(
    store: RecordStore, identity: Identity, kept: Stored, m: int
) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Readings [k, m] since the baseline, and on which mornings [k] a part was broken: after those charts
    begin anew. None where the newest check is of another baseline, or m is 0.
    """
    newest = store.newest(MORNING, identity.serial) if m else None
    if newest is None or kept.id not in newest.record.upstream:
        return np.zeros((0, m)), np.zeros(0, np.bool_)
    readings = newest.record.array(READINGS)
    broken = newest.record.arrays.get(BROKEN, np.zeros(len(readings)))
    return readings, np.asarray(broken) > 0


def _keep(
    store: RecordStore, bench: Bench, identity: Identity, kept: Stored, history: FloatArray,
    broken: NDArray[np.bool_], wrong: Sequence[Drifted], look: Look, diagnosis: Diagnosis | None,
) -> None:  # fmt: skip
    said = [one.words for one in wrong]
    named: dict[str, float] = {}
    if diagnosis is not None:
        named = {one.name: round(one.probability, 4) for one in diagnosis.suspects[:NAMED]}
        if not diagnosis.healthy:
            said.insert(0, f"{diagnosis.first.words}: {diagnosis.first.evidence}")
    today = diagnosis is not None and not diagnosis.healthy
    examined = {name: values for name, values in look.arrays.items() if name.startswith(EXAM)}
    record = CalibrationRecord(
        kind=MORNING,
        device_serial=identity.serial,
        taken_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
        arrays={READINGS: history, BROKEN: np.append(broken, today).astype(np.float64), **examined},
        settings={"diagnosis": json.dumps(named)} if named else {},
        upstream=(kept.id,),
    )
    around = bench.circumstances
    store.put(
        record,
        About(
            rig=around.rig, identity=identity, code_version=__version__, operator=around.operator,
            findings=tuple(said) or ("green",),
        ),
    )  # fmt: skip


def _note(store: RecordStore, bench: Bench, wrong: Sequence[Drifted], now: datetime) -> None:
    for one in wrong:
        if one.group.kind not in bench.by_kind or not bench.devices.has(one.group.device):
            continue
        serial = bench.devices.get(one.group.device).open().serial
        if store.newest(one.group.kind, serial) is not None:
            at = now.isoformat(timespec="milliseconds")
            store.note_drift(DriftEvent(one.group.kind, serial, at, one.words))
