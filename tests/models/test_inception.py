"""FID's arithmetic with a stand-in for the network that nobody may ship."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.linalg import sqrtm

from labctl.devices.errors import DataError
from labctl.models.inception import load_inception


@pytest.fixture
def pictures() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.random((150, 28, 28)).astype(np.float32), (rng.random((130, 28, 28)) ** 2).astype(np.float32)


def test_fid_of_a_stand_in(inception_file, pictures: tuple[np.ndarray, np.ndarray]) -> None:
    inception = load_inception(inception_file())
    a, b = (inception.features(p)[:, :16] for p in pictures)
    # The three colours repeat the grey one: 48 features are 16 in three copies, so distances are threefold.
    root = sqrtm(np.cov(a.T) @ np.cov(b.T)).real
    gap = a.mean(axis=0) - b.mean(axis=0)
    wanted = 3 * (gap @ gap + np.trace(np.cov(a.T) + np.cov(b.T) - 2 * root))
    assert inception.fid(*pictures) == pytest.approx(wanted, rel=1e-4)


def test_what_is_no_inception_is_refused(
    tmp_path: Path, inception_file, pictures: tuple[np.ndarray, np.ndarray]
) -> None:
    with pytest.raises(DataError, match="is not there; true FID needs the TorchScript file"):
        load_inception(tmp_path / "absent.pt")
    (tmp_path / "text.pt").write_text("weights")
    with pytest.raises(DataError, match="not a TorchScript file"):
        load_inception(tmp_path / "text.pt")
    small = load_inception(inception_file(width=10))
    with pytest.raises(DataError, match=r"gives \(64, 10\); allowed: \(64, 2048\)"):
        small.features(pictures[0])
