"""What is said of a forecast, and of its want; how it stands beside what a run came to."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from labctl_calibration.forecast import Interval

from labctl.procedures import Expected, chains_of, expected, load_protocol
from labctl.procedures.forecasting import NOT_YET, of_golden_task
from labctl.reports.meanings import said
from labctl.rig import load_rig, open_rig

FOUND = Expected(Interval(0.0009, 0.0011, 0.0014, 39, 4000), twin="0123456789abcdef", agreement=99.876)


def silent(what: str, done: int, total: int) -> None:
    pass


def test_an_interval_in_words_and_as_the_file_keeps_it() -> None:
    words = "E expected 0.9e-3 to 1.4e-3 (90%), from the fitted twin of 01234567, which predicts 99.88%"
    assert FOUND.words.startswith(words)
    assert FOUND.settings["low"] == 0.0009
    assert FOUND.settings["words"] == FOUND.words
    assert Expected(why_not="why").settings == {"words": "no forecast: why"}


@pytest.mark.parametrize(("came", "word"), [(0.0010, "inside"), (0.0005, "below"), (0.0020, "above")])
def test_what_was_measured_stands_beside_it(came, word) -> None:
    header = SimpleNamespace(timing=None)
    told = said({"energy_distance": came, "sliced_wasserstein": 0.1}, {}, header, forecast=FOUND.settings)
    assert [one.label for one in told] == ["energy distance", "forecast", "sliced Wasserstein"]
    assert told[1].sentence == f"{FOUND.words}; it came out {word}"
    (alone,) = said({"energy_distance": came}, {}, header)
    assert alone.label == "energy distance"


def test_without_records_there_is_none_and_words_say_why(tmp_path) -> None:
    with open_rig("optical-twin", records=tmp_path) as rig:
        chains = chains_of(load_protocol("sample_moons", {"samples": 4}), rig, silent)
        assert "runs without records of a calibration" in expected(chains, rig, silent).words
        assert "2 chains; one alone" in expected([*chains, *chains], rig, silent).words
    golden = of_golden_task(load_rig("optical-twin"), tmp_path, silent, adapt=False)
    assert "runs without records of a calibration" in golden.words
    assert of_golden_task(load_rig("oscillator-twin"), tmp_path, silent, adapt=False).why_not == NOT_YET
