"""What the host adds to a step, the device's own (simulated) settle left out; and what logging takes."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import common  # noqa: F401 - sets one thread before torch loads
import numpy as np
from labctl_sim_devices import ElectronicsTwin

from labctl import load_protocol, open_rig, run
from labctl.procedures.background import BackgroundLog


@dataclass(frozen=True)
class Overhead:
    """overhead_ms a step at batch 1,024 (median over steps), logging as a share of the run."""

    overhead_ms: float
    logging_share: float


@contextmanager
def timed(owner: type, name: str, spent: list[float]) -> Iterator[None]:
    """Collect the wall time of every call of a method."""
    original = getattr(owner, name)

    def measured(*args: Any, **kwargs: Any) -> Any:
        began = time.perf_counter()
        try:
            return original(*args, **kwargs)
        finally:
            spent.append(time.perf_counter() - began)

    setattr(owner, name, measured)
    try:
        yield
    finally:
        setattr(owner, name, original)


def measure(steps: int = 32) -> Overhead:
    """Run moons at batch 1,024 on the noisy twin, no audit; the first steps warm up and are left out.

    A span runs from one hand-over to the log to the next. Logging is what the run waits for it (the writing
    itself goes on beside the next settle).
    """
    protocol = load_protocol("sample_moons", {"samples": 1024, "steps": steps, "audit": 0})
    device, logging, handed = [], [], []
    original = BackgroundLog.step

    def stamped(self: BackgroundLog, *args: Any) -> None:
        original(self, *args)
        handed.append(time.perf_counter())

    BackgroundLog.step = stamped  # type: ignore[method-assign]
    try:
        with (
            tempfile.TemporaryDirectory() as folder,
            open_rig("optical-twin") as rig,
            timed(ElectronicsTwin, "settle", device),
            timed(BackgroundLog, "step", logging),
        ):
            run(protocol, rig, out=folder)
    finally:
        BackgroundLog.step = original  # type: ignore[method-assign]
    spans = np.diff(handed)[2:-1]
    settles, logs = np.array(device[-len(handed) :])[3:-1], np.array(logging)[3:-1]
    return Overhead(
        overhead_ms=float(np.median(spans - settles - logs)) * 1e3,
        logging_share=float(logs.sum() / spans.sum()),
    )


if __name__ == "__main__":
    print(measure())
