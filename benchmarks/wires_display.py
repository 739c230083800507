"""What showing a 48 x 48 weight set on a display costs: our driver against a bare pygame flip.

Run: python benchmarks/wires_display.py [--frames 100]. Needs Xvfb, pygame and mss. Both draw the same frames,
in a process each that shows nothing else, on the same virtual screen: no retrace, so that what is measured is
work and not waiting. The bare call is `surfarray.blit_array` and `flip` of frames that lie ready; the
driver's is `show(levels, wait=False)`, checks, checksum and shared memory included. SDL draws a plain
window's flip through OpenGL unless told otherwise: both bare flips are printed, and the bar is the stricter.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time

import numpy as np
from labctl_calibration import nominal_panel_record
from labctl_drivers.display.slm import DisplaySLM
from labctl_sim_devices import OpticalBench, PanelTwin, load_profile
from labctl_sim_devices.wires.screen import ScreenFace

from labctl.programs.encoding import encode_frame

BAR = 1.5
BARE = """
import json, statistics, sys, time
import numpy as np, pygame
frames = np.load(sys.argv[1])
pygame.display.init()
screen = pygame.display.set_mode(frames.shape[:0:-1], pygame.NOFRAME, depth=32)
times = []
for frame in frames:
    rgb = np.repeat(frame.T[:, :, None], 3, axis=2)
    begun = time.perf_counter()
    pygame.surfarray.blit_array(screen, rgb)
    pygame.display.flip()
    times.append(time.perf_counter() - begun)
print(json.dumps(times))
"""


def weight_frames(device, count):
    """Levels of random 4-bit weight sets."""
    record = nominal_panel_record(device.spec, 48, "benchmark")
    rng = np.random.default_rng(0)
    sets = (rng.integers(-7, 8, (48, 48)) / 7 for _ in range(count))
    return [encode_frame(weights, device.spec, record).levels for weights in sets]


def bare_ms(path, display, straight):
    """Median time of the bare flip, milliseconds."""
    extra = {"SDL_FRAMEBUFFER_ACCELERATION": "0"} if straight else {}
    environment = {**os.environ, "DISPLAY": display, "PYGAME_HIDE_SUPPORT_PROMPT": "1", **extra}
    done = subprocess.run(
        [sys.executable, "-c", BARE, path], env=environment, capture_output=True, text=True, check=True
    )
    return 1e3 * statistics.median(json.loads(done.stdout)[1:])


def driver_ms(driver, frames):
    """Median time of `show`, milliseconds."""
    times = []
    for frame in frames:
        begun = time.perf_counter()
        driver.show(frame, wait=False)
        times.append(time.perf_counter() - begun)
    return 1e3 * statistics.median(times[1:])


def main() -> None:
    """Print what a weight set takes to a screen, beside a bare flip."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=100)
    count = parser.parse_args().frames
    bench = OpticalBench(load_profile("adm"))
    face = ScreenFace(PanelTwin("panel", bench), threading.RLock())
    wire = face.start()
    try:
        with DisplaySLM("slm", wire.address, **wire.settings) as driver:
            frames = weight_frames(driver, count)
            ours = driver_ms(driver, frames)
            grabbed, _ = face.grab()
            exact = bool(np.array_equal(grabbed, frames[-1]))
        with tempfile.NamedTemporaryFile(suffix=".npy") as file:
            np.save(file, np.stack(frames).astype(np.uint8))
            file.flush()
            usual = bare_ms(file.name, face.screen.display, straight=False)
            straight = bare_ms(file.name, face.screen.display, straight=True)
    finally:
        face.stop()
    shape = " x ".join(map(str, bench.profile.panel_shape_px))
    print(f"48 x 48 weight set to a display of {shape}, median of {count - 1} (ms)")
    print(f"bare pygame flip, as SDL chooses    {usual:8.2f}")
    print(f"bare pygame flip, without OpenGL    {straight:8.2f}")
    print(f"DisplaySLM.show                     {ours:8.2f}   last frame grabbed bit for bit: {exact}")
    ratio = ours / min(usual, straight)
    print(
        f"ratio to the quicker one            {ratio:8.2f}   bar {BAR}: {'met' if ratio <= BAR else 'missed'}"
    )


if __name__ == "__main__":
    main()
