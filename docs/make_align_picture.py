"""The picture of the alignment page, from the page in a real browser: python docs/make_align_picture.py."""

from __future__ import annotations

import argparse
import runpy
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
SECONDS = 5  # of sharpness in the picture
KEYS = ("+", "+", "ArrowRight")  # so that saturation and a jogged grid are seen
SIZE = (1440, 780)


def main() -> None:
    """Write align.png."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rig", default="optical-unit")
    options.add_argument("--out", type=Path, default=HERE / "img", help="folder, docs/img by default")
    chosen = options.parse_args()
    browser_of = runpy.run_path(str(HERE.parent / "tests" / "dashboard" / "browser.py"))["Browser"]
    command = "from labctl.cli import main; main()"
    serving = subprocess.Popen(
        [sys.executable, "-c", command, "align", chosen.rig, "--no-browser"],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        address = serving.stdout.readline().strip()
        browser = browser_of(folder, SIZE)
        try:
            browser.open(address)
            browser.until("document.body.dataset.frame > 1")
            for key in KEYS:
                browser.press(key)
            time.sleep(SECONDS)
            picture = browser.screenshot()
            browser.press("q")
            serving.wait(20)
        finally:
            browser.close()
            serving.kill()
    chosen.out.mkdir(parents=True, exist_ok=True)
    (chosen.out / "align.png").write_bytes(picture)
    print(chosen.out / "align.png")


if __name__ == "__main__":
    main()
