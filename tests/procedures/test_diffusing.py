"""Chains of equilibria on an oscillator board: what the file holds, what stands beside, what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from labctl import load_protocol, open_rig, run
from labctl.devices import ConfigError, OscillatorBoard, Outcome, ProgramError
from labctl.models.oscillators.chain_checkpoint import load_chain, save_chain
from labctl.models.oscillators.diffuser import TrainableDiffuser, unsigned
from labctl.models.oscillators.settings import DiffuserShape
from labctl.procedures import Watcher, chains_of
from labctl.programs.pixel_maps import RAD_PER_PIXEL
from labctl.reports import report
from labctl.runlog import OscillatorRecord, RunReader
from labctl.sampling import alpha_of

LEVELS = 3  # those of `chain_file`


def protocol(model, **settings):
    return load_protocol(
        "diffuse_digits_oscillators", {"model": str(model), "samples": 20, "controls": False, **settings}
    )


def test_the_board_goes_where_the_law_on_the_host_goes(chain_file, ideal_board, tmp_path) -> None:
    """An ideal board, its anchors coded as boards have them, against the host from the same starts."""
    diffuser, seen = load_chain(chain_file).diffuser, []

    class Counting(Watcher):
        def settled(self, report) -> None:
            seen.append((report.index, report.kind))

    result = run(protocol(chain_file), ideal_board, out=tmp_path, watcher=Counting())
    assert seen == [(k, "equilibrium") for k in range(LEVELS)]
    host = diffuser.generate(20, seed=1)
    board = np.clip(result.samples, 0, 1).reshape(20, 8, 8)
    assert np.abs(board - host).mean() < 0.02
    with RunReader(result.file) as done:
        panel = done.panel()
        record = panel.program
        assert isinstance(record, OscillatorRecord)
        assert record.settings["program_sha256"] == diffuser.program.hash
        assert record.pixel_map == "linear"
        np.testing.assert_allclose(panel.sigma, diffuser.chain.sigmas[:-1])
        np.testing.assert_allclose(panel.sigma_next, diffuser.chain.sigmas[1:])
        for step in range(panel.n_steps):  # what is read is the next state
            read = panel.state(step)[:, :64] / RAD_PER_PIXEL
            np.testing.assert_allclose(
                panel.x(step) * alpha_of(float(panel.sigma_next[step])), read, atol=1e-5
            )
        np.testing.assert_allclose(panel.samples, unsigned(panel.x(-1)))
        assert panel.pictures.shape == (20, 8, 8)
        assert panel.step_pictures.shape == (LEVELS, 10, 8, 8)
        assert panel.reference_pictures.shape == (100, 8, 8)
        for held in (panel.residual_norm, panel.locking_load, panel.slowest_rate):
            assert held.shape == (LEVELS, 20)
            assert np.isfinite(held).all()
        assert panel.residual_norm.max() < 0.05  # rad per unit of time, anchors of 2 units
        assert panel.slowest_rate.min() > 0
        bound = panel.locking_distance_rad
        np.testing.assert_array_equal(np.isnan(bound), panel.locking_load > 1)
        assert (bound[~np.isnan(bound)] > 0).all()
        per_sample = panel.ledger.modelled_total_us() / 20
    assert result.panels[0].metrics["device_time_per_sample_us"] == pytest.approx(per_sample)
    assert 0 < result.panels[0].metrics["energy_core_j"] < result.panels[0].metrics["energy_wall_j"]


def test_without_couplings_a_board_gives_back_what_its_anchors_hold(
    made_chain, tmp_path, ideal_board
) -> None:
    """No couplings and no injections: every level reads what it was given (ais.md, acceptance test)."""
    model = TrainableDiffuser(8, DiffuserShape(levels=LEVELS, couplings="none"), seed=1)
    with torch.no_grad():
        for table in (*model.in_phase, *model.quadrature):
            table.zero_()
    path = made_chain(tmp_path / "other.safetensors")
    card = load_chain(path).card
    model.use_codes(4)
    still = model.finished()
    card = card.model_copy(update={"shape": still.shape, "program_hash": still.program.hash})
    save_chain(still, path, card, overwrite=True)
    with RunReader(run(protocol(path), ideal_board, out=tmp_path / "runs").file) as done:
        panel = done.panel()
        start = alpha_of(float(panel.sigma[0])) * panel.x_start
        inside = np.abs(start) < 3.5  # what no turn of the phase has wrapped
        for step in range(LEVELS):
            x = panel.x(step) * alpha_of(float(panel.sigma_next[step]))
            np.testing.assert_allclose(x[inside], start[inside], atol=0.03)


def test_the_ablation_plays_the_same_anchors_without_couplings(chain_file, tmp_path) -> None:
    found = {}
    for couplings in (True, False):
        with open_rig("oscillator-ideal") as rig:
            found[couplings] = run(protocol(chain_file, couplings=couplings), rig, out=tmp_path)
    with RunReader(found[False].file) as done:
        panel = done.panel()
        assert not panel.program.coupling_codes.any()
        assert not panel.locking_load.any()
    alone = load_chain(chain_file).diffuser.uncoupled().generate(20, seed=1)
    board = np.clip(found[False].samples, 0, 1).reshape(20, 8, 8)
    assert np.abs(board - alone).mean() < 0.02
    assert np.abs(found[True].samples - found[False].samples).mean() > 0.01


def test_controls_stand_beside_where_there_are_enough_pictures(chain_file, ideal_board, tmp_path) -> None:
    few = run(protocol(chain_file, controls=True), ideal_board, out=tmp_path).panels[0].metrics
    assert not [name for name in few if name.startswith("frechet_star")]
    many = run(protocol(chain_file, controls=True, samples=500), ideal_board, out=tmp_path).panels[0].metrics
    assert many["frechet_star_wiener"] < 1.5
    assert many["frechet_star_wiener_implicit"] < many["frechet_star_uncoupled"]
    assert many["frechet_star"] > many["frechet_star_wiener"]  # untrained


def test_shared_parameters_run_on_a_board_of_few_segments(made_chain, tmp_path) -> None:
    shared = made_chain(tmp_path / "shared.safetensors", shape={"shared": True, "levels": 6})
    own = made_chain(tmp_path / "own.safetensors", shape={"levels": 6})
    with open_rig("oscillator-pcb-1mhz") as rig:
        with pytest.raises(ProgramError, match="6 levels with parameters of their own; rig oscillator-pcb"):
            run(protocol(own), rig, out=tmp_path / "runs")
        assert len(run(protocol(shared), rig, out=tmp_path / "runs").panels[0].settles) == 6


def test_a_lost_lock_is_marked_and_told(chain_file, tmp_path, mocker) -> None:
    with open_rig("oscillator-twin") as rig:
        board = rig.device(OscillatorBoard)
        done = board._do_run

        def losing(codes, read_at_us):
            phases = done(codes, read_at_us)
            if codes.step_id == 1:
                phases.locked[:5] = False
            return phases

        mocker.patch.object(board, "_do_run", side_effect=losing)
        result = run(protocol(chain_file), rig, out=tmp_path)
    assert result.panels[0].metrics["locked_share"] == 0.75
    with RunReader(result.file) as log:
        lost = [int((log.panel().outcome(k) == Outcome.DIVERGED).sum()) for k in range(LEVELS)]
    assert lost == [0, 5, 0]


def test_what_this_board_cannot_run_is_refused(chain_file, made_chain, ideal_board, tmp_path) -> None:
    hidden = made_chain(tmp_path / "hidden.safetensors", shape={"hidden_share": 1.0})
    with pytest.raises(ProgramError, match="rig oscillator-ideal is grid, 64 oscillators, 1092 edges"):
        run(protocol(hidden), ideal_board, out=tmp_path / "runs")
    small = made_chain(tmp_path / "small.safetensors", side=7)
    with pytest.raises(ProgramError, match="wired as grid, 49 oscillators"):
        run(protocol(small), ideal_board, out=tmp_path / "runs")
    with pytest.raises(ConfigError, match="has no chains"):
        chains_of(protocol(chain_file), ideal_board, lambda *_: None)


def test_the_page_shows_how_safely_anchors_hold(chain_file, ideal_board, tmp_path) -> None:
    result = run(protocol(chain_file), ideal_board, out=tmp_path)
    page = report(result.file)
    text = page.read_text(encoding="utf-8")
    assert "How safely do anchors hold?" in text
    assert {f.name for f in page.parent.glob("*.png")} >= {"holding.png", "residuals.png", "steps.png"}
