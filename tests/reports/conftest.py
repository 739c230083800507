from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def synthetic() -> ModuleType:
    """The synthetic runs of the run log's own tests."""
    path = Path(__file__).parents[1] / "runlog" / "synthetic_run.py"
    spec = importlib.util.spec_from_file_location("synthetic_run", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def moons_run(synthetic, tmp_path_factory) -> Path:
    return synthetic.write(tmp_path_factory.mktemp("moons") / "moons", n_samples=300, steps=5)
