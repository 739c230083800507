"""Every driver that puts bytes on a wire has a dialogue whose source is named; found by reading the tests."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from labctl.rig.table import DRIVERS

ROOMS = ("scpi", "drivers")
TESTS = Path(__file__).resolve().parents[1]
ROOT = TESTS.parent
# what a source may begin with: a manual or standard, an open implementation, a page of our own protocols
SOURCES = (
    "TI DLPU018J,", "IEEE 488.2,", "PyMeasure 0.16.0,", "ALP4lib 1.1.0,", "Pycrafter6500 (csi-dcsc)",
    "docs/reference/",
)  # fmt: skip
# drivers whose bytes are another library's: its version and peers stand in docs/reference/drivers.md
BY_LIBRARY = {
    "gige.camera": "viva-genicam", "gentl.camera": "harvesters", "pylon.camera": "pypylon",
    "micromanager.camera": "pymmcore-plus", "slmsuite.slm": "slmsuite", "slmsuite.camera": "slmsuite",
    "display.slm": "SDL",
}  # fmt: skip


def marked(function):
    """(drivers, source) of each dialogue mark of a test."""
    for mark in function.decorator_list:
        if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.dialogue":
            source = {keyword.arg: keyword.value for keyword in mark.keywords}
            assert set(source) == {"source"}, f"{function.name}: a dialogue has a source and drivers"
            yield [ast.literal_eval(name) for name in mark.args], ast.literal_eval(source["source"])


def compares_bytes(function):
    """Whether a test asserts bytes that are written out in it."""
    for step in ast.walk(function):
        if isinstance(step, ast.Assert):
            for part in ast.walk(step):
                if isinstance(part, ast.Constant) and isinstance(part.value, bytes) and len(part.value) > 3:
                    return True
                if isinstance(part, ast.Attribute) and part.attr == "fromhex":
                    return True
    return False


def checks(module):
    """Functions of a module that are tests: by their names, or made into two by `everyday_and_slow`."""
    functions = {step.name: step for step in module.body if isinstance(step, ast.FunctionDef)}
    made = [
        step.value.args[0].id
        for step in module.body
        if isinstance(step, ast.Assign)
        and isinstance(step.value, ast.Call)
        and ast.unparse(step.value.func) == "everyday_and_slow"
    ]
    return [function for name, function in functions.items() if name.startswith("test_") or name in made]


@pytest.fixture(scope="module")
def tests():
    """Every test of the drivers' rooms, and of files with a dialogue, by file."""
    found = []
    for path in sorted(TESTS.rglob("test_*.py")):
        text = path.read_text("utf-8")
        if path.parent.name in ROOMS or "mark.dialogue(" in text:
            found += [(path.relative_to(ROOT), function) for function in checks(ast.parse(text))]
    return found


def test_a_property_that_is_made_into_two_tests_is_found():
    """And judged as any other: bytes in it need a source."""
    text = "def _same(x):\n    assert x == b'1234'\ntest_a, test_b = everyday_and_slow(_same, BYTES)\n"
    (found,) = checks(ast.parse(text))
    assert found.name == "_same"
    assert compares_bytes(found)
    assert not list(marked(found))


def test_every_driver_has_a_dialogue_or_a_library_that_speaks_for_it(tests):
    drivers = {name for name, entry in DRIVERS.items() if entry.world is None}
    spoken = {name for _, function in tests for names, _ in marked(function) for name in names}
    assert spoken | set(BY_LIBRARY) == drivers
    assert not spoken & set(BY_LIBRARY)
    page = (ROOT / "docs" / "reference" / "drivers.md").read_text("utf-8")
    assert [library for library in BY_LIBRARY.values() if library not in page] == []


def test_sources_are_manuals_open_implementations_or_pages_of_ours(tests):
    sources = {source for _, function in tests for _, source in marked(function)}
    assert sources
    for source in sources:
        assert source.startswith(SOURCES), source
        if source.startswith("docs/"):
            assert (ROOT / source).is_file(), source


def test_bytes_in_a_drivers_test_have_a_source(tests):
    lacking = [
        f"{path}: {function.name}"
        for path, function in tests
        if path.parent.name in ROOMS and compares_bytes(function) and not list(marked(function))
    ]
    assert lacking == []
