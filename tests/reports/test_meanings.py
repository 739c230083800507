"""Every number of a run has a sentence, and sentences do not claim what was not measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from labctl.procedures import load_protocol, run
from labctl.reports.meanings import legend, said
from labctl.rig import open_rig
from labctl.runlog import RunReader

SMALL = {"samples": 20, "steps": 2, "audit": 4}


def _run(tmp_path: Path, recipe: str, **settings: object) -> Path:
    with open_rig("optical-twin") as rig:
        return run(load_protocol(recipe, {**SMALL, **settings}), rig, out=tmp_path).file


@pytest.mark.slow  # a run by camera with second starts
def test_every_metric_of_a_run_with_all_of_them_has_a_sentence(tmp_path: Path) -> None:
    pictures = _run(tmp_path, "sample_mnist_latent", samples=260, steps=8, second_starts=4, readout="camera")
    points = _run(tmp_path, "sample_gaussians")
    for file in (pictures, points):
        metrics, settings, header = _of(file)
        told = said(metrics, settings, header)
        assert len(told) == len(metrics) >= 6
        for one in told:
            assert one.before or one.after, one.label
            assert one.sentence == one.before + one.value + one.after
    assert {"second starts", "camera, shot noise", "FD*", "path error"} <= {
        one.label for one in said(*_of(pictures))
    }

    whole, brief = (len(said(*_of(pictures), brief=brief)) for brief in (False, True))
    assert whole - brief == 6  # the page has the camera's noise term by term, the terminal its sum


def _of(file: Path) -> tuple:
    with RunReader(file) as reader:
        return reader.panel().metrics, reader.panel().settings, reader.header


def test_zeros_are_told_but_for_time_that_no_machine_spent(synthetic) -> None:
    metrics = {"multistable_share": 0.0, "device_time_per_sample_us": 0.0, "energy_distance": -1e-4}
    told = {one.label: one.sentence for one in said(metrics, {}, synthetic.header())}
    assert told == {
        "energy distance": "-0.10e-3 to fresh data; 0 is the same distribution, below it by chance",
        "second starts": "0% of the audited settles have another root",
    }


def test_a_metric_without_a_sentence_is_shown_bare(synthetic) -> None:
    (one,) = said({"own_figure": 0.25}, {}, synthetic.header())
    assert (one.label, one.sentence) == ("own figure", "0.25")


def test_legend_of_columns() -> None:
    assert legend(["energy_distance", "own_figure"]) == [
        "E: energy distance to fresh data; 0 for the same distribution, below it by chance"
    ]
