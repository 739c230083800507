"""What we ship and what must not come with it."""

from __future__ import annotations

import ast
import re
from functools import cache
from importlib import metadata, resources
from pathlib import Path

import pytest
from labctl_sim_devices import profile_document, profile_names

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted(
    path
    for folder in ("labctl", "drivers", "calibration", "sim_devices", "protocols", "benchmarks", "tests")
    for path in (ROOT / folder).rglob("*.py")
)
PACKAGES = ("labctl", "labctl_drivers", "labctl_calibration", "labctl_sim_devices", "labctl_recipes")


@cache
def imports_of(path):
    """First part of the name of every module a file imports, wherever in the file."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module)
    return {name.split(".")[0] for name in names}


def test_neither_torchvision_nor_cuda_is_installed():
    names = {(d.metadata["Name"] or "").lower().replace("_", "-") for d in metadata.distributions()}
    assert "torch" in names, "the distributions were not found; the test would say nothing"
    assert "torchvision" not in names
    assert not sorted(name for name in names if name.startswith(("nvidia-", "triton")))


def test_no_source_imports_torchvision():
    assert len(SOURCES) > 60
    assert not [path for path in SOURCES if "torchvision" in imports_of(path)]


@pytest.mark.parametrize("name", ["drivers", "calibration", "sim_devices", "protocols"])
def test_no_source_imports_a_bare_folder_name(name):
    """That would load a second copy of the package, whose classes are not equal to the first."""
    assert not [path for path in SOURCES if name in imports_of(path)]


@pytest.mark.parametrize("name", PACKAGES)
def test_every_package_is_found_where_the_layout_says(name):
    found = Path(str(resources.files(name)))
    assert found.name == name
    assert (found / "__init__.py").is_file()


@pytest.mark.parametrize("name", profile_names())
class TestProfileSources:
    """Every number of a profile says whether it is published [P], assumed [A] or derived [D]."""

    def test_every_value_has_a_tagged_source(self, name):
        document = profile_document(name)
        assert {"name", "dated", "values", "sources"} <= set(document)
        assert set(document) <= {"name", "dated", "values", "sources", "base", "unit", "unit_sources"}
        assert set(document["sources"]) == set(document["values"])
        for key, source in document["sources"].items():
            assert re.match(r"\[[PAD]\] \S", source), f"{name}: {key}: {source!r}"

    def test_names_of_quantities_carry_units(self, name):
        units = ("_us", "_hz", "_mhz", "_px", "_ma", "_ua", "_units", "_percent", "_dbc_hz", "_pa_rthz",
                 "_ma_per_unit", "_volts_per_unit", "_c", "_bits", "_mbyte_per_s", "_e", "_e_per_s", "_db",
                 "_codes", "_mw_per_unit", "_cm2")  # fmt: skip
        bare = {
            "n_channels", "panel_levels", "emitter_codes", "window_samples", "max_queue", "chain_depth",
            "volts_per_unit", "transmittance_on", "transmittance_off", "state_gain_range",
            "hidden_gain_range", "camera_overhead_lines", "camera_max_frames",
        }  # fmt: skip
        for key, value in profile_document(name)["values"].items():
            if isinstance(value, str | bool):
                continue
            assert key in bare or key.endswith(units), f"{name}: {key} has no unit in its name"


def test_no_source_names_a_machines_own_paths():
    pattern = re.compile(r"(?<![\w.])/(?:home|work|root|Users)/\w")
    guilty = [
        f"{p.relative_to(ROOT)}"
        for p in SOURCES
        if p != Path(__file__) and pattern.search(p.read_text("utf-8"))
    ]
    assert not guilty
