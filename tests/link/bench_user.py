"""A lamp with a watchdog over it, driven and then left alone: what `Rig.open` does, without what it loads."""

from __future__ import annotations

import sys
import time

from labctl_drivers.link.watchdog import Ward, Watchdog
from lamp_driver import LampDriver

address, then = sys.argv[1:]
watchdog = Watchdog([Ward("lamp", "lamp_driver:LampDriver", address)])
watchdog.start()
lamp = LampDriver("lamp", address)
lamp.open()
lamp.drive([[100, 100, 100, 100]])
print(watchdog._process.pid, flush=True)
if then == "close":
    lamp.close()
    watchdog.stop()
if then == "sleep":
    time.sleep(60)
if then == "talk":
    while True:
        lamp.temperature_c()
