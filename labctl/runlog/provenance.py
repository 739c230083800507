"""Which software made the run: package versions and the commit, found without importing the packages."""

from __future__ import annotations

import platform
from importlib import metadata

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
