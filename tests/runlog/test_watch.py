"""Looks and events of a watch on drift read back, live and after the end; other files have none."""

from __future__ import annotations

from dataclasses import replace

import pytest

from labctl.reports.watching import drift_in_words, watch_in_words
from labctl.runlog import DriftRecord, RunPlan, RunReader, RunWriter, WatchLook

EVENT = DriftRecord(
    at="2026-11-23T03:00:00.000+00:00", device_s=12.5, panel="", step=3, kind="emitters",
    series="light of all emitters", change=-0.0113, unit="", over=1.6,
    words="the light of all emitters changed: light of all emitters by -1.1%", policy="warn", done="noted",
)  # fmt: skip
LOOKS = (WatchLook(0.2, 25600.0, 0.0, learning=True), WatchLook(1.0, 801.6, 0.4), WatchLook(2.0, 801.6, 1.6))


def test_a_watch_reads_back(tmp_path, synthetic):
    plan = RunPlan(panels=(synthetic.plan(20, 2),), watched=True)
    with RunWriter.create(tmp_path / "watched", synthetic.header(20), plan) as writer:
        assert writer.watch is not None
        for look in LOOKS:
            writer.watch.look(look)
        writer.watch.event(EVENT)
        writer.watch.event(replace(EVENT, step=4))
        with RunReader(writer.part_path) as live:
            assert live.drift_events == (EVENT, replace(EVENT, step=4))
        writer.step(synthetic.step(0, plan.panels[0]))
        writer.abort("drifted")
    with RunReader(tmp_path / "watched.nxs") as run:
        assert run.watch_looks == LOOKS
        assert run.drift_events[1].step == 4
        told = watch_in_words(run)
    assert told == "2 looks between batches, 1.6 ms, 25.6 ms to learn what is usual, 2 events"
    assert drift_in_words(EVENT).startswith("step 3, 12.5 s into the run: the light of all emitters changed")


def test_a_run_that_nobody_watched_has_none(tmp_path, synthetic):
    path = synthetic.write(tmp_path / "plain", n_samples=20, steps=2)
    with RunReader(path) as run:
        assert (run.watch_looks, run.drift_events, watch_in_words(run)) == ((), (), "")


@pytest.mark.parametrize("text", ["x" * 2000, "µ" * 900])
def test_long_words_are_cut_to_their_place(tmp_path, synthetic, text):
    plan = RunPlan(panels=(synthetic.plan(20, 2),), watched=True)
    with RunWriter.create(tmp_path / "long", synthetic.header(20), plan) as writer:
        assert writer.watch is not None
        writer.watch.event(replace(EVENT, words=text))
        writer.abort()
    with RunReader(tmp_path / "long.nxs") as run:
        kept = run.drift_events[0].words
    assert text.startswith(kept)
    assert len(kept.encode()) <= 500
