"""Programs of oscillator boards in run files: nothing is lost, nonsense is refused."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from labctl.devices import RunLogError
from labctl.runlog import OscillatorRecord, PanelPlan, RunPlan, RunReader, RunWriter


def created(path: Path, synthetic, record: OscillatorRecord) -> RunWriter:
    n = record.in_phase_codes.shape[1]
    plan = PanelPlan(n_steps=1, n_samples=1, d=n, n_channels=n, program=record)
    return RunWriter.create(path, synthetic.header(1, n, n_channels=n), RunPlan([plan]))


def test_a_program_comes_back_as_it_was(tmp_path: Path, synthetic) -> None:
    path = synthetic.write_oscillators(tmp_path / "board")
    asked = synthetic.oscillators()
    with RunReader(path) as run:
        panel = run.panel()
        found = panel.program
        assert isinstance(found, OscillatorRecord)
        for field in fields(OscillatorRecord):
            np.testing.assert_array_equal(getattr(found, field.name), getattr(asked, field.name))
        assert panel.n_steps == len(asked.duration_us)
        assert np.isnan(panel.sigma).all()
        assert list(panel.kinds) == ["segment"] * panel.n_steps


def test_a_board_without_places_has_none(tmp_path: Path, synthetic) -> None:
    with created(tmp_path / "a", synthetic, replace(synthetic.oscillators(), sites=None)) as run:
        run.panel().finish(np.zeros((1, 64)))
        path = run.finish()
    with RunReader(path) as run:
        assert run.panel().program.sites is None


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"target": np.full(1092, 64)}, "program.target runs from 64 to 64; allowed: 0 to 63"),
        ({"visible": np.array([0.5])}, "program.visible is float64"),
        ({"scale": np.ones(3)}, "scale has shape"),
        ({"coupling_codes": np.zeros((4, 7), int)}, "coupling_codes has shape"),
    ],
)
def test_tables_that_do_not_fit_are_refused(tmp_path: Path, synthetic, change, named) -> None:
    with pytest.raises(RunLogError, match=named):
        created(tmp_path / "a", synthetic, replace(synthetic.oscillators(), **change))
    assert not list(tmp_path.iterdir())
