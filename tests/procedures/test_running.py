"""The Python face: five lines, watchers, what an error or a stop leaves behind."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import numpy as np
import pytest

import labctl
from labctl import load_protocol, open_rig, run
from labctl.devices import (
    Aborted,
    ConfigError,
    DeviceUnavailable,
    LoopElectronics,
    RunLogError,
    WeightModulator,
)
from labctl.engines import FixedPointResult, Ledger
from labctl.engines.result import AppliedKnobs
from labctl.procedures import Chain, PanelResult, SettleReport, Watcher, chains_of, check_state_noise
from labctl.procedures.chain_part import settle_report
from labctl.runlog import RunReader, RunWriter

SMALL = {"samples": 12, "audit": 0, "reference": 50}


@pytest.fixture
def protocol():
    return load_protocol("sample_moons", SMALL)


@pytest.fixture
def rig():
    with open_rig("optical-twin") as opened:
        yield opened


class Doing(Watcher):
    """Does something once a settle is done."""

    def __init__(self, after: int, what) -> None:
        self.after, self.what = after, what

    def settled(self, report: SettleReport) -> None:
        if report.index == self.after:
            self.what()


def interrupt() -> None:
    raise KeyboardInterrupt


def test_the_five_lines_of_the_front_page(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    lines = labctl.__doc__.split("\n\n", 1)[1]
    assert len([line for line in lines.splitlines() if line]) == 4  # and the fifth prints
    scope: dict = {}
    exec(lines.replace('"sample_moons"', f'"sample_moons", {SMALL}'), scope)
    assert scope["result"].file.is_file()
    assert scope["result"].samples.shape == (12, 2)


def test_devices_are_usable_raw(rig) -> None:
    panel, electronics = rig.device(WeightModulator), rig.device(LoopElectronics)
    frame = np.zeros(panel.spec.shape_px, np.uint16)
    frame[:, ::2] = 200
    receipt = panel.show(frame)
    np.testing.assert_array_equal(panel.shown(), frame)
    assert receipt.settled
    counts = electronics.probe(np.zeros((3, electronics.spec.n_channels), np.int64)).counts
    assert counts.shape == (3, 48)
    assert set(rig.snapshot()) == {"panel", "emitters", "electronics", "camera"}
    assert all(identity.simulated for identity in rig.identities.values())


def test_a_watcher_is_told_everything_in_order(protocol, rig, tmp_path) -> None:
    told = []

    class Noting(Watcher):
        def preparing(self, what: str, done: int, total: int) -> None:
            told.append((what, done, total))

        def planned(self, chains: list[Chain], path: Path) -> None:
            told.append(("planned", len(chains), path.with_name(path.name + ".part").is_file()))

        def settled(self, report: SettleReport) -> None:
            told.append((report.index, report.of, sum(report.outcomes.values())))

        def panel_done(self, panel: PanelResult) -> None:
            told.append(("done", panel.name, len(panel.settles)))

    run(protocol, rig, out=tmp_path, watcher=Noting())
    settles = [(index, 5, 12) for index in range(5)]
    assert told == [("state noise", 0, 1), ("planned", 1, True), *settles, ("done", "", 5)]


def test_what_is_reported_is_in_the_file_already(protocol, rig, tmp_path) -> None:
    class Reading(Watcher):
        path = Path()

        def planned(self, chains: list[Chain], path: Path) -> None:
            self.path = path

        def settled(self, report: SettleReport) -> None:
            with RunReader(self.path) as live:
                assert live.panel().n_steps == report.index + 1

    run(protocol, rig, out=tmp_path, watcher=Reading())


@pytest.mark.parametrize("after", [0, 3])
def test_a_stop_closes_rig_and_file(protocol, rig, tmp_path, after) -> None:
    with pytest.raises(Aborted, match="the rig is safe; the file is whole and marked aborted") as stop:
        run(protocol, rig, out=tmp_path, watcher=Doing(after, interrupt))
    (file,) = tmp_path.iterdir()
    assert str(file) in str(stop.value)
    assert rig.devices == {}
    with RunReader(file) as log:
        assert (log.status, log.panel().n_steps) == ("aborted", after + 1)


def test_a_stop_before_the_first_step_writes_nothing(protocol, rig, tmp_path) -> None:
    class Stopping(Watcher):
        def preparing(self, what: str, done: int, total: int) -> None:
            raise KeyboardInterrupt

    with pytest.raises(Aborted, match="nothing was written"):
        run(protocol, rig, out=tmp_path, watcher=Stopping())
    assert rig.devices == {}
    assert list(tmp_path.iterdir()) == []


def test_a_bench_that_disappears_leaves_a_file_marked_failed(protocol, rig, tmp_path) -> None:
    with pytest.raises(DeviceUnavailable, match="electronics: settle: the bench has disappeared"):
        run(protocol, rig, out=tmp_path, watcher=Doing(1, rig.world.unplug))
    (file,) = tmp_path.iterdir()
    with RunReader(file) as log:
        # step 3 had settled before step 2 was told of (writing runs beside settling): it is kept
        assert (log.status, log.panel().n_steps) == ("failed", 3)
        assert np.isfinite(log.panel().x(2)).all()


def test_a_rig_that_cannot_be_closed_is_told_beside_the_first_error(
    protocol, rig, tmp_path, monkeypatch
) -> None:
    panel = rig.device(WeightModulator)

    def jammed() -> None:
        raise DeviceUnavailable("it is jammed", device="panel", operation="close")

    monkeypatch.setattr(panel, "_do_close", jammed)
    with pytest.raises(Aborted, match="the rig could not be closed; the file is whole"):
        run(protocol, rig, out=tmp_path, watcher=Doing(0, interrupt))
    with open_rig("optical-twin") as other:
        monkeypatch.setattr(other.device(WeightModulator), "_do_close", jammed)
        with pytest.raises(DeviceUnavailable, match="disappeared") as failed:
            run(protocol, other, out=tmp_path, watcher=Doing(0, other.world.unplug))
    assert any("it is jammed" in note for note in failed.value.__notes__)


def test_a_mistake_leaves_the_rig_open_for_the_next_try(rig, tmp_path) -> None:
    with pytest.raises(ConfigError, match="sigma_min"):
        run(load_protocol("sample_moons", {**SMALL, "sigma_min": 0.001}), rig, out=tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(RunLogError, match="not a folder"):
        run(load_protocol("sample_moons", SMALL), rig, out=tmp_path / "file")
    assert run(load_protocol("sample_moons", SMALL), rig, out=tmp_path / "runs").file.is_file()


def test_two_runs_in_the_same_second_get_two_files(protocol, rig, tmp_path) -> None:
    files = {run(protocol, rig, out=tmp_path).file for _ in range(2)}
    assert len(files) == 2


def test_a_name_taken_in_the_last_moment_is_not_in_the_way(protocol, rig, tmp_path, monkeypatch) -> None:
    """Another process may choose the same name between choosing it and making the file."""
    names = iter(("taken.nxs", "free.nxs", "free.nxs"))
    (tmp_path / "taken.nxs").write_text("another run")
    monkeypatch.setattr("labctl.procedures.running.fresh_path", lambda out, _: out / next(names))
    assert run(protocol, rig, out=tmp_path).file == tmp_path / "free.nxs"
    assert (tmp_path / "taken.nxs").read_text() == "another run"


def test_a_stop_just_after_the_file_was_made(protocol, rig, tmp_path, monkeypatch) -> None:
    made = RunWriter.create.__func__

    def made_then_stopped(*args: object) -> RunWriter:
        signal.raise_signal(signal.SIGINT)
        return made(RunWriter, *args)

    monkeypatch.setattr(RunWriter, "create", made_then_stopped)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(Aborted, match="whole and marked aborted"):
            run(protocol, rig, out=tmp_path)
    finally:
        signal.signal(signal.SIGINT, before)
    (file,) = tmp_path.iterdir()
    with RunReader(file) as log:
        assert (log.status, log.panel().n_steps) == ("aborted", 0)


def test_a_stop_just_after_the_end_finds_the_run_complete(protocol, rig, tmp_path, monkeypatch) -> None:
    finish = RunWriter.finish

    def finished_then_stopped(self: RunWriter, **kwargs: object) -> Path:
        signal.raise_signal(signal.SIGINT)
        return finish(self, **kwargs)

    monkeypatch.setattr(RunWriter, "finish", finished_then_stopped)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(Aborted, match="the file is complete"):
            run(protocol, rig, out=tmp_path)
    finally:
        signal.signal(signal.SIGINT, before)
    (file,) = tmp_path.iterdir()
    with RunReader(file) as log:
        assert log.status == "success"


def test_a_closed_rig_is_refused_before_anything_long(protocol, tmp_path) -> None:
    rig = open_rig("digital")
    rig.close()
    with pytest.raises(ConfigError, match="rig digital is not open"):
        run(protocol, rig, out=tmp_path)


def test_the_state_noise_follows_the_noise_and_vanishes_without(rig) -> None:
    def measured(**settings: float) -> float:
        (chain,) = chains_of(load_protocol("sample_moons", {**SMALL, **settings}), rig, lambda *_: None)
        return check_state_noise(chain, rig)

    one, two = measured(), measured(noise_scale=2.0)
    assert 0.001 < one < 0.03
    assert two == pytest.approx(2 * one, rel=0.3)
    assert measured(noise_scale=0.0) < 0.2 * one
    with pytest.raises(ConfigError, match=r"sigma_min is 0\.004") as refused:
        measured(sigma_min=0.004)
    allowed = float(re.search(r"allowed: ([\d.]+)", str(refused.value))[1])
    assert 0.004 < allowed < 0.1


def test_noise_can_only_be_scaled_where_it_is_simulated() -> None:
    with open_rig("digital") as rig, pytest.raises(ConfigError, match="noise_scale is 2"):
        chains_of(load_protocol("sample_moons", {**SMALL, "noise_scale": 2}), rig, lambda *_: None)


@pytest.mark.parametrize(
    ("times", "p95", "unsettled"),
    [([1.0, 2.0, 3.0, 4.0], 4.0, 0.0), ([1.0, 2.0, np.nan, 4.0], np.inf, 0.25), ([], np.nan, np.nan)],
)
def test_an_unsettled_sample_counts_as_infinite(rig, times, p95, unsettled) -> None:
    from labctl.sampling import SettleSeen

    (chain,) = chains_of(load_protocol("sample_moons", SMALL), rig, lambda *_: None)
    zeros = np.zeros((4, 48))
    result = FixedPointResult(
        zeros, np.array([0, 0, 2, 5], np.uint8), np.zeros(4), np.zeros(4),
        AppliedKnobs(zeros[:1], zeros[0], None, None, None), Ledger(), settle_time_us=np.array(times),
    )  # fmt: skip
    report = settle_report(chain, SettleSeen(2, chain.program.segments[2], zeros[:, :2], result))
    assert report.outcomes == {"CONVERGED": 2, "MAX_TIME": 1, "SATURATED": 1}
    np.testing.assert_equal((report.settle_p95_us, report.unsettled_share), (p95, unsettled))
