"""What a run's file says to a diagnosis: probes that left their charts, settles that still moved."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from labctl_calibration.diagnosis.from_run import RunSigns

from labctl.devices import ConfigError
from labctl.devices.outcome import Outcome
from labctl.runlog import RunReader

MOVING = (Outcome.MAX_TIME, Outcome.LIMIT_CYCLE)


def signs_of(path: Path, rig: str) -> RunSigns:
    """Of a run on this rig. RunLogError for what is no run file, ConfigError for another rig's."""
    with RunReader(path) as run:
        of = run.header.rig.name
        if of != rig:
            raise ConfigError(f"--run is {path}, of rig {of!r}; allowed: a run of rig {rig!r}")
        counts = [panel.outcome_counts for panel in run.panels.values()]
        drifted = tuple(dict.fromkeys(event.series for event in run.drift_events))
    each = np.concatenate([one.reshape(-1, one.shape[-1]) for one in counts]).sum(axis=0)
    settled = int(each.sum())
    late = None if not settled else float(sum(int(each[one]) for one in MOVING)) / settled
    return RunSigns(drifted, late)
