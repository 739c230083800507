"""`run`, `show`, `report` and `runs`: what a user sees, and what is left on the disk."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from labctl.runlog import RunReader


def refuse_constants(name: str) -> None:
    raise AssertionError(f"{name} is no JSON")


def test_a_run_ends_with_steps_metrics_and_paths(labctl, audited, tmp_path) -> None:
    ended = labctl("run", "sample_moons", *audited, "--out", "runs")
    assert ended.code == 0, ended.err
    for words in (
        "Two moons",
        "simulated",
        "p95",
        "unsettled",
        "12 converged",
        "evaluate",
        "energy distance",
    ):
        assert words in ended.out
    paths = dict(line.split(maxsplit=1) for line in ended.out.splitlines()[-3:])
    for label in ("picture", "report", "file"):
        assert (tmp_path / paths[label]).is_file()
    with RunReader(tmp_path / paths["file"]) as run:
        assert (run.status, run.panel().n_steps, run.panel().finished) == ("success", 5, True)


def test_progress_goes_to_stderr_in_plain_lines(labctl, audited) -> None:
    ended = labctl("run", "sample_moons", *audited, "--no-report")
    settles = [line for line in ended.err.splitlines() if "settle " in line]
    assert len(settles) == 5
    assert settles[0].startswith("Two moons: settle 1/5, implicit at sigma")
    assert all("p95" in line and "left" in line for line in settles)
    assert "settle 1/5" not in ended.out


def test_quiet_prints_the_path_alone(labctl, quick, tmp_path) -> None:
    ended = labctl("run", "sample_moons", *quick, "--quiet", "--no-report")
    assert (ended.code, ended.err) == (0, "")
    assert (tmp_path / ended.out.strip()).is_file()
    assert len(ended.out.splitlines()) == 1


def test_json_is_one_strict_document(labctl, audited, tmp_path) -> None:
    ended = labctl("run", "sample_moons", *audited, "--json", "--set", "seed=5", "--no-report")
    found = json.loads(ended.out, parse_constant=refuse_constants)
    assert (found["status"], found["exit_code"], found["seed"]) == ("success", 0, 5)
    assert (tmp_path / found["file"]).is_file()
    assert (found["report"], found["pictures"]) == (None, [])
    assert found["metrics"]["converged_share"] > 0.5
    (panel,) = found["panels"]
    assert [step["kind"] for step in panel["steps"]] == ["implicit"] * 4 + ["evaluate"]
    for step in panel["steps"]:
        assert sum(step["outcomes"].values()) == 12
        assert step["settle_us"]["audited"] == 4


def test_settings_reach_the_file(labctl, quick, tmp_path) -> None:
    ended = labctl(
        "run", "sample_moons", *quick, "--set", "steps=2", "--set", "scheme=implicit-euler",
        "--set", "seed=9", "--quiet", "--no-report",
    )  # fmt: skip
    with RunReader(tmp_path / ended.out.strip()) as run:
        recipe = json.loads(run.header.protocol.text)
        assert (recipe["steps"], recipe["scheme"], recipe["seed"]) == (2, "implicit-euler", 9)
        assert run.header.seed == 9
        assert run.panel().n_steps == 3


def test_the_digital_rig_has_no_settle_times(labctl, audited) -> None:
    ended = labctl("run", "sample_moons", *audited, "--rig", "digital", "--no-report")
    assert ended.code == 0
    assert "settle time" not in ended.out
    assert "device time" not in ended.out


def test_show_prints_what_the_run_printed(labctl, quick, tmp_path) -> None:
    ran = labctl("run", "sample_moons", *quick, "--no-report")
    (file,) = (tmp_path / "runs").glob("*.nxs")
    shown = labctl("show", file)
    assert shown.out.splitlines()[:-1] == ran.out.splitlines()[:-1]  # the path: relative here, absolute there


def test_show_and_runs_follow_a_run_that_is_going_on(labctl, quick, tmp_path, monkeypatch) -> None:
    from labctl.cli.board import Board

    told, seen = Board.settled, []

    def looking(self: Board, report) -> None:
        told(self, report)
        if report.index == 1:
            (part,) = (tmp_path / "runs").iterdir()
            seen.extend([labctl("show", part), labctl("runs", tmp_path / "runs")])

    monkeypatch.setattr(Board, "settled", looking)
    assert labctl("run", "sample_moons", *quick, "--no-report").code == 0
    shown, listed = seen
    assert (shown.code, listed.code) == (0, 0)
    assert "running" in shown.out
    assert "12 converged" in shown.out
    assert "running" in listed.out
    assert ".nxs.part" in listed.out


def test_runs_lists_whole_and_broken_files(labctl, run_file) -> None:
    (run_file.parent / "broken.nxs").write_text("no HDF5")
    ended = labctl("runs", run_file.parent)
    assert ended.code == 0
    assert run_file.name in ended.out
    assert "success" in ended.out
    assert "broken.nxs" in ended.out


def test_runs_of_an_empty_folder(labctl, tmp_path) -> None:
    assert "no run files" in labctl("runs", tmp_path).out


def test_report_can_go_elsewhere(labctl, run_file, tmp_path) -> None:
    ended = labctl("report", run_file, "--out", tmp_path / "page")
    assert ended.code == 0
    assert (tmp_path / "page" / "report.html").is_file()
    assert str(tmp_path / "page" / "report.html") in ended.out


def test_a_bug_is_told_and_its_traceback_kept(labctl, quick, tmp_path, monkeypatch) -> None:
    def broken(*_args: object) -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr("labctl.procedures.chain_part._metrics", broken)
    ended = labctl("run", "sample_moons", *quick)
    assert ended.code == 70
    assert "RuntimeError: boom" in ended.err
    (log,) = (tmp_path / "runs").glob("*.log")
    assert str(log.relative_to(tmp_path)) in ended.err
    assert "Traceback" in log.read_text()
    (file,) = (tmp_path / "runs").glob("*.nxs")
    with RunReader(file) as run:
        assert run.status == "failed"
        assert run.panel().n_steps == 5
    debugged = labctl("--debug", "run", "sample_moons", *quick)
    assert "Traceback" in debugged.err


@pytest.mark.parametrize("name", ["sample_moons", "steps_study"])
def test_validate_prints_the_plan_and_writes_nothing(labctl, name, tmp_path) -> None:
    ended = labctl("validate", name)
    assert ended.code == 0, ended.err
    for words in ("network", "placement", "48 of 48 rows", "σ levels", "device time", "coercions", "valid"):
        assert words in ended.out
    assert list(tmp_path.iterdir()) == []


def test_validate_shows_no_device_anything(labctl, monkeypatch) -> None:
    from labctl_sim_devices import ElectronicsTwin, PanelTwin

    def touched(*_args: object) -> None:
        raise AssertionError("a device was used")

    for device, method in (
        (PanelTwin, "_do_show"),
        (ElectronicsTwin, "_do_settle"),
        (ElectronicsTwin, "_do_probe"),
    ):
        monkeypatch.setattr(device, method, touched)
    assert labctl("validate", "sample_moons").code == 0


def test_validate_does_not_train_own_points(labctl, tmp_path) -> None:
    Path(tmp_path / "points.csv").write_text("\n".join(f"{i % 7},{i % 5}" for i in range(40)))
    ended = labctl("validate", "sample_points", "--set", "train_iterations=200000")
    assert ended.code == 0, ended.err
    assert "trained on points.csv first (200,000 iterations)" in ended.out


def test_lists_name_every_recipe_and_rig(labctl) -> None:
    from labctl.procedures import protocol_names
    from labctl.rig import rig_names

    listed = labctl("protocols").out
    assert all(name in listed for name in protocol_names())
    listed = labctl("rigs").out
    assert all(name in listed for name in rig_names())


@pytest.mark.slow  # the host closes every loop
def test_a_host_loop_says_how_long_it_will_take_before_the_first_settle(labctl) -> None:
    few = ("--set", "samples=2", "--set", "audit=0", "--set", "reference=20")
    ended = labctl("run", "sample_moons", "--rig", "optical-host", *few)
    assert ended.code == 0, ended.err
    lines = ended.err.splitlines()
    (told,) = [k for k, line in enumerate(lines) if line.startswith("expected: ")]
    assert lines[told].endswith(" ms on the bench, one exposure after the other")
    assert told < min(k for k, line in enumerate(lines) if "settle 1/5" in line)


def test_a_host_loop_refuses_what_needs_loop_electronics(labctl) -> None:
    for setting in ("stepping=chain", "second_starts=4"):
        ended = labctl("run", "sample_moons", "--rig", "optical-host", "--set", setting, "--set", "samples=2")
        assert ended.code == 2
        assert setting.partition("=")[0] in ended.err
        assert "optical-host" in ended.err


def test_an_override_on_the_command_line(labctl, quick, tmp_path) -> None:
    shipped = Path(__file__).parents[2] / "protocols/labctl_recipes/rigs/optical-twin.toml"
    limits = "\n[limits]\ntotal_ma = 400.0\n[limits.light]\nma_per_unit = 4.0\npedestal_units = 1.1\n"
    bench = tmp_path / "bench.toml"
    bench.write_text(shipped.read_text("utf-8") + limits, encoding="utf-8")
    common = ("run", "sample_moons", "--rig", bench, *quick, "--out", tmp_path / "runs")
    refused = labctl(*common)
    assert refused.code == 2
    assert 'limit total_ma: 400 mA, labctl run --override "total_ma: REASON" passes it' in refused.err
    assert labctl(*common, "--override", "bright: why").code == 2
    passed = labctl(*common, "--override", "total_ma: the supply was changed", "--no-report")
    assert passed.code == 0, passed.err
    assert "passed total ma" in passed.out
    assert "up to 403.2" in passed.out
