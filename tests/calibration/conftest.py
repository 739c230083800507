from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def panels() -> ModuleType:
    """Benches for the panel's bring-up (`panel_benches.py`)."""
    spec = importlib.util.spec_from_file_location("panel_benches", HERE / "panel_benches.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
