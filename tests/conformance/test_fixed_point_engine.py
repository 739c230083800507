"""What every fixed-point engine promises. The reference is scipy's root finder on the light that is there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import root

from labctl.devices import DeviceUnavailable, Outcome, ProgramError
from labctl.engines import Batch, OpticalHostLoopEngine, OpticalLoopEngine
from labctl.programs import LoopProgram, LoopSegment, Settled, place

N = 48
SIZES = (3, 8, 6)


def weights(sizes=SIZES, seed=0, strength=0.5, n_channels=N):
    rng = np.random.default_rng(seed)
    feeds = zip((*sizes[1:], sizes[0]), sizes, strict=True)
    return place([strength * rng.normal(size=shape) for shape in feeds], n_channels)


def segment(n_classes=1, seed=0, **changes):
    rng = np.random.default_rng(100 + seed)
    leak = np.ones(N)
    leak[: SIZES[0]] = 0.7
    return replace(
        LoopSegment(
            kind="implicit",
            sigma=1.0,
            leak=leak,
            gain=rng.uniform(0.3, 0.9, (n_classes, N)),
            bias=0.3 * rng.normal(size=(n_classes, N)),
            inject_scale=0.5,
            end=Settled(0.05),
        ),
        **changes,
    )


def batch_of(size=6, seed=0, labels=None, **changes):
    rng = np.random.default_rng(200 + seed)
    return replace(
        Batch(rng.normal(size=(size, SIZES[0])), np.zeros((size, N)), labels, np.arange(size), 3), **changes
    )


def light_weights(subject, program):
    """W as the light shows it: positive minus negative path, times row scales. No light: the program's."""
    if subject.bench is None:
        return program.weights.weights
    light = subject.probe()["light"]
    return (light[0] - light[1]) * program.weights.scale_out[:, None]


def roots(w, part, applied, batch):
    """Fixed points of the loop law with the knobs as applied, by MINPACK."""
    rows = np.zeros(len(batch.inject), int) if batch.labels is None else batch.labels
    out = np.empty((len(rows), N))
    for b, row in enumerate(rows):
        bias = part.bias[row].copy()
        bias[: SIZES[0]] += part.inject_scale * batch.inject[b]
        found = root(
            lambda z, bias=bias, row=row: applied.gain[row] * (w @ np.tanh(z)) + bias - applied.leak * z,
            np.zeros(N),
            tol=1e-12,
        )
        assert found.success
        out[b] = found.x
    return out


@pytest.fixture
def loaded():
    """Factory: (subject, program) with the program loaded."""

    def build(case, program=None, **options):
        subject = case.make(**options)
        program = LoopProgram((weights(),), (segment(),)) if program is None else program
        subject.device.load(program)
        return subject, program

    return build


def device_errors(case):
    return case.implementation in (OpticalLoopEngine, OpticalHostLoopEngine)


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_states_agree_with_a_root_finder_on_contractive_maps(engine_case, loaded, seed):
    part = segment(seed=seed)
    subject, program = loaded(engine_case, LoopProgram((weights(seed=seed),), (part,)), noise_scale=0.0)
    batch = batch_of(seed=seed)
    result = subject.device.solve(part, batch)
    exact = roots(light_weights(subject, program), part, result.applied, batch)
    assert np.abs(exact).max() > 0.5
    np.testing.assert_allclose(result.z, exact, atol=engine_case.notes["quiet"])
    assert (result.outcome == Outcome.CONVERGED).all()
    assert result.z.shape == (6, N)
    assert result.residual_norm.max() <= 2 * engine_case.notes["quiet"]
    if engine_case.notes["noisy"] is not None:
        subject, program = loaded(engine_case, program)
        noisy = subject.device.solve(part, batch)
        error = np.abs(noisy.z - exact)
        assert 1e-4 < error.max() < engine_case.notes["noisy"]
        assert (noisy.outcome == Outcome.CONVERGED).all()


def test_classes_take_their_own_gains_and_biases(engine_case, loaded):
    part = segment(n_classes=3)
    subject, program = loaded(engine_case, LoopProgram((weights(),), (part,)), noise_scale=0.0)
    batch = batch_of(labels=np.array([2, 0, 1, 1, 0, 2]))
    result = subject.device.solve(part, batch)
    exact = roots(light_weights(subject, program), part, result.applied, batch)
    np.testing.assert_allclose(result.z, exact, atol=engine_case.notes["quiet"])


def test_measured_weights_are_what_the_light_shows(engine_case, loaded):
    for noise_scale, atol in ((0.0, engine_case.notes.get("weights", 1e-4)), (1.0, 5e-3)):
        subject, program = loaded(engine_case, noise_scale=noise_scale)
        measured = subject.device.measured_weights()
        np.testing.assert_allclose(measured, light_weights(subject, program), atol=atol)
        # and the light shows the program's matrix, to half a level of the panel
        np.testing.assert_allclose(measured, program.weights.weights, atol=atol + 0.5 * np.pi / 255)


def test_a_start_at_the_solution_stays_there(engine_case, loaded):
    subject, program = loaded(engine_case, noise_scale=0.0)
    part = program.segments[0]
    cold = subject.device.solve(part, batch_of())
    warm = subject.device.solve(part, batch_of(start=cold.z))
    np.testing.assert_allclose(warm.z, cold.z, atol=engine_case.notes["quiet"])
    assert (warm.step_norm <= cold.step_norm + engine_case.notes["quiet"]).all()
    assert (warm.outcome == Outcome.CONVERGED).all()
    if warm.iterations is not None:
        assert warm.iterations.max() <= engine_case.notes.get("warm", 10) < cold.iterations.max()


def test_batch_size_and_order_do_not_change_a_sample(engine_case, loaded):
    """Noise on: the same draws, so the same states."""
    subject, program = loaded(engine_case)
    part, whole = program.segments[0], batch_of(40)
    together = subject.device.solve(part, whole).z

    def take(index):
        return subject.device.solve(
            part,
            replace(
                whole, inject=whole.inject[index], start=whole.start[index], sample_id=whole.sample_id[index]
            ),
        ).z

    order = np.random.default_rng(0).permutation(40)
    np.testing.assert_allclose(take(order), together[order], atol=engine_case.notes["batch"])
    np.testing.assert_allclose(take(np.array([23])), together[[23]], atol=engine_case.notes["batch"])


def test_the_seed_repeats_a_run_bit_for_bit_and_another_does_not(engine_case, loaded):
    def run(seed):
        subject, program = loaded(engine_case, seed=seed)
        part = program.segments[0]
        results = [subject.device.solve(part, batch_of(step_id=k)) for k in (0, 1)]
        return np.stack([r.z for r in results]), np.stack([r.step_norm for r in results])

    (first, norms), (again, norms_again) = run(5), run(5)
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(norms, norms_again)
    if engine_case.notes["noisy"] is None:  # nothing is drawn, so neither seed nor step may matter
        np.testing.assert_array_equal(first, run(6)[0])
        np.testing.assert_array_equal(first[0], first[1])
    else:
        assert (run(6)[0] != first).mean() > 0.5
        assert (first[0] != first[1]).mean() > 0.5


def test_callers_arrays_are_left_alone_and_can_change_afterwards(engine_case, loaded):
    subject, program = loaded(engine_case, noise_scale=0.0)
    part, batch = program.segments[0], batch_of()
    kept = batch_of()
    result = subject.device.solve(part, batch)
    state = result.z.copy()
    for name in ("inject", "start", "sample_id"):
        np.testing.assert_array_equal(getattr(batch, name), getattr(kept, name))
        getattr(batch, name)[:] = 1
    np.testing.assert_array_equal(result.z, state)


def test_a_map_without_a_fixed_point_is_never_called_converged(engine_case, loaded):
    """Leak 0 and a steady bias: the state runs away for as long as one waits."""
    leak = np.ones(N)
    leak[: SIZES[0]] = 0.0
    bias = np.zeros((1, N))
    bias[:, : SIZES[0]] = 1.0
    part = segment(leak=leak, gain=np.zeros((1, N)), bias=bias)
    program = LoopProgram((weights(),), (part,))
    if engine_case.notes.get("camera"):
        with pytest.raises(ProgramError, match="camera: read-out: row 0 has leak 0: "):
            loaded(engine_case, program, noise_scale=0.0)
        return  # a light that stands still says nothing of a state that does not
    subject, _ = loaded(engine_case, program, noise_scale=0.0)
    result = subject.device.solve(part, batch_of(inject=np.zeros((6, 3))))
    assert not (result.outcome == Outcome.CONVERGED).any()


def test_evaluate_reads_the_network_without_closing_the_loop(engine_case, loaded):
    """Rows u hold c_in x; rows h_L are one feed-forward evaluation."""
    gain = np.ones((1, N))
    gain[:, : SIZES[0]] = 0.0
    part = segment(kind="evaluate", leak=np.ones(N), gain=gain, bias=np.zeros((1, N)))
    subject, program = loaded(engine_case, LoopProgram((weights(),), (part,)), noise_scale=0.0)
    batch = batch_of()
    result = subject.device.solve(part, batch)
    w = light_weights(subject, program)
    u, h1, h2 = (program.weights.placement.block(k) for k in range(3))
    x = part.inject_scale * batch.inject
    first = result.applied.gain[0, h1] * (np.tanh(x) @ w[h1, u].T)
    second = result.applied.gain[0, h2] * (np.tanh(first) @ w[h2, h1].T)
    np.testing.assert_allclose(result.z[:, u], x, atol=engine_case.notes["quiet"])
    np.testing.assert_allclose(result.z[:, h2], second, atol=engine_case.notes["quiet"])


def test_the_ledger_counts_settles_and_modelled_time_stands_apart(engine_case, loaded):
    subject, program = loaded(engine_case)
    part = program.segments[0]
    first = subject.device.solve(part, batch_of(4)).ledger
    second = subject.device.solve(part, batch_of(8)).ledger
    assert (first.settles, second.settles) == (4, 8)
    assert first.host_s > 0
    total = first + second
    assert total.settles == 12
    assert total.device_us == pytest.approx(first.device_us + second.device_us)
    if subject.bench is None:
        assert total.device_us == 0
        assert second.host_macs > 0
    elif engine_case.notes.get("host"):
        engine, profile = subject.device, subject.bench.profile
        assert first.upload_us == profile.panel_settle_us  # one frame, shown once
        assert second.upload_us == second.wait_us == 0
        assert engine.period_us > 100  # the sensor's read-out
        exposures = second.window_us / engine.period_us
        assert exposures == pytest.approx(round(exposures))
        assert 8 * 20 < exposures < 8 * 100
        assert second.read_us % profile.camera_link_latency_us == pytest.approx(0)  # frames come meanwhile
    else:
        spec = subject.device.electronics.spec
        latency_us = subject.bench.profile.link_latency_us  # codes and counts stream while the queue settles
        assert first.upload_us == subject.bench.profile.panel_settle_us + latency_us  # one frame, shown once
        camera_us = subject.bench.profile.camera_link_latency_us if engine_case.notes.get("camera") else 0.0
        assert (second.upload_us, second.read_us) == (latency_us, latency_us + camera_us)
        settle_us = spec.wait_us + spec.window_us
        if engine_case.notes.get("camera"):
            settle_us = subject.device.camera.period_us(spec.wait_us, spec.window_us)
            assert settle_us > 100  # the sensor's read-out
        assert second.wait_us + second.window_us == pytest.approx(8 * settle_us)
        assert second.device_us == pytest.approx(
            second.wait_us + second.window_us + 2 * latency_us + camera_us
        )


def test_the_audit_gives_settle_times_for_the_first_samples(engine_case, loaded):
    subject, program = loaded(engine_case)
    result = subject.device.solve(program.segments[0], batch_of(6), audit=4)
    if subject.bench is None or engine_case.notes.get("host"):
        assert len(result.audit) == 0  # a host has no settle time
        return
    np.testing.assert_array_equal(result.audit, range(4))
    spec = subject.device.electronics.spec
    taus = result.settle_time_us / spec.tau_us
    assert ((taus > 0.5) & (taus < 20)).all()
    assert result.transient.shape == (4,)
    assert result.transient.max() < 0.03


def test_what_cannot_be_run_is_refused_before_light_changes(engine_case, loaded, unchanged):
    subject = engine_case.make()
    part = segment()
    before = None if subject.bench is None else subject.probe()
    with pytest.raises(ProgramError, match="no program is loaded"):
        subject.device.solve(part, batch_of())
    with pytest.raises(ProgramError, match=r"the program is for 20 channels.*allowed: 48"):
        subject.device.load(LoopProgram((weights(n_channels=20),), (part,)))
    if before is not None:
        unchanged(before, subject.probe())


def test_a_device_that_disappears_mid_run_is_named(engine_case, loaded):
    if not device_errors(engine_case):
        pytest.skip("a host has no device that could disappear")
    subject, program = loaded(engine_case)
    part = program.segments[0]
    subject.device.solve(part, batch_of())
    subject.unplug()
    first = ("camera", "settings") if engine_case.notes.get("host") else ("electronics", "settle")
    first = ("camera", "arm") if engine_case.notes.get("camera") else first
    with pytest.raises(DeviceUnavailable, match=f"{first[0]}: {first[1]}: ") as caught:
        subject.device.solve(part, batch_of())
    assert (caught.value.device, caught.value.operation) == first
    with pytest.raises(DeviceUnavailable, match="panel: show: "):
        subject.device.load(program)
