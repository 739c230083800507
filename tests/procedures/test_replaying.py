"""A run made again from its file: the same bits, or where they part."""

from __future__ import annotations

import itertools
import shutil

import h5py
import numpy as np
import pytest

from labctl import load_protocol, open_rig, run
from labctl.devices import ConfigError, RunLogError
from labctl.procedures import replay

SMALL = {"samples": 24, "audit": 0, "reference": 32}


def made(tmp_path, name="sample_moons", rig="optical-twin", **settings):
    with open_rig(rig) as bench:
        return run(load_protocol(name, {**SMALL, **settings}), bench, out=tmp_path / "first").file


@pytest.fixture(scope="module")
def moons_file(tmp_path_factory):
    """A finished run; tests that change its file change a copy."""
    return made(tmp_path_factory.mktemp("moons"))


@pytest.fixture
def file(moons_file, tmp_path):
    """A copy of it, to be changed."""
    return shutil.copy(moons_file, tmp_path / moons_file.name)


def random_runs(count=20):
    """Settings drawn once: rigs, recipes, schemes, both steppings, noise, classes, a scan and a tour."""
    rng = np.random.default_rng(2026)
    recipes = ("sample_moons", "sample_swiss_roll", "sample_gaussians", "sample_checkerboard",
               "sample_fashion_latent")  # fmt: skip
    chosen = []
    for index in range(count - 2):
        settings = {
            "seed": int(rng.integers(2**31)),
            "samples": int(rng.integers(2, 60)),
            "steps": int(rng.integers(1, 7)),
            "schedule": str(rng.choice(["flow", "edm", "log"])),
            "eta": float(rng.choice([0.0, 0.4])),
            "noise_scale": float(rng.choice([0.0, 1.0])),
            "audit": int(rng.integers(0, 6)),
        }
        rig = str(rng.choice(["optical-twin", "optical-twin", "optical-ideal", "digital"]))
        if rig == "digital":
            settings["noise_scale"] = 1.0
        settings["scheme"] = str(rng.choice(["implicit-midpoint", "implicit-euler", "ddim"]))
        if rig != "digital" and settings["scheme"] != "ddim" and index % 2:
            settings["stepping"] = "chain"
        chosen.append((str(recipes[index % len(recipes)]), rig, settings))
    chosen.append(("noise_scan", "optical-twin", {"values": [0, 2], "samples": 20, "seed": 5}))
    chosen.append(("demo", "optical-twin", {"samples": 10, "steps": 2, "seed": 6}))
    return chosen


def marked(runs):
    """For parametrize: one on each rig every day, a chain and classes among them; the others are slow."""
    everyday = (1, 3, 4, 10)
    return [
        pytest.param(*one, marks=() if k in everyday else (pytest.mark.slow,)) for k, one in enumerate(runs)
    ]


@pytest.mark.parametrize(("name", "rig", "settings"), marked(random_runs()))
def test_twenty_random_runs_come_out_the_same_to_the_bit(tmp_path, name, rig, settings):
    small = {} if name == "demo" else {"reference": 32}
    with open_rig(rig) as bench:
        file = run(load_protocol(name, {**small, **settings}), bench, out=tmp_path / "first").file
    found = replay(file, out=tmp_path / "second")
    assert found.equal, found.panels
    assert found.changes == ()
    assert found.file != file
    assert all(panel.steps > 0 for panel in found.panels)


def test_a_changed_file_is_noticed_where_it_was_changed(file, tmp_path):
    with h5py.File(file, "r+") as content:
        state = content["entry/steps/state"]
        values = state[2]
        values[3, 1] += 0.25
        state[2] = values
    (panel,) = replay(file, out=tmp_path / "second").panels
    assert (panel.equal, panel.first_difference) == (False, "step 3, state")
    assert panel.largest == pytest.approx(0.25)


def test_another_seed_in_the_file_is_another_run(file, tmp_path):
    with h5py.File(file, "r+") as content:
        header = content["entry/process/header/data"]
        text = header[()].decode()
        assert '\\"seed\\": 1' in text
        del content["entry/process/header/data"]
        content["entry/process/header/data"] = text.replace('\\"seed\\": 1', '\\"seed\\": 9')
    found = replay(file, out=tmp_path / "second")
    assert found.panels[0].first_difference == "the start noise"


def test_an_unfinished_run_is_made_whole(tmp_path, monkeypatch):
    from labctl.procedures import Watcher

    class Stops(Watcher):
        def settled(self, report):
            if report.index == 1:
                raise RuntimeError("enough")

    with pytest.raises(RuntimeError), open_rig("optical-twin") as rig:
        run(load_protocol("sample_moons", SMALL), rig, out=tmp_path / "first", watcher=Stops())
    (file,) = (tmp_path / "first").iterdir()
    found = replay(file, out=tmp_path / "second")
    assert found.equal
    assert 1 <= found.panels[0].steps < 5


@pytest.mark.slow
def test_a_rig_that_had_been_used_is_told(tmp_path):
    with open_rig("optical-twin") as rig:
        files = [
            run(load_protocol("sample_moons", SMALL), rig, out=tmp_path / "first").file for _ in range(2)
        ]
    assert replay(files[0], out=tmp_path / "second").changes == ()
    (change,) = replay(files[1], out=tmp_path / "second").changes
    assert "the twin had been used for" in change


@pytest.mark.parametrize("cut", [0.0, 0.3, 0.9])
def test_a_truncated_file_is_refused(file, tmp_path, cut):
    short = tmp_path / "short.nxs"
    content = file.read_bytes()
    short.write_bytes(content[: int(len(content) * cut)])
    with pytest.raises(RunLogError, match=r"short\.nxs: "):
        replay(short, out=tmp_path / "second")


def test_a_file_of_another_format_is_refused(file, tmp_path):
    with h5py.File(file, "r+") as content:
        content.attrs["labctl_format"] = 99
    with pytest.raises(RunLogError, match=r"written in run-file format 99; this labctl reads formats 1\.\."):
        replay(file, out=tmp_path / "second")


@pytest.mark.parametrize(
    ("key", "old", "new", "words"),
    [
        ("scheme", "implicit-midpoint", "implicit-midday", "protocol: .*implicit-midday"),
        ("kind", "sample", "sampel", "protocol: kind = 'sampel'"),
        ("engine", "optical-loop", "optical-lop", "rig: engine = 'optical-lop'"),
    ],
)
def test_a_protocol_or_rig_that_makes_no_sense_is_named(file, tmp_path, key, old, new, words):
    with h5py.File(file, "r+") as content:
        text = content["entry/process/header/data"][()].decode()
        before, after = (f'\\"{key}\\": \\"{value}\\"' for value in (old, new))
        assert before in text
        del content["entry/process/header/data"]
        content["entry/process/header/data"] = text.replace(before, after)
    with pytest.raises(ConfigError, match=words):
        replay(file, out=tmp_path / "second")


def test_random_runs_cover_what_they_should():
    runs = random_runs()
    assert len(runs) == 20
    assert {rig for _, rig, _ in runs} == {"optical-twin", "optical-ideal", "digital"}
    steppings = {settings.get("stepping", "host") for _, _, settings in runs}
    assert steppings == {"host", "chain"}
    assert all(a != b for a, b in itertools.combinations([str(r) for r in runs], 2))
