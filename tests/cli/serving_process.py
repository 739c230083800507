"""A process that runs one command after another: JSON arguments in, "ended CODE" on both outputs."""

from __future__ import annotations

import json
import signal
import sys

from labctl.cli import app

if __name__ == "__main__":
    # Between commands a late Ctrl-C means nothing; and a parent in the background must not make it ignored.
    signal.signal(signal.SIGINT, lambda *_: None)
    for line in sys.stdin:
        code: object = 0
        try:
            app(json.loads(line), prog_name="labctl")
        except SystemExit as end:
            code = end.code
        for stream in (sys.stdout, sys.stderr):
            print(f"ended {code}", file=stream, flush=True)
