"""No implementation without a case: found by walking the packages, not by anybody remembering."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import sys

import pytest
from typing_extensions import is_protocol

from labctl.devices import Device
from labctl.engines import FixedPointEngine

WALKED = ("labctl_sim_devices", "labctl_drivers", "labctl.engines")
PACKAGES = {name.partition(".")[0] for name in WALKED}
ENGINE_METHODS = {name for name in vars(FixedPointEngine) if not name.startswith("_")}


def classes_in(package_name):
    """Every class defined in a package or below it."""
    package = importlib.import_module(package_name)
    names = [package_name]
    names += [found.name for found in pkgutil.walk_packages(package.__path__, package_name + ".")]
    for name in names:
        for value in vars(importlib.import_module(name)).values():
            if inspect.isclass(value) and value.__module__ == name:
                yield value


def implementations(package_name):
    """Concrete devices (any interface, a new one too) and everything that offers an engine's methods."""
    for cls in classes_in(package_name):
        is_device = issubclass(cls, Device) and not inspect.isabstract(cls)
        is_engine = not is_protocol(cls) and set(dir(cls)) >= ENGINE_METHODS
        if is_device or is_engine:
            yield cls


def test_every_implementation_has_a_case(all_cases):
    found = {cls for name in WALKED for cls in implementations(name)}
    assert len(found) >= 5, "the walk found too little to be believed"
    missing = found - {case.implementation for case in all_cases}
    assert not missing, f"no conformance case for {sorted(f'{c.__module__}.{c.__name__}' for c in missing)}"


def test_every_implementation_has_an_everyday_case(all_cases):
    everyday = {case.implementation for case in all_cases if not case.slow}
    late = {case.implementation for case in all_cases} - everyday
    assert not {cls for cls in late if cls.__module__.partition(".")[0] in PACKAGES}, late


@pytest.mark.filterwarnings("ignore")  # of other makers' packages, as they load
def test_cases_are_what_they_say(all_cases):
    assert len({case.id for case in all_cases}) == len(all_cases)
    for case in all_cases:
        if case.absent:
            continue
        subject = case.make()
        assert type(subject.device) is case.implementation
        if case.interface is not FixedPointEngine:
            assert isinstance(subject.device, case.interface)


def test_the_walk_would_see_a_newcomer(tmp_path, monkeypatch):
    package = tmp_path / "newcomers"
    (package / "deep").mkdir(parents=True)
    (package / "__init__.py").write_text("from labctl_sim_devices import PanelTwin\n")
    (package / "deep" / "__init__.py").write_text(
        "from labctl_sim_devices import PanelTwin\n"
        "from labctl.devices import WeightModulator\n"
        "class Half(WeightModulator):\n    pass\n"
        "class Whole(PanelTwin):\n    pass\n"
        "class Engine:\n"
        "    name = n_channels = load = measured_weights = light = solve = None\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    try:
        assert {cls.__name__ for cls in implementations("newcomers")} == {"Whole", "Engine"}
    finally:
        for name in ("newcomers", "newcomers.deep"):
            sys.modules.pop(name, None)
