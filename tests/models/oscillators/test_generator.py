"""Generators: bounded parameters, codes that stay what they are, samples that depend on their number."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from labctl.devices.errors import ConfigError, DataError, ProgramError
from labctl.models.oscillators.board_law import with_errors
from labctl.models.oscillators.codes import coded, codes_of, stepped
from labctl.models.oscillators.couplings import row_sums
from labctl.models.oscillators.generator import (
    OscillatorParameters,
    TrainableGenerator,
    node_scales,
    program_of,
)
from labctl.models.oscillators.settings import BoardErrors, OscillatorShape
from labctl.programs.codes import full_scale_code

SMALL = OscillatorShape(radius=1, segments=2, steps=8, duration=1.0)


def _strong(shape: OscillatorShape = SMALL, seed: int = 0, bits: int | None = None) -> TrainableGenerator:
    """Parameters far beyond every bound."""
    model = TrainableGenerator(4, shape, seed=seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name != "log_scale":
                parameter.mul_(40.0)
    if bits is not None:
        model.use_codes(bits)
    return model


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 8])
def test_codes_are_in_range_and_idempotent(bits: int) -> None:
    values = torch.linspace(-3, 3, 301)
    scale = torch.tensor(1.4)
    codes = codes_of(values, scale, bits)
    top = full_scale_code(bits)
    assert codes.abs().max() == top
    assert torch.equal(codes, codes.round())
    assert bits > 1 or set(codes.tolist()) == {-1.0, 1.0}
    once = coded(values, scale, bits)
    assert once == pytest.approx((scale * codes / top).numpy(), abs=1e-6)
    assert coded(once, scale, bits) == pytest.approx(once.numpy(), abs=1e-6)
    assert torch.equal(codes_of(once, scale, bits), codes)


def test_gradients_pass_the_rounding() -> None:
    values = torch.tensor([0.3, -0.9, 5.0], requires_grad=True)
    scale = torch.tensor(1.5, requires_grad=True)
    torch.autograd.backward(coded(values, scale, 4).sum())
    assert values.grad is not None
    assert values.grad.tolist() == [1.0, 1.0, 0.0]  # beyond the full scale the scale alone moves
    codes = torch.tensor([1.0, -4.0, 7.0]) / 7
    wanted = codes[2] + (codes[:2] - values.detach()[:2] / 1.5).sum()  # Esser et al. 2020, eq. 3
    assert float(scale.grad) == pytest.approx(float(wanted), abs=1e-6)  # type: ignore[arg-type]
    angle = torch.tensor([0.31], requires_grad=True)
    torch.autograd.backward(stepped(angle, 0.25).sum())
    assert angle.grad is not None
    assert angle.grad.item() == 1.0
    assert stepped(angle.detach(), 0.25).item() == 0.25


@pytest.mark.parametrize("bits", [None, 1, 2, 4, 8])
def test_bounds_hold_whatever_the_free_numbers(bits: int | None) -> None:
    shape = OscillatorShape(radius=2, segments=2, steps=8, duration=3.0, hidden_share=0.5)
    model = _strong(shape, bits=bits)
    with torch.no_grad():
        found = model.values()
    law = found.law
    assert law.coupling.abs().max() <= shape.coupling_limit * (1 + 1e-6)
    for table, limit in (
        (law.in_phase, shape.injection_limit),
        (law.quadrature, shape.injection_limit),
        (law.second, shape.trim_limit),
        (law.detuning, shape.trim_limit),
        (found.amplitude, math.pi),
    ):
        assert table.abs().max() <= limit * (1 + 1e-6)
    most = float(row_sums(model.topology, law.coupling.abs()).max()) * shape.step
    assert most <= shape.step_bound * (1 + 1e-5)
    assert most > 0.9 * shape.step_bound or bits == 1  # or this test would not have met the bound


def test_a_finished_generator_is_what_was_trained() -> None:
    model = _strong(bits=4)
    done = model.finished()
    for name, table in model.values().tables().items():
        kept, table = done.parameters.tables()[name], table.detach()
        if name == "phase":  # whole turns are taken off
            table, kept = torch.cos(table), torch.cos(kept)
        torch.testing.assert_close(kept, table, atol=2e-5, rtol=1e-5)
    program = program_of(done)
    assert program.bits == 4
    assert abs(program.coupling.codes).max() <= 7
    assert program.visible.tolist() == list(range(16))
    again = OscillatorParameters.of(program)
    for name, table in again.tables().items():
        assert torch.equal(table, done.parameters.tables()[name])


def test_coding_a_coded_generator_changes_nothing() -> None:
    model = TrainableGenerator(4, SMALL)
    model.use_codes(4)
    done = model.finished()
    program = program_of(done)
    nodes = node_scales(SMALL)
    assert nodes.of("in_phase").range_units == SMALL.injection_limit
    scale = torch.as_tensor(program.coupling.scale.copy(), dtype=torch.float32)[:, None]
    codes = codes_of(done.parameters.law.coupling, scale, 4)
    np.testing.assert_array_equal(codes.numpy(), program.coupling.codes)


def test_blend_goes_from_floats_to_codes() -> None:
    model = TrainableGenerator(4, SMALL)
    floats = model.finished().parameters.law.coupling
    model.use_codes(2)
    model.blend = 0.0
    torch.testing.assert_close(model.values().law.coupling.detach(), floats)
    codes = program_of(model.finished()).coupling
    model.blend = 0.5
    half = model.values().law.coupling.detach()
    torch.testing.assert_close(half, 0.5 * (floats + torch.as_tensor(codes.weights(), dtype=torch.float32)))


def test_masked_edges_stay_silent() -> None:
    shape = SMALL.model_copy(update={"density": 0.5})
    model = TrainableGenerator(4, shape, seed=3)
    model.use_codes(3)
    program = program_of(model.finished())
    masked = model.mask.numpy() == 0
    assert masked.sum() == model.topology.n_edges - round(0.5 * model.topology.n_edges)
    assert not program.coupling.codes[:, masked].any()
    with pytest.raises(ConfigError, match=r"bits = 1 with shape.density = 0.5: one bit has no code 0"):
        TrainableGenerator(4, shape).use_codes(1)


def test_a_sample_depends_on_its_number_alone() -> None:
    generator = TrainableGenerator(4, SMALL, seed=1).finished()
    many = generator.generate(1300, seed=5)
    few = generator.generate(7, seed=5)
    np.testing.assert_allclose(many[:7], few, atol=1e-5)
    np.testing.assert_array_equal(few, generator.generate(7, seed=5))
    assert np.abs(few - generator.generate(7, seed=6)).max() > 0.01
    assert few.min() >= 0
    assert few.max() <= 1


def test_refined_steps_come_closer_to_each_other() -> None:
    generator = TrainableGenerator(4, SMALL, seed=1).finished()
    finest = generator.generate(20, refine=16)
    gaps = [np.abs(generator.generate(20, refine=r) - finest).max() for r in (1, 2, 4)]
    assert gaps[0] > 3 * gaps[1] > 9 * gaps[2] > 0  # Heun: a quarter at half the step


def test_boards_differ_and_stay_themselves() -> None:
    generator = TrainableGenerator(4, SMALL, seed=1).finished()
    errors = BoardErrors(detuning=0.5, gain=0.1, offset=0.05)
    one, same, other = (generator.generate(5, errors=errors, board=b) for b in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).max() > 0.01
    noisy = generator.generate(5, errors=BoardErrors(diffusion=0.1))
    assert np.abs(noisy - generator.generate(5)).max() > 0.01
    np.testing.assert_array_equal(generator.generate(5, errors=BoardErrors()), generator.generate(5))


def test_errors_have_the_size_asked_for() -> None:
    law = TrainableGenerator(8, OscillatorShape(), seed=0).finished().parameters.law
    found = with_errors(law, BoardErrors(detuning=0.3, offset=0.02), torch.Generator().manual_seed(0))
    assert float((found.detuning - law.detuning)[0].std()) == pytest.approx(0.3, rel=0.3)
    assert float((found.coupling - law.coupling)[0].std()) == pytest.approx(0.02, rel=0.1)
    torch.testing.assert_close((found.coupling - law.coupling)[0], (found.coupling - law.coupling)[1])


def test_refusals() -> None:
    generator = TrainableGenerator(4, SMALL).finished()
    with pytest.raises(ConfigError, match="couplings are floats; allowed: a coded one"):
        program_of(generator)
    with pytest.raises(DataError, match="count 0, refine 1; allowed: 1 or more"):
        generator.generate(0)
    with pytest.raises(ConfigError, match="allowed: after use_codes"):
        TrainableGenerator(4, SMALL).scale()
    short = TrainableGenerator(4, OscillatorShape(segments=16, steps=32, duration=3.0))
    short.use_codes(4)
    with pytest.raises(ProgramError, match=r"segment 0 lasts 0.188 units"):
        short.finished()
    with pytest.raises(ValueError, match="steps 9 must be a multiple of segments 2"):
        OscillatorShape(segments=2, steps=9)
