"""A watch on drift while a run goes on: small probes between batches, and what is done about an alarm."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from labctl_calibration.drift.board import BoardProber
from labctl_calibration.drift.keeping import baseline_of, keep_baseline
from labctl_calibration.drift.look import Look, Prober
from labctl_calibration.drift.optical import OpticalProber
from labctl_calibration.drift.watch import Drifted, Pace, Watch
from labctl_calibration.planning import Wish
from labctl_calibration.rows_record import KIND as ROWS_KIND
from labctl_calibration.rows_record import trims_of
from labctl_calibration.session import calibrate
from labctl_calibration.store import DriftEvent, RecordStore

from labctl.devices import (
    ConfigError,
    DataError,
    Device,
    DeviceFault,
    DriftStop,
    LoopElectronics,
    OscillatorBoard,
    Scalar,
)
from labctl.engines import OpticalLoopEngine
from labctl.procedures.interrupts import uninterrupted
from labctl.procedures.parts import Part
from labctl.procedures.watching import PanelResult, Relay, SettleReport, Watcher
from labctl.rig import Rig
from labctl.rig.calibrating import bench_of
from labctl.rig.config import OnDrift, WatchConfig
from labctl.runlog import DriftRecord, RunWriter, WatchLook

BASELINE = "drift baseline"


def require_watchable(rig: Rig) -> None:
    """ConfigError where the rig has nothing that the probes of a watch work with."""
    if rig.config.watch is None:
        return
    optical = isinstance(rig.engine, OpticalLoopEngine) if rig.config.law == "loop" else False
    if rig.config.law == "oscillator" or optical:
        return
    raise ConfigError(
        f"rig {rig.name} is watched for drift ({rig.config.watch.on_drift}), and its engine is "
        f"{rig.config.engine}; allowed: optical-loop and oscillator rigs, or no watch"
    )


class DriftWatcher(Relay):
    """Tells `inner`, and looks at the bench between batches. A look changes no sample's draws; it takes time.

    The baseline of a program's frame on a device is kept in the rig's records, where there are any, so that
    the next run knows what the bench was like; `refit-biases`, `recalibrate` and a new program start anew.
    """

    def __init__(self, inner: Watcher, rig: Rig, config: WatchConfig) -> None:
        super().__init__(inner)
        self._rig, self._config = rig, config
        self._pace = Pace(config.every_s, config.duty, config.alarms_per_day)
        self._writer: RunWriter | None = None
        self._watch: Watch | None = None
        self._panel = ""
        self._used_us = self._all_looks_us = self._all_learning_us = 0.0
        self._looks, self._begun_s, self.events = 0, self._now_s(), list[DriftRecord]()
        self._expected_us: dict[str, float] = {}
        self._unwatched: dict[str, str] = {}

    def writes_to(self, writer: RunWriter) -> None:
        """The run's file, once it is open."""
        self._writer = writer

    def planned(self, parts: Sequence[Part], path: Path) -> None:
        """Passed on."""
        self._inner.planned(parts, path)
        self._expected_us = {part.name: part.expected_us(self._rig) for part in parts}

    def settled(self, report: SettleReport) -> None:
        """Passed on; then a look, where one is due. DriftStop where the policy is to stop."""
        self._inner.settled(report)
        self._used_us += report.device_us
        if report.panel in self._unwatched:
            return
        if self._watch is None or report.panel != self._panel:
            self._panel = report.panel
            self._begin()
        watch = self._watch
        if watch is None or not self._due(watch):
            return
        before_us = watch.device_us
        found = watch.look(self._now_s())
        self._looks += 1
        self._all_looks_us += watch.device_us - before_us
        self._write_look(WatchLook(self._now_s() - self._begun_s, watch.device_us - before_us, watch.worst))
        self._met(found, report)

    def panel_done(self, panel: PanelResult) -> None:
        """Passed on; the next panel is another program."""
        self._inner.panel_done(panel)
        self._watch = None

    def metrics(self) -> dict[str, Scalar]:
        """What the watch cost and saw."""
        whole_us = self._used_us + self._all_looks_us
        return {
            "watch_looks": self._looks,
            "watch_device_us": self._all_looks_us,
            "watch_baseline_us": self._all_learning_us,
            "watch_duty": self._all_looks_us / whole_us if whole_us else 0.0,
            "drift_events": len(self.events),
            **({"watch_left_out": "; ".join(self._unwatched.values())} if self._unwatched else {}),
        }

    def _due(self, watch: Watch) -> bool:
        """Whether to look now: looks at earlier programs count too."""
        budget_us = self._pace.duty * (self._used_us + self._all_looks_us)
        within = self._all_looks_us + watch.prober.device_us <= budget_us
        return within and watch.due(self._now_s(), self._used_us)

    def _not_watched(self, prober: Prober) -> str:
        """Why the program of this panel cannot be watched; empty where it can."""
        expected_us = self._expected_us.get(self._panel, 0.0)
        if self._pace.duty * expected_us < prober.device_us:
            return (
                f"{self._panel or 'the run'} takes {1e-3 * expected_us:.3g} ms of device time, of which a "
                f"look of {1e-3 * prober.device_us:.3g} ms is more than {100 * self._pace.duty:g}%"
            )
        engine = self._rig.engine if self._rig.config.law == "loop" else None
        if isinstance(engine, OpticalLoopEngine) and " " in engine.frame_checksum:
            return f"{self._panel or 'the run'} shows several frames in turn"
        return ""

    # -- baselines --------------------------------------------------------------------------------------

    def _begin(self) -> None:
        """A watch for the program that is loaded now: its baseline from the records, or read now."""
        prober, device, program = self._prober()
        if why := self._not_watched(prober):
            self._unwatched[self._panel] = why
            self._watch = None
            return
        self._watch = watch = Watch(prober, self._pace)
        store = self._rig.records
        kind = f"{BASELINE} {program[:12]}"
        kept = None if store is None else store.newest(kind, device.open().serial)
        if kept is not None and set(kept.record.upstream) != set(self._rig.record_ids):
            kept = None  # calibrated since
        learnt = None if kept is None else baseline_of(kept, prober)
        if learnt is not None:
            watch.use(learnt)
            return
        self._learn(watch, store, kind, device)

    def _learn(self, watch: Watch, store: RecordStore | None, kind: str, device: Device) -> None:
        looks = watch.learn()
        taken_us = sum(look.device_us for look in looks)
        self._all_learning_us += taken_us
        self._write_look(WatchLook(self._now_s() - self._begun_s, taken_us, 0.0, learning=True))
        if store is not None:
            keep_baseline(
                store, kind, device, looks, watch.prober, rig=self._rig.name, upstream=self._rig.record_ids
            )

    def _prober(self) -> tuple[OpticalProber | BoardProber, Device, str]:
        """Probes of this rig, the device they look at, and what is loaded as a hash."""
        rig = self._rig
        if rig.config.law == "oscillator":
            board = rig.device(OscillatorBoard)
            return BoardProber(board), board, rig.oscillators.program.hash
        electronics = rig.device(LoopElectronics)
        engine = rig.engine
        if not isinstance(engine, OpticalLoopEngine):
            raise ConfigError(f"rig {rig.name}: its engine is {rig.config.engine}; allowed: optical-loop")
        shown = hashlib.sha256(engine.frame_checksum.encode()).hexdigest()
        return OpticalProber(electronics, lambda: engine.null_codes), electronics, shown

    # -- events -----------------------------------------------------------------------------------------

    def _met(self, found: Sequence[Drifted], report: SettleReport) -> None:
        if not found:
            return
        policy = self._config.on_drift
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        for one in found:
            self._note(one, at)
        done = self._act(policy, found)
        for one in found:
            first = one.alarms[0]
            event = DriftRecord(
                at, self._now_s() - self._begun_s, report.panel, report.index + 1, one.group.kind, first.name,
                first.change, one.group.unit, first.over, one.words, policy, done,
            )  # fmt: skip
            self.events.append(event)
            if self._writer is not None and self._writer.watch is not None:
                with uninterrupted():
                    self._writer.watch.event(event)
            self._inner.drifted(event)
        if policy == "stop":
            raise DriftStop(
                f"{self._rig.name} drifted: {'; '.join(one.words for one in found)}; policy 'stop'"
            )

    def _note(self, one: Drifted, at: str) -> None:
        """The record that the group belongs to is stale from now on, where there is one."""
        store = self._rig.records
        if store is None:
            return
        serial = self._rig.device(one.group.device).open().serial
        if store.newest(one.group.kind, serial) is not None:
            store.note_drift(DriftEvent(one.group.kind, serial, at, one.words))

    def _act(self, policy: OnDrift, found: Sequence[Drifted]) -> str:
        """What the policy asks for; in words, what was done."""
        watch = self._watch
        if policy == "stop":
            return "stopped, the rig left safe"
        if policy == "warn" or watch is None:
            if watch is not None:
                watch.muted |= {one.group.kind for one in found}
            return "noted"
        actions: dict[str, Callable[[Sequence[Drifted]], str]] = {
            "refit-biases": self._refit_biases, "recalibrate": self._recalibrate,
        }  # fmt: skip
        done = actions[policy](found)
        self._begin_anew(watch)
        return done

    def _begin_anew(self, watch: Watch) -> None:
        """After something was done: what the bench is like now is the baseline."""
        prober, device, program = self._prober()
        self._watch = anew = Watch(prober, self._pace, muted=set(watch.muted))
        self._learn(anew, self._rig.records, f"{BASELINE} {program[:12]}", device)

    def _refit_biases(self, found: Sequence[Drifted]) -> str:
        """Offsets alone: on a bench the null of every detector and, where rows rest elsewhere, their biases;
        on a board the trims.
        """
        rig, watch = self._rig, self._watch
        if watch is None or watch.learnt is None:
            return "noted"
        before = watch.learnt.reference
        if rig.config.law == "oscillator":
            return self._trim_again(before, watch.prober.look())
        engine = rig.engine
        if not isinstance(engine, OpticalLoopEngine):
            return "noted"
        engine.reload()
        trims = engine.channel_trims
        if trims is None or not any(one.group.kind == ROWS_KIND for one in found):
            return "offsets nulled and weights measured anew"
        moved = watch.prober.look().arrays["rest_units"] - before.arrays["rest_units"]
        leak = trims.leak_scale + trims.leak_offset  # the probes settle at full leak
        engine.reload(replace(trims, offset_units=trims.offset_units + leak * moved))
        return f"offsets nulled anew, biases moved by {np.abs(moved).max():.2g} units at most"

    def _trim_again(self, before: Look, now: Look) -> str:
        """Every segment's trims of the loaded program, by how far the free frequencies have moved."""
        board = self._rig.device(OscillatorBoard)
        moved = now.arrays["detuning_units"] - before.arrays["detuning_units"]
        image, unit = board.loaded(), board.spec.detuning.units_per_code
        asked = image.detuning - np.rint(moved / unit).astype(np.int64)
        top = board.spec.detuning.max_code
        if np.abs(asked).max() > top:
            return (
                f"noted: frequencies moved by {np.abs(moved).max():.2g} units, more than the trims have "
                "left; it needs recalibrating"
            )
        board.load(replace(image, detuning=asked))
        return f"trims moved by {np.abs(moved).max():.2g} units at most"

    def _recalibrate(self, found: Sequence[Drifted]) -> str:
        """The procedures whose records are in doubt, each alone; then the program is shown again."""
        rig = self._rig
        store = rig.records
        if store is None:
            return "noted: there is no folder of records to calibrate into"
        bench = bench_of(rig, store, "watch on drift")
        wanted = {one.group.procedure for one in found}
        names = [one.name for one in bench.procedures if one.name in wanted]
        image = rig.device(OscillatorBoard).loaded() if rig.config.law == "oscillator" else None
        done = [f"{name} is no procedure of this rig" for name in sorted(wanted - set(names))]
        for name in names:
            try:
                ran = [one for one in calibrate(bench, Wish(only=name, again=name)) if one.measured]
            except (ConfigError, DataError, DeviceFault) as error:
                done.append(f"{name} not measured: {error}")
                continue
            done += [f"{name} measured, {'accepted' if one.accepted else 'not accepted'}" for one in ran]
        if image is not None:
            rig.device(OscillatorBoard).load(image)
        elif isinstance(rig.engine, OpticalLoopEngine):
            rows = store.newest(ROWS_KIND, rig.device(LoopElectronics).open().serial)
            by_records = rig.engine.channel_trims is not None
            rig.engine.reload(trims_of(rows.record) if by_records and rows is not None else None)
        return "; ".join(done)

    # -- clock and file ---------------------------------------------------------------------------------

    def _now_s(self) -> float:
        """A twin's clock, or this computer's."""
        world = self._rig.world
        return time.monotonic() if world is None else float(world.now_us) * 1e-6

    def _write_look(self, look: WatchLook) -> None:
        if self._writer is not None and self._writer.watch is not None:
            with uninterrupted():
                self._writer.watch.look(look)
