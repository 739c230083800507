"""Programs in the codes of a measured board: the rates of its phases are what the program meant."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from labctl_calibration.oscillators import ESSENTIAL, anchors, couplings, skew
from labctl_calibration.oscillators.compensation import compensated

from labctl.devices import CalibrationMissing
from labctl.programs import board_image, code_program


@pytest.fixture(scope="module")
def known(oscillators):
    """(bench, board, records) of a small board, taken with few samples."""
    patch = pytest.MonkeyPatch()
    for module, name, value in (
        (anchors, "PER_SEGMENT", 24), (couplings, "PER_SEGMENT", 24), (skew, "SAMPLES", 1024)
    ):  # fmt: skip
        patch.setattr(module, name, value)
    bench, board = oscillators.drawn(4)
    records = {}
    for procedure in ESSENTIAL:
        oscillators.taken(procedure, board, records)
    patch.undo()
    return bench, board, records


@pytest.fixture(scope="module")
def program(known):
    wiring = known[1].spec.topology
    rng = np.random.default_rng(3)
    made, _ = code_program(
        wiring,
        coupling=rng.normal(0, 0.5, (3, wiring.n_edges)),
        in_phase=rng.normal(0, 0.7, (3, wiring.n)),
        quadrature=rng.normal(0, 0.7, (3, wiring.n)),
        second=rng.normal(0, 0.2, (3, wiring.n)),
        detuning=rng.normal(0, 0.3, (3, wiring.n)),
        amplitude_rad=np.full(wiring.n, 1.5),
        duration=0.6,
    )
    return made


def rates(board, theta):
    """What the board truly does to phases [B, n] in each segment of what is loaded [K, B, n]."""
    law, wiring = board.law(), board.spec.topology
    out = []
    for k in range(len(law.direct)):
        away = theta[:, wiring.source] - theta[:, wiring.target]
        pull = law.direct[k] * np.sin(away) - law.lagging[k] * np.cos(away)
        heard = np.stack([np.bincount(wiring.target, row, wiring.n) for row in pull])
        own = law.in_phase[k] * np.cos(theta) - law.quadrature[k] * np.sin(theta)
        # injections reach an oscillator turned: the law has them as they arrive
        out.append(heard + own - law.second[k] * np.sin(2 * theta) + law.detuning[k])
    return np.stack(out)


def ideal_rates(program, theta):
    wiring, weights = program.topology, program.coupling.weights()
    away = theta[:, wiring.source] - theta[:, wiring.target]
    values = {name: program.node_values(name) for name in ("in_phase", "quadrature", "second", "detuning")}
    out = []
    for k in range(program.segments):
        heard = np.stack([np.bincount(wiring.target, row, wiring.n) for row in weights[k] * np.sin(away)])
        own = values["in_phase"][k] * np.cos(theta) - values["quadrature"][k] * np.sin(theta)
        out.append(heard + own - values["second"][k] * np.sin(2 * theta) + values["detuning"][k])
    return np.stack(out)


@pytest.mark.slow  # judges a whole program over thousands of samples
def test_the_board_truly_does_what_the_program_means(known, program) -> None:
    """Against the twin's own law, which no record holds, on phases as the program's start spreads them."""
    _, board, records = known
    theta = program.start_rad + program.amplitude_rad * np.random.default_rng(0).normal(size=(400, 9))
    wanted = ideal_rates(program, theta)
    board.load(board_image(program, board.spec)[0])
    before = np.sqrt(np.mean((rates(board, theta) - wanted) ** 2))
    made = compensated(program, board.spec, records)
    board.load(made.image)
    after = np.sqrt(np.mean((rates(board, theta) - wanted)[:1] ** 2))
    assert before > 0.4
    assert after < before / 4
    assert made.misfit.mean() < made.before.mean() / 3
    assert made.before.mean() == pytest.approx(before, rel=0.3)


def test_the_others_stand_in_for_a_dead_cell(known, program) -> None:
    _, board, records = known
    edge = int(np.flatnonzero(program.coupling.codes.any(axis=0))[0])
    dead = np.zeros(board.spec.topology.n_edges)
    dead[edge] = 1.0
    kind = "oscillator couplings"
    lost = {**records, kind: replace(records[kind], arrays={**records[kind].arrays, "dead": dead})}
    made = compensated(program, board.spec, lost)
    assert any("is dead: the others of oscillator" in line for line in made.findings)
    own = compensated(program, board.spec, records)
    target = int(board.spec.topology.target[edge])
    others = np.arange(9) != target
    np.testing.assert_allclose(made.misfit[:, others], own.misfit[:, others], atol=0.05)
    assert made.misfit[:, target].mean() > own.misfit[:, target].mean()


def test_without_a_record_nothing_is_compensated(known, program) -> None:
    _, board, records = known
    some = {kind: record for kind, record in records.items() if "coupling" not in kind}
    with pytest.raises(CalibrationMissing, match="oscillator couplings"):
        compensated(program, board.spec, some)
