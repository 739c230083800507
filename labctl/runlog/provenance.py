"""Which software made the run: package versions and the commit, found without importing the packages."""

from __future__ import annotations

import platform
import subprocess
from importlib import metadata
from pathlib import Path

import h5py

_PACKAGES = ("torch", "numpy", "h5py", "scipy", "numba")


def labctl_version() -> str:
    """Version of the installed distribution."""
    try:
        return metadata.version("analog-labctl")
    except metadata.PackageNotFoundError:
        return "not installed"


def software_versions() -> dict[str, str]:
    """Versions of labctl, Python, the packages that touch numbers, the HDF5 library and the platform."""
    found = {"labctl": labctl_version(), "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    found["hdf5"] = str(h5py.version.hdf5_version)
    found["platform"] = platform.platform()
    return found


def source_commit() -> str | None:
    """Commit of the checkout labctl runs from, with "+changes" when files differ; None outside a checkout."""
    here = Path(__file__).resolve().parents[2]
    if not (here / ".git").exists():
        return None
    commit = _git(here, "rev-parse", "HEAD")
    if commit is None:
        return None
    return f"{commit}+changes" if _git(here, "status", "--porcelain", "--untracked-files=no") else commit


def _git(where: Path, *arguments: str) -> str | None:
    try:
        answer = subprocess.run(
            ["git", "-C", str(where), *arguments], capture_output=True, text=True, timeout=5, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()
