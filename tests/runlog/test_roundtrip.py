"""What is written reads back, and any NeXus viewer opens the file at the right plot."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nexusformat.nexus import nxload

from labctl.devices import Outcome, RunLogError
from labctl.runlog import (
    DataPlan,
    PanelPlan,
    RunPlan,
    RunReader,
    RunWriter,
    ScanPlan,
    SegmentTables,
    StepRecord,
    list_runs,
)
from labctl.runlog.columns import pack


def same_step(panel, index: int, wrote: StepRecord) -> None:
    np.testing.assert_array_equal(panel.x(index), wrote.x)
    np.testing.assert_array_equal(panel.injection(index), wrote.injection)
    np.testing.assert_array_equal(panel.injection_codes(index), wrote.injection_codes)
    np.testing.assert_array_equal(panel.state(index), np.float32(wrote.state))
    np.testing.assert_array_equal(panel.outcome(index), wrote.outcome)
    np.testing.assert_array_equal(panel.step_norm[index], np.float32(wrote.step_norm))
    np.testing.assert_array_equal(panel.residual_norm[index], np.float32(wrote.residual_norm))
    np.testing.assert_array_equal(panel.settle_time_us[index], np.float32(wrote.settle_time_us))
    assert panel.sigma[index] == wrote.sigma
    assert panel.kinds[index] == wrote.kind


def test_every_step_reads_back_bit_for_bit(tmp_path: Path, synthetic) -> None:
    path = synthetic.write(tmp_path / "moons", n_samples=150, steps=4)
    assert path == tmp_path / "moons.nxs"
    plan = synthetic.plan(150, 4)
    with RunReader(path) as run:
        panel = run.panel()
        assert (panel.n_steps, panel.n_steps_planned, panel.finished) == (4, 4, True)
        assert (run.status, run.exit_reason, run.partial) == ("success", "", False)
        for index in range(4):
            same_step(panel, index, synthetic.step(index, plan))
        np.testing.assert_array_equal(panel.samples, synthetic.step(3, plan).x)
        np.testing.assert_array_equal(panel.x_start, plan.x_start)
        np.testing.assert_array_equal(panel.reference, plan.reference)
        np.testing.assert_array_equal(panel.audit, plan.audit)
        assert panel.outcome_counts.sum(axis=1).tolist() == [150] * 4
        assert run.metrics == {"energy_distance": 0.31e-3, "outliers": 2, "passed": True}
        assert panel.coercions == ((1, "loop.bias: asked 4.1, applied 3.8 network units (3x)"),)


def test_the_header_holds_what_a_replay_needs(tmp_path: Path, synthetic) -> None:
    wrote = synthetic.header(200)
    with RunReader(synthetic.write(tmp_path / "a")) as run:
        read = run.header
    assert read.model_copy(update={"start_time": ""}) == wrote.model_copy(update={"start_time": ""})
    assert read.protocol.text == synthetic.RECIPE
    assert read.seed == 7
    assert read.simulated


def test_the_program_reads_back(tmp_path: Path, synthetic) -> None:
    wrote = synthetic.plan(200, 5).program
    with RunReader(synthetic.write(tmp_path / "a")) as run:
        read = run.panel().program
    for name in ("weights", "codes", "row_scale", "mask"):
        np.testing.assert_array_equal(getattr(read, name), getattr(wrote, name))
    assert (read.layers, read.bits, read.law) == (wrote.layers, 4, "loop")
    assert (read.frame_checksum, dict(read.settings)) == (wrote.frame_checksum, dict(wrote.settings))
    for field in fields(SegmentTables):
        expected, found = getattr(wrote.segments, field.name), getattr(read.segments, field.name)
        if field.name == "kind":
            assert list(found) == list(expected)
        elif expected is None:
            assert found is None
        else:
            np.testing.assert_array_equal(found, expected)


def test_ledger_keeps_modelled_measured_and_host_apart(tmp_path: Path, synthetic) -> None:
    with RunReader(synthetic.write(tmp_path / "a", n_samples=100, steps=3)) as run:
        ledger = run.panel().ledger
    per_step = 100 * (8.5 + 6.4 + 0.4)  # settle lies inside wait
    assert ledger.modelled_total_us() == pytest.approx(3 * per_step + 16_700 + 2 * 12)
    assert np.isnan(ledger.measured_total_us())
    assert (ledger.host_s["log"] > 0).all()
    assert ledger.host_total_s() > 3 * 0.08
    assert ledger.machine_macs.tolist() == [100 * 48**2] * 3


def test_a_nexus_viewer_opens_at_the_samples(tmp_path: Path, synthetic) -> None:
    path = synthetic.write(tmp_path / "a", n_samples=400)
    root = nxload(str(path))
    assert root.attrs["default"] == "entry"
    entry = root[root.attrs["default"]]
    assert entry.nxclass == "NXentry"
    data = entry[entry.attrs["default"]]
    assert (data.nxclass, data.nxname) == ("NXdata", "samples")
    assert root.plottable_data.nxpath == "/entry/samples"
    density = data.nxsignal.nxvalue
    assert [axis.nxname for axis in data.nxaxes] == ["x2", "x1"]
    # The picture is of the samples: the same counts as binning them directly.
    x1, x2 = (axis.nxvalue for axis in (data.nxaxes[1], data.nxaxes[0]))
    points = data["x"].nxvalue
    column = np.rint((points[:, 0] - x1[0]) / (x1[1] - x1[0])).astype(int)
    row = np.rint((points[:, 1] - x2[0]) / (x2[1] - x2[0])).astype(int)
    inside = (column >= 0) & (column < x1.size) & (row >= 0) & (row < x2.size)
    counted = np.zeros_like(density)
    np.add.at(counted, (row[inside], column[inside]), 1)
    assert np.abs(counted - density).sum() <= 4  # points on a bin's very edge may fall to either side
    assert density.sum() > 0.98 * len(points)


def test_every_plot_of_the_file_has_its_signal_and_axes(tmp_path: Path, synthetic) -> None:
    root = nxload(str(synthetic.write(tmp_path / "a")))
    plots = list(root.entry.NXdata)
    assert {group.nxname for group in plots} == {"samples", "data", "settling", "outcomes", "program"}
    for group in plots:
        assert group.is_plottable(), group.nxname
        assert len(group.nxaxes) == group.nxsignal.ndim
        for size, axis in zip(group.nxsignal.shape, group.nxaxes, strict=True):
            assert axis.shape == (size,), (group.nxname, axis.nxname)
    assert root.entry.settling.settle_time_us.attrs["units"] == "us"
    assert root.entry.instrument.loop.serial == "T-0002"


def test_pictures_become_the_default_plot(tmp_path: Path, synthetic) -> None:
    pictures = np.random.default_rng(0).integers(0, 255, size=(9, 28, 28), dtype=np.uint8)
    steps = pictures[:6].reshape(2, 3, 28, 28)
    plan = synthetic.plan(
        20, 2, d=12, pictures=(9, 28, 28), step_pictures=steps.shape, reference_pictures=pictures
    )
    with RunWriter.create(tmp_path / "g", synthetic.header(20, d=12), RunPlan([plan])) as run:
        for index in range(2):
            run.step(synthetic.step(index, plan))
        run.finish(np.ones((20, 12)), pictures=255 - pictures, step_pictures=steps)
    root = nxload(str(tmp_path / "g.nxs"))
    assert root.plottable_data.nxsignal.shape == (9, 28, 28)
    with RunReader(tmp_path / "g") as run:
        np.testing.assert_array_equal(run.panel().pictures, 255 - pictures)
        np.testing.assert_array_equal(run.panel().reference_pictures, pictures)
        np.testing.assert_array_equal(run.panel().step_pictures, steps)


@pytest.mark.parametrize("shape", [None, (3, 3, 28, 28)])
def test_step_pictures_that_were_not_planned_are_refused(tmp_path: Path, synthetic, shape) -> None:
    plan = synthetic.plan(20, 1, d=12, pictures=(9, 28, 28), step_pictures=shape)
    with RunWriter.create(tmp_path / "g", synthetic.header(20, d=12), RunPlan([plan])) as run:
        run.step(synthetic.step(0, plan))
        steps = np.zeros((2, 3, 28, 28), np.uint8)
        with pytest.raises(RunLogError, match="step pictures"):
            run.finish(np.ones((20, 12)), pictures=np.zeros((9, 28, 28), np.uint8), step_pictures=steps)
        run.abort("tried")


def test_a_scan_has_panels_and_a_table_that_opens_first(tmp_path: Path, synthetic) -> None:
    plans = [synthetic.plan(30, 2, name=f"bits_{bits}", settings={"bits": bits}) for bits in (2, 4)]
    scan = ScanPlan({"bits": "", "settle_us": "us", "E": ""}, axis="bits", signal="E")
    with RunWriter.create(tmp_path / "s", synthetic.header(30), RunPlan(plans, scan=scan)) as run:
        for plan in plans:
            panel = run.panel(plan.name)
            for index in range(2):
                panel.step(synthetic.step(index, plan))
            panel.finish(synthetic.step(1, plan).x, {"E": 0.01})
            run.scan_row({"bits": plan.settings["bits"], "E": 0.01})
        run.finish(metrics={"best": "bits_4"})
    root = nxload(str(tmp_path / "s.nxs"))
    assert root.plottable_data.nxpath == "/entry/scan"
    with RunReader(tmp_path / "s.nxs") as run:
        assert list(run.panels) == ["bits_2", "bits_4"]
        assert run.scan["bits"].tolist() == [2, 4]
        assert np.isnan(run.scan["settle_us"]).all()
        assert (run.scan_axis, run.scan_units["settle_us"]) == (("bits", "E"), "us")
        assert run.panel("bits_4").settings == {"bits": 4}
        assert run.panel("bits_4").metrics == {"E": 0.01}
        assert run.metrics == {"best": "bits_4"}
        with pytest.raises(RunLogError, match="no panel 'bits_9'"):
            run.panel("bits_9")


def test_a_tour_opens_at_the_panel_it_names(tmp_path: Path, synthetic) -> None:
    plans = [synthetic.plan(10, 1, name=name) for name in ("moons", "garments")]
    with RunWriter.create(tmp_path / "t", synthetic.header(20), RunPlan(plans, default="garments")) as run:
        for plan in plans:
            run.panel(plan.name).step(synthetic.step(0, plan))
            run.panel(plan.name).finish(synthetic.step(0, plan).x)
        run.finish()
    root = nxload(str(tmp_path / "t.nxs"))
    assert root.plottable_data.nxpath == "/entry/panels/garments/samples"


def test_a_scan_tells_its_series(tmp_path: Path, synthetic) -> None:
    scan = ScanPlan(
        {"N": "", "E_euler": "", "E_mid": ""},
        axis="N",
        signal="E_mid",
        series={"E_euler": ("E", "euler"), "E_mid": ("E", "midpoint")},
    )
    plan = synthetic.plan(10, 1)
    with RunWriter.create(tmp_path / "s", synthetic.header(10), RunPlan([plan], scan=scan)) as run:
        run.scan_row({"N": 4, "E_mid": 0.1})
        run.abort()
    with RunReader(tmp_path / "s") as run:
        assert run.scan_series == {"N": ("N", ""), "E_euler": ("E", "euler"), "E_mid": ("E", "midpoint")}


def test_an_unfinished_chain_is_shown_in_the_data_s_own_units(tmp_path: Path, synthetic) -> None:
    plan = synthetic.plan(10, 2, own_mean=(10.0, -5.0), own_std=(2.0, 0.5))
    record = synthetic.step(0, plan)
    own = record.x * [2.0, 0.5] + [10.0, -5.0]
    with RunWriter.create(tmp_path / "a", synthetic.header(10), RunPlan([plan])) as run:
        run.step(record)
        with RunReader(run.part_path) as live:
            np.testing.assert_array_equal(live.panel().samples, own)
            np.testing.assert_array_equal(live.panel().x(0), record.x)
        run.abort()
    with RunReader(tmp_path / "a") as whole:
        np.testing.assert_array_equal(whole.panel().samples, own)


def test_further_plots_are_filled_in_later(tmp_path: Path, synthetic) -> None:
    extra = DataPlan(
        "budget",
        {"share": np.zeros(3), "source": np.arange(3)},
        signal="share",
        axes=["source"],
        units={"share": "%"},
    )
    plan = synthetic.plan(10, 1)
    with RunWriter.create(tmp_path / "a", synthetic.header(10), RunPlan([plan], data=[extra])) as run:
        run.step(synthetic.step(0, plan))
        run.put("budget", "share", [50.0, 30.0, 20.0])
        with pytest.raises(RunLogError, match=r"budget.share has shape \(2,\); planned was \(3,\)"):
            run.put("budget", "share", [50.0, 50.0])
        run.finish(np.zeros((10, 2)))
    with RunReader(tmp_path / "a") as run:
        assert run.data("budget")["share"].tolist() == [50.0, 30.0, 20.0]


def test_a_step_without_a_settle_leaves_nothing_made_up(tmp_path: Path, synthetic) -> None:
    plan = PanelPlan(n_steps=1, n_samples=5, d=1, n_channels=48)
    with RunWriter.create(tmp_path / "a", synthetic.header(5, d=1), RunPlan([plan])) as run:
        run.step(StepRecord(sigma=1.0, sigma_next=0.5, x=np.zeros((5, 1))))
        run.finish(np.zeros((5, 1)))
    with RunReader(tmp_path / "a") as run:
        panel = run.panel()
        assert panel.outcome(0) is None
        assert panel.injection_codes(0) is None
        assert np.isnan(panel.state(0)).all()
        assert panel.program is None
        assert panel.settle_time_us.shape == (1, 0)
        assert panel.outcome_counts.sum() == 0
    assert nxload(str(tmp_path / "a.nxs")).plottable_data.nxsignal.ndim == 1


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    samples=st.integers(1, 40),
    d=st.integers(1, 5),
    rows=st.integers(1, 60),
    steps=st.integers(1, 4),
    seed=st.integers(0, 2**31),
)
def test_any_shape_reads_back(tmp_path_factory, synthetic, samples, d, rows, steps, seed) -> None:
    rng = np.random.default_rng(seed)
    path = tmp_path_factory.mktemp("run") / "any"
    plan = PanelPlan(
        n_steps=steps, n_samples=samples, d=d, n_channels=rows, audit=rng.integers(0, samples, 3)
    )
    records = [
        StepRecord(
            sigma=1.0,
            sigma_next=0.5,
            x=rng.choice([np.nan, np.inf, 0.0, rng.normal()], size=(samples, d)),
            injection=rng.normal(size=(samples, d)),
            injection_codes=rng.integers(-8191, 8192, size=(samples, d)),
            state=rng.normal(size=(samples, rows)).astype(np.float32),
            outcome=rng.integers(0, len(Outcome), samples),
            step_norm=rng.random(samples),
            residual_norm=rng.random(samples),
            settle_time_us=rng.random(3),
        )
        for _ in range(steps)
    ]
    with RunWriter.create(path, synthetic.header(samples, d), RunPlan([plan])) as run:
        for record in records:
            run.step(record)
        run.finish(records[-1].x)
    with RunReader(path) as run:
        for index, record in enumerate(records):
            same_step(run.panel(), index, record)
        np.testing.assert_array_equal(run.panel().samples, records[-1].x)


def test_rows_of_several_chunks_read_back(tmp_path: Path, synthetic) -> None:
    size = 12_001  # 48 float32 rows: more than two chunks of 1 MiB, the last one partly filled
    plan = PanelPlan(n_steps=1, n_samples=size, d=2, n_channels=48)
    state = np.random.default_rng(1).normal(size=(size, 48)).astype(np.float32)
    with RunWriter.create(tmp_path / "a", synthetic.header(size), RunPlan([plan])) as run:
        run.step(StepRecord(sigma=1.0, sigma_next=0.5, x=state[:, :2], state=state))
        run.finish(state[:, :2])
    with RunReader(tmp_path / "a") as run:
        np.testing.assert_array_equal(run.panel().state(0), state)


def test_states_are_packed_as_any_reader_can_unpack(tmp_path: Path, synthetic) -> None:
    path = synthetic.write(tmp_path / "a", n_samples=1000)
    with h5py.File(path) as file:
        state = file["entry/steps/state"]
        assert (state.compression, state.shuffle) == ("gzip", True)
        assert state.id.get_storage_size() < 0.7 * state.size * state.dtype.itemsize


@given(st.binary(min_size=8, max_size=4096))
def test_packed_noise_hardly_grows(raw: bytes) -> None:
    block = np.frombuffer(raw[: len(raw) // 8 * 8], dtype="<f8")
    assert len(pack(block)) <= block.nbytes + 16


def test_frame_checksum_may_come_after_the_structure(tmp_path: Path, synthetic) -> None:
    plan = synthetic.plan(10, 1)
    plan = replace(plan, program=replace(plan.program, frame_checksum=""))
    with RunWriter.create(tmp_path / "a", synthetic.header(10), RunPlan([plan])) as run:
        run.panel().frame_shown("sha256:beef")
        run.step(synthetic.step(0, plan))
        run.finish(np.zeros((10, 2)))
    with RunReader(tmp_path / "a") as run:
        assert run.panel().program.frame_checksum == "sha256:beef"


def test_list_of_runs_keeps_unreadable_files_visible(tmp_path: Path, synthetic) -> None:
    synthetic.write(tmp_path / "one")
    (tmp_path / "deeper").mkdir()
    synthetic.write(tmp_path / "deeper" / "two")
    (tmp_path / "broken.nxs").write_bytes(b"not hdf5")
    runs = list_runs(tmp_path)
    assert [run.path.name for run in runs] == ["one.nxs", "two.nxs", "broken.nxs"]
    assert (runs[0].status, runs[0].steps_done, runs[0].protocol) == ("success", 5, "sample_moons")
    assert "not an HDF5 file" in runs[2].problem
