from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

HERE = Path(__file__).parent


def _loaded(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def panels() -> ModuleType:
    """Benches for the panel's bring-up (`panel_benches.py`)."""
    return _loaded("panel_benches")


@pytest.fixture(scope="session")
def oscillators() -> ModuleType:
    """Small oscillator boards (`oscillator_benches.py`)."""
    return _loaded("oscillator_benches")
