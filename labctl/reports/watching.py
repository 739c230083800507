"""A watch on drift during a run, in words: for the terminal and for the page."""

from __future__ import annotations

from labctl.reports.words import duration, share
from labctl.runlog import DriftRecord, RunReader


def watch_in_words(run: RunReader) -> str:
    """How often it looked, what that took, what it saw; empty where nothing watched."""
    looks = run.watch_looks
    if not looks:
        return ""
    seen = [look for look in looks if not look.learning]
    told = [f"{len(seen)} looks between batches, {duration(sum(look.look_us for look in seen))}"]
    duty = run.metrics.get("watch_duty")
    if isinstance(duty, float):
        told[0] += f" ({share(duty)} of device time)"
    learning_us = sum(look.look_us for look in looks if look.learning)
    if learning_us:
        told.append(f"{duration(learning_us)} to learn what is usual")
    events = len(run.drift_events)
    told.append(f"{events} events" if events != 1 else "1 event")
    return ", ".join(told)


def drift_in_words(event: DriftRecord) -> str:
    """When, what, and what was done."""
    where = f"{event.panel}, step {event.step}" if event.panel else f"step {event.step}"
    return f"{where}, {event.device_s:.3g} s into the run: {event.words}; {event.policy}: {event.done}"
