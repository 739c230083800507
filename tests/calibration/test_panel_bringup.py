"""The panel's bring-up on drawn benches, scored against their truth; and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
from labctl_calibration import bring_up_panel, calibrate_open_loop
from labctl_calibration.panel_bringup import STEPS
from labctl_sim_devices import ElectronicsTwin

from labctl.devices import DeviceFault
from labctl.engines import Batch, OpticalLoopEngine
from labctl.programs import encode, encode_frame, place

N = 48
LEVELS_BAR = 0.01  # of full scale, rms: a 4-bit step is .14


def live(found):
    return np.setdiff1d(np.arange(N), found.emitters.dead)


def shown(panels, bench, modulator, found, fractions):
    """(what the light gives [n, n] in fractions of full scale, the frame)."""
    frame = encode_frame(fractions, modulator.spec, found.record)
    modulator.show(frame.levels)
    return panels.true_slopes(bench) / found.levels.full_scale_units, frame


def test_dark_levels_and_noise(panels):
    bench, _, found = panels.once(1)
    assert np.abs(found.darks.level_units).max() < 5e-4
    noise = bench.noise.detector_density() / (2 * 6.4e-6)
    np.testing.assert_allclose(np.median(found.darks.noise_units), np.sqrt(noise), rtol=0.1)


def test_compression_is_that_of_the_detectors(panels):
    bench, _, found = panels.once(1)
    ratio = found.linearity.compression / bench.unit.compression
    assert 1.0 < np.median(ratio) < 1.25  # the dark path's leak, some 5%, is subtracted unseen
    assert ratio.std() < 0.06


def test_emitter_curves_on_both_paths(panels):
    bench, _, found = panels.once(1)
    unit, lives = bench.unit, live(found)
    assert found.emitters.dead.tolist() == np.flatnonzero(unit.input_efficiency[0] == 0).tolist()
    for name in ("quadratic", "cubic"):
        truth = getattr(unit, f"emission_{name}") / unit.emission_slope
        off = (getattr(found.emitters, name) - truth)[:, lives]
        assert np.sqrt((off**2).mean()) < 2e-3, name


def test_ranking_follows_the_true_light(panels):
    bench, _, found = panels.once(1)
    true = (bench.unit.input_efficiency * bench.unit.emission_slope).min(axis=0)
    rank = np.empty(N)
    rank[found.emitters.order] = np.arange(N)
    assert np.corrcoef(rank, np.argsort(np.argsort(-true)))[0, 1] > 0.98
    assert found.emitters.order[-1] == found.emitters.dead[0]


@pytest.mark.parametrize("unit_seed", [1])
def test_frames_made_by_the_record_give_the_weights_that_were_asked(panels, unit_seed):
    bench, modulator, found = panels.once(unit_seed)
    assert panels.placement_error_px(bench, found.registration) < 0.05
    lives, rng = live(found), np.random.default_rng(5)
    dark, _ = shown(panels, bench, modulator, found, np.zeros((N, N)))
    assert np.sqrt((dark[:, lives] ** 2).mean()) < 3e-3  # unbalanced: some 3% rms
    codes = rng.integers(-7, 8, (N, N)) / 7 * (rng.random((N, N)) < 0.3)
    seen, frame = shown(panels, bench, modulator, found, codes)
    reached = np.abs(frame.realised - codes) < 0.01
    assert reached[:, lives].mean() > 0.99
    assert np.sqrt(((seen - codes)[reached] ** 2).mean()) < LEVELS_BAR
    (note,) = frame.coercions
    assert note.count == (~reached).sum()


def test_an_engine_with_the_record_has_the_weights_it_was_given(panels, one_segment, toy):
    """In network units, whatever light a full-scale weight gives: gains make up for it."""
    bench, modulator, found = panels.once(1)
    network = toy(sizes=(2, 3, 2))  # on channels 0 to 6, which live
    placed = place([encode(w, 4) for w in network.weights()], N)
    program, segment = one_segment(placed, gain=0.1)
    electronics = ElectronicsTwin("electronics", bench)
    electronics.open()
    engine = OpticalLoopEngine(modulator, electronics, found.record, calibrate_open_loop)
    engine.load(program)
    used = slice(0, 7)
    error = (engine.measured_weights() - placed.weights)[used, used] / placed.scale_out[used, None]
    assert np.sqrt((error**2).mean()) < 0.015  # the open-loop measurement's own noise is in it
    knobs = engine.solve(
        segment,
        Batch(
            inject=np.zeros((4, 2)), start=np.zeros((4, N)), labels=None, sample_id=np.arange(4), step_id=0
        ),
    ).applied
    np.testing.assert_allclose(knobs.gain[:, used], 0.1, rtol=0.02)
    asked = 0.1 * placed.scale_out[used] / found.levels.full_scale_units
    scale = [electronics.spec.state_gain] * 2 + [electronics.spec.hidden_gain] * 5
    given = [float(s.value(code)) for s, code in zip(scale, knobs.gain_codes[0, used], strict=True)]
    np.testing.assert_allclose(given, asked, rtol=0.02)


def test_the_designed_bench_comes_out_as_designed(panels):
    bench, modulator, found = panels.once(0, profile="adm")
    assert panels.placement_error_px(bench, found.registration) < 0.05
    assert found.levels.full_scale_units == pytest.approx(1.0, abs=0.003)
    np.testing.assert_allclose(found.levels.zero_units, 0.0, atol=1e-3)
    codes = np.random.default_rng(6).integers(-7, 8, (N, N)) / 7
    seen, frame = shown(panels, bench, modulator, found, codes)
    np.testing.assert_allclose(seen, codes, atol=0.006)
    assert frame.coercions == ()


def test_progress_findings_and_devices_time_are_told(panels):
    bench, _, found = panels.once(1)
    told = bench.told
    assert [what for what, _, _ in told["said"]] == [*STEPS, "done"]
    assert told["said"][-1][1:] == (len(STEPS), len(STEPS))
    for words in ("input channel 8 dead", "is shifted by", "compress by", "reach it"):
        assert sum(words in finding for finding in found.findings) >= 1, words
    assert found.used.frames == told["frames"]
    assert found.used.modelled_s == pytest.approx(told["time_s"], rel=1e-6)
    assert found.used.modelled_s < 3
    assert told["dark"]
    assert not bench.damage.events
    assert found.record.kind == "panel (measured)"


REFUSED = {
    "lens cap on": ({"truth": {"input_efficiency": np.zeros((2, N)).tolist()}}, "no light: .* lens cap"),
    "panel blank": ({"change": np.zeros_like}, "panel blank: light arrives, and 0 of 48"),
    "too little light": (
        {"truth": {"input_efficiency": np.full((2, N), 0.01).tolist()}},
        "not enough light: a median cell gives 0.00.* units, .* allowed: 0.01",
    ),
    "half of the channels dead": (
        {"truth": {"input_efficiency": np.tile(np.arange(N) % 2, (2, 1)).tolist()}},
        "24 of 48 input channels give no light: 0, 2, 4, .*; allowed: at most 12",
    ),
}


@pytest.mark.parametrize("why", REFUSED)
def test_what_cannot_be_brought_up_is_refused_with_the_reason(panels, why):
    how, message = REFUSED[why]
    _, modulator, electronics = panels.opened(3, **how)
    with pytest.raises(DeviceFault, match=message):
        bring_up_panel(modulator, electronics)
