"""`labctl replay` as typed, and the keys of a chain."""

from __future__ import annotations

import h5py
import pytest


@pytest.fixture
def file(labctl, quick, tmp_path):
    """A finished run."""
    ended = labctl("run", "sample_moons", *quick, "--quiet", "--no-report", "--set", "stepping=chain")
    assert ended.code == 0, ended.err
    return tmp_path / ended.out.strip()


def spoil(file):
    """Another number in the third step's state."""
    with h5py.File(file, "r+") as content:
        values = content["entry/steps/state"][2]
        values[0, 0] += 1
        content["entry/steps/state"][2] = values


def test_a_replay_says_that_the_bits_are_the_same(labctl, file, tmp_path):
    ended = labctl("replay", file, "--out", "again")
    assert ended.code == 0, ended.err
    assert "4 steps, the same bits" in ended.out
    assert (tmp_path / ended.out.split()[-1]).is_file()
    document = labctl("replay", file, "--out", "again", "--json").document
    assert (document["equal"], document["exit_code"], document["changes"]) == (True, 0, [])
    assert [panel["steps"] for panel in document["panels"]] == [4]


def test_a_replay_that_differs_says_where_and_fails(labctl, file):
    spoil(file)
    ended = labctl("replay", file, "--out", "again")
    assert ended.code == 1
    assert "different from step 3, state on, by at most 1" in ended.out
    assert "the replay differs, first in step 3, state" in ended.err
    ended = labctl("replay", file, "--out", "again", "--json")
    assert (ended.code, ended.document["equal"], ended.document["exit_code"]) == (1, False, 1)


def test_a_file_that_is_none_is_refused(labctl, tmp_path):
    (tmp_path / "none.nxs").write_text("not HDF5")
    ended = labctl("replay", "none.nxs")
    assert ended.code == 4
    assert "none.nxs" in ended.err


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["stepping=chain", "ending=denoise"], "ending 'denoise' needs the host after the chain"),
        (["stepping=chain", "scheme=ddim"], "allowed with stepping 'chain': implicit-euler"),
        (["stepping=chain", "steps=300"], "holds 256 settles; allowed with stepping 'chain': 1 to 256"),
        (["ending=last-settle", "scheme=heun"], "ending is 'last-settle', but heun never settles"),
        (["second_starts=-1"], "second_starts = -1: allowed: 0 or more"),
    ],
)
def test_chains_that_cannot_be(labctl, settings, words):
    options = [word for setting in settings for word in ("--set", setting)]
    ended = labctl("run", "sample_moons", *options)
    assert (ended.code, ended.out) == (2, "")
    assert words in ended.err


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("stepping=chain", "rig digital has no sequencer; allowed: 'host'"),
        ("second_starts=5", "rig digital settles nothing; allowed: 0"),
    ],
)
def test_what_a_host_cannot_do(labctl, setting, words):
    ended = labctl("run", "sample_moons", "--rig", "digital", "--set", setting)
    assert (ended.code, ended.out) == (2, "")
    assert words in ended.err
