"""slmsuite's own window for panels that are a screen, and ours: the same frames, pixel for pixel."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from importlib.util import find_spec

import numpy as np
import pytest
from labctl_drivers.display.slm import DisplaySLM
from labctl_sim_devices.wires.virtual_screen import VirtualScreen

SHAPE = (120, 160)
ABSENT = [name for name in ("slmsuite", "pyglet", "pygame", "mss") if find_spec(name) is None]
ABSENT += [tool for tool in ("Xvfb",) if shutil.which(tool) is None]
pytestmark = pytest.mark.skipif(bool(ABSENT), reason=f"{', '.join(ABSENT)} is not installed")
# a process of its own: its window's library keeps the display that it has found first
SHOW = """
import sys
import numpy as np
from labctl_drivers.slmsuite.slm import SlmsuiteSLM
with SlmsuiteSLM(
    "slm", "slmsuite.hardware.slms.screenmirrored:ScreenMirrored",
    arguments={"display_number": 0, "bitdepth": 8}, settle_us=50_000,
) as slm:
    print("shape", slm.spec.shape_px, slm.spec.n_levels, flush=True)
    for line in sys.stdin:
        slm.show(np.load(line.strip()))
        print("shown", flush=True)
"""


@pytest.fixture
def screen():
    there = VirtualScreen(SHAPE, device="screen")
    there.start()
    yield there
    there.stop()


def test_slmsuites_window_and_ours_show_the_same_frames(screen, tmp_path):
    draw = np.random.Generator(np.random.Philox(key=1))
    frames = [draw.integers(0, 256, SHAPE, np.uint16) for _ in range(5)]
    seen = []
    env = {**os.environ, "DISPLAY": screen.display, "MPLBACKEND": "Agg"}
    with subprocess.Popen(
        [sys.executable, "-c", SHOW], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env
    ) as child:
        ends = threading.Timer(60, child.kill)
        ends.start()
        try:
            while (line := child.stdout.readline()) and not line.startswith("shape"):
                pass
            assert line.strip() == f"shape {SHAPE} 256"
            for number, frame in enumerate(frames):
                path = tmp_path / f"{number}.npy"
                np.save(path, frame)
                child.stdin.write(f"{path}\n")
                child.stdin.flush()
                while child.stdout.readline().strip() != "shown":
                    assert child.poll() is None
                seen.append(screen.pixels().copy())
        finally:
            child.stdin.close()
            child.wait(30)
            ends.cancel()
    settings = {"height_px": SHAPE[0], "width_px": SHAPE[1], "settle_us": 0, "vsync": "off", "serial": "1"}
    with DisplaySLM("panel", f"screen:0@{screen.display}", **settings, open_timeout_s=30.0) as ours:
        for frame, theirs in zip(frames, seen, strict=True):
            ours.show(frame)
            np.testing.assert_array_equal(screen.pixels(), theirs)
            np.testing.assert_array_equal(theirs[:, :, 1], frame)
