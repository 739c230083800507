"""A script as somebody would write it, without a `with`: opens the lamp, drives it, and ends in some way."""

from __future__ import annotations

import gc
import sys
import time

from lamp_driver import LampDriver

address, end = sys.argv[1:]
lamp = LampDriver("lamp", address)
lamp.open()
lamp.drive([[100, 100, 100, 100]])
print("driven", flush=True)
if end == "raise":
    raise RuntimeError("a mistake of the script")
if end == "lose":
    del lamp
    gc.collect()
if end == "sleep":
    time.sleep(60)
if end == "busy":  # inside exchanges all the time
    while True:
        lamp.temperature_c()
