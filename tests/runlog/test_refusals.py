"""Bad input to the run log: one clear line, nothing lost, nothing left behind."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from pydantic import ValidationError

from labctl.devices import RunLogError
from labctl.runlog import (
    DataPlan,
    RunPlan,
    RunReader,
    RunWriter,
    ScanPlan,
    fresh_path,
    list_runs,
    recover,
    summarise,
    writable,
)


def create(path: Path, synthetic, plan=None) -> RunWriter:
    return RunWriter.create(path, synthetic.header(20), RunPlan([plan or synthetic.plan(20, 2)]))


@pytest.mark.parametrize("taken", ["a.nxs", "a.nxs.part"])
def test_an_existing_file_is_never_overwritten(tmp_path: Path, synthetic, taken: str) -> None:
    (tmp_path / taken).write_text("precious")
    with pytest.raises(RunLogError, match=f"{taken}: exists already"):
        create(tmp_path / "a", synthetic)
    assert (tmp_path / taken).read_text() == "precious"
    assert os.listdir(tmp_path) == [taken]


def test_a_file_that_appears_during_the_run_is_kept_too(tmp_path: Path, synthetic) -> None:
    plan = synthetic.plan(20, 1)
    run = create(tmp_path / "a", synthetic, plan)
    run.step(synthetic.step(0, plan))
    (tmp_path / "a.nxs").write_text("precious")
    with pytest.raises(RunLogError, match="appeared during the run; the whole run is in"):
        run.finish(np.zeros((20, 2)))
    assert (tmp_path / "a.nxs").read_text() == "precious"
    with RunReader(tmp_path / "a.nxs.part") as reader:
        assert reader.status == "success"


def test_a_folder_that_cannot_be_made_or_written(tmp_path: Path, synthetic, monkeypatch) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunLogError, match=r"cannot be made: (Not a directory|File exists)"):
        create(tmp_path / "file" / "a", synthetic)
    monkeypatch.setattr(writable.os, "access", lambda *_: False)
    with pytest.raises(RunLogError, match="no permission to write"):
        create(tmp_path / "a", synthetic)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="permissions do not bind root")
def test_a_folder_without_permission(tmp_path: Path, synthetic) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    with pytest.raises(RunLogError, match="no permission to write"):
        create(locked / "a", synthetic)


def test_a_disk_too_small_is_refused_before_the_run(tmp_path: Path, synthetic, monkeypatch) -> None:
    monkeypatch.setattr(writable.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1000})())
    with pytest.raises(RunLogError, match=r"0\.0 MB free, but the run may need 1\.1 MB"):
        create(tmp_path / "a", synthetic)
    assert os.listdir(tmp_path) == []


def test_a_bad_plan_leaves_no_file(tmp_path: Path, synthetic) -> None:
    good = synthetic.plan(20, 2)
    wrong = {
        "no panel": RunPlan([]),
        "n_steps = 0": RunPlan([replace(good, n_steps=0)]),
        "'x' stands twice": RunPlan([replace(good, name="x"), replace(good, name="x")]),
        "may not contain '/'": RunPlan([replace(good, name="x/y")]),
        r"audit samples 0..20; allowed are 0..19": RunPlan([replace(good, audit=np.array([0, 20]))]),
        r"x_start has shape \(3, 2\)": RunPlan([replace(good, x_start=np.zeros((3, 2)))]),
        r"weights has shape \(3, 3\); expected \(48, 48\)": RunPlan(
            [replace(good, program=replace(good.program, weights=np.zeros((3, 3))))]
        ),
        r"segments.leak has shape \(2, 47\)": RunPlan(
            [
                replace(
                    good,
                    program=replace(
                        good.program, segments=replace(good.program.segments, leak=np.zeros((2, 47)))
                    ),
                )
            ]
        ),
        "'samples' collides": RunPlan([good], data=[DataPlan("samples", {"y": np.zeros(2)}, "y")]),
        "has no field 'z'": RunPlan([good], data=[DataPlan("more", {"y": np.zeros(2)}, "z")]),
        "default plot 'sample' is not in the plan; allowed: .'samples'.": RunPlan([good], default="sample"),
        "the scan has no column 'b'": RunPlan([good], scan=ScanPlan({"a": ""}, axis="a", signal="b")),
    }
    for message, plan in wrong.items():
        with pytest.raises(RunLogError, match=message):
            RunWriter.create(tmp_path / "a", synthetic.header(20), plan)
    assert os.listdir(tmp_path) == []


def test_a_bad_step_is_refused_and_the_run_goes_on(tmp_path: Path, synthetic) -> None:
    plan = synthetic.plan(20, 2)
    good = synthetic.step(0, plan)
    with create(tmp_path / "a", synthetic, plan) as run:
        for message, record in {
            r"step 1: state has shape \(20, 47\); planned was \(20, 48\)": replace(
                good, state=np.zeros((20, 47))
            ),
            r"outcome: values 0..7; allowed are 0..6": replace(good, outcome=np.arange(20) % 8),
        }.items():
            with pytest.raises(RunLogError, match=message):
                run.step(record)
        assert run.step(good) == 1
        with pytest.raises(RunLogError, match=r"samples has shape \(3, 2\)"):
            run.finish(np.zeros((3, 2)))
        run.finish(np.zeros((20, 2)))
        with pytest.raises(RunLogError, match="the run is closed"):
            run.step(good)
    with RunReader(tmp_path / "a") as reader:
        assert reader.panel().n_steps == 1


def test_settle_times_need_an_audit_in_the_plan(tmp_path: Path, synthetic) -> None:
    plan = synthetic.plan(20, 2)
    record = synthetic.step(0, plan)
    with (
        pytest.raises(RunLogError, match="settle_time_us was not planned: the plan names no audit samples"),
        create(tmp_path / "a", synthetic, replace(plan, audit=None)) as run,
    ):
        run.step(record)


def test_a_scan_row_with_an_unknown_column(tmp_path: Path, synthetic) -> None:
    scan = ScanPlan({"bits": "", "E": ""}, axis="bits", signal="E")
    plan = RunPlan([synthetic.plan(20, 1)], scan=scan)
    with RunWriter.create(tmp_path / "a", synthetic.header(20), plan) as run:
        with pytest.raises(RunLogError, match=r"the scan has no column \['energy'\]; it has \['bits', 'E'\]"):
            run.scan_row({"bits": 4, "energy": 1.0})
        run.abort()


def test_what_is_not_a_run_file(tmp_path: Path, synthetic) -> None:
    (tmp_path / "text.nxs").write_text("hello")
    (tmp_path / "empty.nxs").write_text("")
    with h5py.File(tmp_path / "other.nxs", "w") as file:
        file["a"] = 1
    whole = synthetic.write(tmp_path / "whole")
    (tmp_path / "cut.nxs").write_bytes(whole.read_bytes()[:20_000])
    newer = tmp_path / "newer.nxs"
    newer.write_bytes(whole.read_bytes())
    with h5py.File(newer, "r+") as file:
        file.attrs["labctl_format"] = 99
    torn = tmp_path / "torn.nxs"
    torn.write_bytes(whole.read_bytes())
    with h5py.File(torn, "r+") as file:
        del file["entry/steps"]
    for name, message in {
        "text.nxs": "not an HDF5 file",
        "empty.nxs": "not an HDF5 file|cut short",
        "other.nxs": "an HDF5 file, but not a labctl run",
        "cut.nxs": "cut short",
        "newer.nxs": "format 99; this labctl reads formats 1..1",
        "torn.nxs": "not a whole labctl run file",
        "missing.nxs": "no such run file",
        ".": "is a folder",
    }.items():
        with pytest.raises(RunLogError, match=message):
            RunReader(tmp_path / name)
    with pytest.raises(RunLogError, match="no such folder"):
        list_runs(tmp_path / "nowhere")
    with pytest.raises(RunLogError, match="is whole already"):
        recover(whole)
    assert summarise(whole).status == "success"


def test_a_step_that_is_not_there(tmp_path: Path, synthetic) -> None:
    with (
        RunReader(synthetic.write(tmp_path / "a", steps=2)) as run,
        pytest.raises(RunLogError, match="step 5 asked for; the file has 2 whole steps"),
    ):
        run.panel().x(5)


def test_a_header_with_an_unknown_or_impossible_field(synthetic) -> None:
    with pytest.raises(ValidationError, match="n_samples"):
        synthetic.header(0)
    with pytest.raises(ValidationError, match="colour"):
        synthetic.header(10, colour="red")


def test_fresh_paths_do_not_collide(tmp_path: Path) -> None:
    first = fresh_path(tmp_path, "sample moons/rig")
    assert first.name.startswith("sample_moons_rig_")
    first.touch()
    assert fresh_path(tmp_path, "sample moons/rig") != first
