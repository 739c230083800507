"""True FID of a run, with a stand-in for the network that nobody may ship."""

from __future__ import annotations

from pathlib import Path

import pytest

from labctl.devices import ConfigError
from labctl.devices.errors import DataError
from labctl.models.inception import load_inception
from labctl.procedures import chains_of, load_protocol, run
from labctl.reports import report
from labctl.rig import open_rig
from labctl.runlog import RunReader

SMALL = {"samples": 60, "steps": 2, "audit": 0}


def _plan(recipe: str, **settings: object) -> None:
    with open_rig("digital") as rig:
        chains_of(load_protocol(recipe, {**SMALL, **settings}), rig, lambda *_: None)


@pytest.mark.slow  # all 10,000 test pictures
def test_a_run_that_is_given_the_network_tells_its_fid(tmp_path: Path, real_set, inception_file) -> None:
    test_pictures, _ = real_set("mnist", "test")
    file = str(inception_file())
    with open_rig("digital") as rig:
        result = run(
            load_protocol("sample_mnist_latent", {**SMALL, "inception": file}), rig, out=tmp_path / "runs"
        )
    found = result.panels[0].metrics["FID"]
    assert found == pytest.approx(load_inception(file).fid(result.panels[0].pictures, test_pictures))
    page = report(result.file, tmp_path / "page").read_text(encoding="utf-8")
    assert "to the held-out test pictures, by the Inception file given; few samples raise it" in page


def test_without_the_network_nothing_is_called_fid(tmp_path: Path) -> None:
    with open_rig("digital") as rig:
        result = run(load_protocol("sample_mnist_latent", SMALL), rig, out=tmp_path)
    assert not [name for name in result.panels[0].metrics if name.upper() == "FID"]
    with RunReader(result.file) as reader:
        assert "FID" not in reader.panel().metrics


def test_what_could_not_be_told_is_refused_before_the_run(
    tmp_path: Path, real_set, inception_file, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_set("mnist", "test")
    (tmp_path / "text.pt").write_text("weights")
    narrow = str(inception_file(width=10))
    with pytest.raises(DataError, match=r"absent\.pt: is not there; true FID needs the TorchScript file"):
        _plan("sample_mnist_latent", inception=str(tmp_path / "absent.pt"))
    with pytest.raises(DataError, match=r"text.pt: not a TorchScript file"):
        _plan("sample_mnist_latent", inception=str(tmp_path / "text.pt"))
    with pytest.raises(DataError, match=r"gives \(1, 10\); allowed: \(1, 2048\)"):
        _plan("sample_mnist_latent", inception=narrow)
    with pytest.raises(ConfigError, match=r"inception: samples is 1; allowed for a FID: 2 or more"):
        _plan("sample_mnist_latent", inception=narrow, samples=1)
    with pytest.raises(ConfigError, match="moons makes no pictures; allowed: inception"):
        _plan("sample_moons", inception=narrow)
    monkeypatch.setenv("LABCTL_DATA", str(tmp_path / "nothing"))
    with pytest.raises(DataError, match="labctl data fetch mnist"):
        _plan("sample_mnist_latent", inception=narrow)
