from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def _browser_module():
    spec = importlib.util.spec_from_file_location("browser", HERE / "browser.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """A page of a real browser."""
    module = _browser_module()
    if module.installed() is None:
        pytest.skip("no Chromium is installed: nothing here can draw the page (Debian's package: chromium)")
    opened = module.Browser(tmp_path_factory.mktemp("browser"))
    yield opened
    opened.close()


@pytest.fixture
def aligning(tmp_path):
    """Factory: start `labctl align` with these arguments; (process, address)."""
    started = []

    def start(*arguments):
        path = os.pathsep.join(p for p in sys.path if p)
        process = subprocess.Popen(
            [
                sys.executable, "-c", "from labctl.cli import main; main()", "align", *map(str, arguments),
                "--no-browser",
            ],
            cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        started.append(process)
        address = process.stdout.readline().strip()
        assert address.startswith("http://127.0.0.1:"), process.stderr.read()
        return process, address

    yield start
    for process in started:
        process.kill()
        process.communicate()
