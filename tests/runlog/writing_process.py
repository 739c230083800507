"""Run as its own process by the tests: writes steps, says on stdout when each is reported done, waits.

python writing_process.py FILE STEPS SAMPLES [seconds between steps]
"""

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import synthetic_run

from labctl.runlog import RunPlan, RunWriter


def main() -> None:
    path, steps, samples = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    pause = float(sys.argv[4]) if len(sys.argv) > 4 else 0.0
    panel = synthetic_run.plan(samples, steps)
    run = RunWriter.create(path, synthetic_run.header(samples), RunPlan([panel]))
    print("created", flush=True)
    for index in range(steps):
        done = run.step(synthetic_run.step(index, panel))
        print(f"done {done}", flush=True)
        time.sleep(pause)
    print("waiting", flush=True)
    sys.stdin.readline()
    run.finish(synthetic_run.step(steps - 1, panel).x)
    print("finished", flush=True)


if __name__ == "__main__":
    main()
