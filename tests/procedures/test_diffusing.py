"""Chains of equilibria on an oscillator board: what the file holds, what is refused, what is repeated."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from labctl import load_protocol, open_rig, run
from labctl.devices import ConfigError, DeviceUnavailable, OscillatorBoard, Outcome, ProgramError
from labctl.models.oscillators.chain_checkpoint import describe_chain, load_chain, save_chain
from labctl.models.oscillators.diffuser import TrainableDiffuser, unsigned
from labctl.models.oscillators.scoring import PictureJudge
from labctl.models.oscillators.settings import DiffuserShape
from labctl.models.picture_data import picture_data
from labctl.procedures import Watcher, chains_of, replay
from labctl.programs.pixel_maps import RAD_PER_PIXEL
from labctl.reports import report
from labctl.runlog import OscillatorRecord, RunReader
from labctl.sampling import alpha_of

LEVELS = 3


def made(path, *, bits: int | None = 4, side: int = 8, data: str = "digits", **shape):
    """An untrained chain of 8 x 8 pictures, saved; strong couplings, so that they do something."""
    model = TrainableDiffuser(side, DiffuserShape(**{"levels": LEVELS, "row_limit": 2.0, **shape}), seed=1)
    if bits is not None:
        model.use_codes(bits)
    judge = PictureJudge.of("digits8_classifier", "digits8_reference")
    diffuser = model.finished()
    card = describe_chain(
        diffuser,
        path.stem,
        objective="paired",
        dataset={**picture_data("digits", 8).card(), "name": data},
        classifier=judge.classifier_name,
        reference=judge.reference_name,
        seed=1,
        settings={},
        training_s=0,
        trained_on="nothing: untrained",
    )
    save_chain(diffuser, path, card)
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return made(tmp_path_factory.mktemp("model") / "untrained.safetensors")


@pytest.fixture
def rig():
    with open_rig("oscillator-ideal") as opened:
        yield opened


def protocol(model, **settings):
    return load_protocol(
        "diffuse_digits_oscillators", {"model": str(model), "samples": 20, "controls": False, **settings}
    )


def test_the_board_goes_where_the_law_on_the_host_goes(model, rig, tmp_path) -> None:
    """An ideal board, its anchors coded as boards have them, against the host from the same starts."""
    diffuser, seen = load_chain(model).diffuser, []

    class Counting(Watcher):
        def settled(self, report) -> None:
            seen.append((report.index, report.kind))

    result = run(protocol(model), rig, out=tmp_path, watcher=Counting())
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


def test_without_couplings_a_board_gives_back_what_its_anchors_hold(tmp_path, rig) -> None:
    """No couplings and no injections: every level reads what it was given (ais.md, acceptance test)."""
    model = TrainableDiffuser(8, DiffuserShape(levels=LEVELS, couplings="none"), seed=1)
    with torch.no_grad():
        for table in (*model.in_phase, *model.quadrature):
            table.zero_()
    path = made(tmp_path / "other.safetensors")
    card = load_chain(path).card
    model.use_codes(4)
    still = model.finished()
    card = card.model_copy(update={"shape": still.shape, "program_hash": still.program.hash})
    save_chain(still, path, card, overwrite=True)
    with RunReader(run(protocol(path), rig, out=tmp_path / "runs").file) as done:
        panel = done.panel()
        start = alpha_of(float(panel.sigma[0])) * panel.x_start
        inside = np.abs(start) < 3.5  # what no turn of the phase has wrapped
        for step in range(LEVELS):
            x = panel.x(step) * alpha_of(float(panel.sigma_next[step]))
            np.testing.assert_allclose(x[inside], start[inside], atol=0.03)


def test_the_ablation_plays_the_same_anchors_without_couplings(model, tmp_path) -> None:
    found = {}
    for couplings in (True, False):
        with open_rig("oscillator-ideal") as rig:
            found[couplings] = run(protocol(model, couplings=couplings), rig, out=tmp_path)
    with RunReader(found[False].file) as done:
        panel = done.panel()
        assert not panel.program.coupling_codes.any()
        assert not panel.locking_load.any()
    alone = load_chain(model).diffuser.uncoupled().generate(20, seed=1)
    board = np.clip(found[False].samples, 0, 1).reshape(20, 8, 8)
    assert np.abs(board - alone).mean() < 0.02
    assert np.abs(found[True].samples - found[False].samples).mean() > 0.01


def test_a_run_is_repeated_bit_by_bit(model, tmp_path) -> None:
    with open_rig("oscillator-unit") as rig:
        first = run(protocol(model), rig, out=tmp_path)
    again = replay(first.file, out=tmp_path)
    assert again.equal
    assert again.panels[0].steps == LEVELS


def test_the_seed_chooses_the_starts(model, tmp_path) -> None:
    made = []
    for seed in (1, 2, 1):
        with open_rig("oscillator-twin") as rig:
            made.append(run(protocol(model, seed=seed), rig, out=tmp_path).samples)
    np.testing.assert_array_equal(made[0], made[2])
    assert np.abs(made[0] - made[1]).mean() > 0.05


def test_controls_stand_beside_where_there_are_enough_pictures(model, rig, tmp_path) -> None:
    few = run(protocol(model, controls=True), rig, out=tmp_path).panels[0].metrics
    assert not [name for name in few if name.startswith("frechet_star")]
    many = run(protocol(model, controls=True, samples=500), rig, out=tmp_path).panels[0].metrics
    assert many["frechet_star_wiener"] < 1.5
    assert many["frechet_star_wiener_implicit"] < many["frechet_star_uncoupled"]
    assert many["frechet_star"] > many["frechet_star_wiener"]  # untrained


def test_shared_parameters_run_on_a_board_of_few_segments(tmp_path) -> None:
    shared = made(tmp_path / "shared.safetensors", shared=True, levels=6)
    own = made(tmp_path / "own.safetensors", levels=6)
    with open_rig("oscillator-pcb-1mhz") as rig:
        with pytest.raises(ProgramError, match="6 levels with parameters of their own; rig oscillator-pcb"):
            run(protocol(own), rig, out=tmp_path / "runs")
        assert len(run(protocol(shared), rig, out=tmp_path / "runs").panels[0].settles) == 6


def test_a_lost_lock_is_marked_and_told(model, tmp_path, mocker) -> None:
    with open_rig("oscillator-twin") as rig:
        board = rig.device(OscillatorBoard)
        done = board._do_run

        def losing(codes, read_at_us):
            phases = done(codes, read_at_us)
            if codes.step_id == 1:
                phases.locked[:5] = False
            return phases

        mocker.patch.object(board, "_do_run", side_effect=losing)
        result = run(protocol(model), rig, out=tmp_path)
    assert result.panels[0].metrics["locked_share"] == 0.75
    with RunReader(result.file) as log:
        lost = [int((log.panel().outcome(k) == Outcome.DIVERGED).sum()) for k in range(LEVELS)]
    assert lost == [0, 5, 0]


@pytest.mark.parametrize(
    ("rig_name", "said"),
    [("optical-twin", "needs a rig of law 'oscillator'; rig optical-twin is of law 'loop'")],
)
def test_rigs_of_another_law_are_refused(model, tmp_path, rig_name, said) -> None:
    with open_rig(rig_name) as rig, pytest.raises(ConfigError, match=said):
        run(protocol(model), rig, out=tmp_path)
    assert not list(tmp_path.iterdir())


def test_what_no_board_or_not_this_board_can_run_is_refused(rig, tmp_path) -> None:
    floats = made(tmp_path / "floats.safetensors", bits=None)
    with pytest.raises(ConfigError, match="couplings of floats; allowed: what it was trained for"):
        run(protocol(floats), rig, out=tmp_path / "runs")
    coded = made(tmp_path / "coded.safetensors")
    with pytest.raises(ConfigError, match=r"bits is 3, but .* has couplings of 4 bits"):
        run(protocol(coded, bits=3), rig, out=tmp_path / "runs")
    hidden = made(tmp_path / "hidden.safetensors", hidden_share=1.0)
    with pytest.raises(ProgramError, match="rig oscillator-ideal is grid, 64 oscillators, 1092 edges"):
        run(protocol(hidden), rig, out=tmp_path / "runs")
    small = made(tmp_path / "small.safetensors", side=7)
    with pytest.raises(ProgramError, match="wired as grid, 49 oscillators"):
        run(protocol(small), rig, out=tmp_path / "runs")
    other = made(tmp_path / "other.safetensors", data="fashion-mnist")
    with pytest.raises(ConfigError, match=r"card names fashion-mnist at 8 .* allowed here: digits at 8"):
        run(protocol(other), rig, out=tmp_path / "runs")
    with pytest.raises(ConfigError, match="neither a shipped chain nor a file"):
        run(protocol("digitz"), rig, out=tmp_path / "runs")
    with pytest.raises(ConfigError, match="has no chains"):
        chains_of(protocol(coded), rig, lambda *_: None)


def test_the_page_shows_how_safely_anchors_hold(model, rig, tmp_path) -> None:
    result = run(protocol(model), rig, out=tmp_path)
    page = report(result.file)
    text = page.read_text(encoding="utf-8")
    assert "How safely do anchors hold?" in text
    assert {f.name for f in page.parent.glob("*.png")} >= {"holding.png", "residuals.png", "steps.png"}


def test_a_board_that_goes_away_ends_the_run_whole(model, tmp_path, mocker) -> None:
    with open_rig("oscillator-ideal") as rig:
        board = rig.device(OscillatorBoard)
        mocker.patch.object(
            board, "_do_run", side_effect=DeviceUnavailable("gone", device="board", operation="run")
        )
        with pytest.raises(DeviceUnavailable, match="gone"):
            run(protocol(model), rig, out=tmp_path)
        assert rig.devices == {}
    (file,) = tmp_path.glob("*.nxs")
    with RunReader(file) as log:
        assert log.status == "failed"
        assert log.panel().n_steps == 0
