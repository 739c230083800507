"""What holds of generators and chains alike on an oscillator board: repeats, seeds, refusals, endings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labctl import load_protocol, open_rig, run
from labctl.devices import CheckpointError, ConfigError, DeviceUnavailable, OscillatorBoard
from labctl.models.oscillators.checkpoint import NetName
from labctl.models.picture_data import picture_data
from labctl.procedures import replay
from labctl.runlog import RunReader


@dataclass
class Subject:
    """A recipe with an untrained model of its kind, and how to make another one."""

    recipe: str
    what: str
    model: Path
    made: Callable[..., Path]
    steps: int
    settings: dict[str, Any] = field(default_factory=dict)

    def protocol(self, model: object = None, **settings: Any):
        own = {"model": str(model or self.model), "samples": 20, **self.settings}
        return load_protocol(self.recipe, {**own, **settings})


@pytest.fixture(params=["generator", "chain"])
def subject(request) -> Subject:
    fixtures = [request.getfixturevalue(name) for name in (f"{request.param}_file", f"made_{request.param}")]
    if request.param == "generator":
        return Subject("generate_digits", "generator", *fixtures, steps=4)
    return Subject("diffuse_digits_oscillators", "chain", *fixtures, steps=3, settings={"controls": False})


def test_a_run_is_repeated_bit_by_bit(subject, tmp_path) -> None:
    with open_rig("oscillator-unit") as rig:
        first = run(subject.protocol(), rig, out=tmp_path)
    again = replay(first.file, out=tmp_path)
    assert again.equal
    assert again.panels[0].steps == subject.steps


def test_the_seed_chooses_the_starts(subject, tmp_path) -> None:
    made = []
    for seed in (1, 2, 1):
        with open_rig("oscillator-twin") as rig:
            made.append(run(subject.protocol(seed=seed), rig, out=tmp_path).samples)
    np.testing.assert_array_equal(made[0], made[2])
    assert np.abs(made[0] - made[1]).mean() > 0.05


def test_rigs_of_another_law_are_refused(subject, tmp_path) -> None:
    said = "needs a rig of law 'oscillator'; rig optical-twin is of law 'loop'"
    with open_rig("optical-twin") as rig, pytest.raises(ConfigError, match=said):
        run(subject.protocol(), rig, out=tmp_path)
    assert not list(tmp_path.iterdir())


def test_models_that_are_not_there_or_have_other_bits_are_refused(subject, ideal_board, tmp_path) -> None:
    floats = subject.made(tmp_path / "floats.safetensors", bits=None)
    with pytest.raises(ConfigError, match="couplings of floats; allowed: what it was trained for"):
        run(subject.protocol(floats), ideal_board, out=tmp_path / "runs")
    with pytest.raises(ConfigError, match=r"bits is 3, but .* has couplings of 4 bits"):
        run(subject.protocol(bits=3), ideal_board, out=tmp_path / "runs")
    with pytest.raises(ConfigError, match=f"neither a shipped {subject.what} nor a file"):
        run(subject.protocol("digitz"), ideal_board, out=tmp_path / "runs")


def test_models_of_other_data_are_refused(subject, ideal_board, tmp_path) -> None:
    named = {**picture_data("digits", 8).card(), "name": "fashion-mnist"}
    other = subject.made(tmp_path / "other.safetensors", dataset=named)
    with pytest.raises(ConfigError, match=r"card names fashion-mnist at 8 .* allowed here: digits at 8"):
        run(subject.protocol(other), ideal_board, out=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("net", ["classifier", "reference"])
def test_models_judged_by_nets_that_are_others_now_are_refused(subject, ideal_board, net, tmp_path) -> None:
    name = f"digits8_{net}"
    swapped = subject.made(tmp_path / "m.safetensors", **{net: NetName(name=name, sha256="0" * 64)})
    said = rf"{name}: sha256 [0-9a-f]{{64}}; allowed: 0{{64}}, the one the card of m names"
    with pytest.raises(CheckpointError, match=said):
        run(subject.protocol(swapped), ideal_board, out=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_a_board_that_goes_away_ends_the_run_whole(subject, tmp_path, mocker) -> None:
    with open_rig("oscillator-ideal") as rig:
        board = rig.device(OscillatorBoard)
        mocker.patch.object(
            board, "_do_run", side_effect=DeviceUnavailable("gone", device="board", operation="run")
        )
        with pytest.raises(DeviceUnavailable, match="gone"):
            run(subject.protocol(), rig, out=tmp_path)
        assert rig.devices == {}
    (file,) = tmp_path.glob("*.nxs")
    with RunReader(file) as log:
        assert log.status == "failed"
        assert log.panel().n_steps == 0
