"""A calibration: procedures run where they are due, each record kept as soon as it is measured."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic

from labctl.devices import CalibrationRecord, ConfigError, DeviceFault
from labctl_calibration.comparing import Comparison, compare
from labctl_calibration.planning import Bench, Wish, passed
from labctl_calibration.procedure import Measured, Procedure, Tell
from labctl_calibration.staleness import Standing
from labctl_calibration.store import RawPolicy, Stored
from labctl_calibration.taking import silent, take


@dataclass(frozen=True, eq=False)
class Outcome:
    """What became of one procedure. before: how it stood. stored: the record in use now, measured or not.

    measured: what it measured now, None where it was left alone or could not be measured. failed: why not, in
    words. change: against the record before. wall_s: how long it took.
    """

    procedure: Procedure
    before: Standing
    stored: Stored | None
    measured: Measured | None = None
    failed: str = ""
    change: Comparison | None = None
    wall_s: float = 0.0

    @property
    def accepted(self) -> bool:
        """Whether there is a record and all its quantities are in their ranges."""
        return not self.failed and self.stored is not None and self.stored.about.accepted


def calibrate(
    bench: Bench,
    wish: Wish | None = None,
    *,
    tell: Tell = silent,
    keep_raw: RawPolicy = "last",
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Iterator[Outcome]:
    """Run what is due, one outcome a procedure in their order; whoever stops in between keeps what there is.

    A procedure that rests on a record that was not accepted, or could not be had, is not run; a reason in the
    wish lets the first pass. Raises what `Bench.plan` does, DataError where another process calibrates this
    rig into the same store, and what an essential procedure raises.
    """
    asked = wish or Wish()
    plan = bench.plan(clock(), asked)
    total, done = len(plan.due) + len(plan.perhaps), 0
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", bench.circumstances.rig or "bench")
    if not total:
        for step in plan.in_use:
            yield Outcome(step.procedure, step.standing, step.standing.stored)
        return
    with bench.store.turn(0.0, what=f"calibrating-{name}"):
        in_use: dict[str, Stored] = {}
        reasons: dict[str, str] = {}
        for procedure in bench.procedures:
            standing = bench.standing(procedure, clock())
            if not bench.due(procedure, standing, asked):
                outcome = Outcome(procedure, standing, standing.stored)
                if not standing.in_order:
                    reasons |= {n: why for n, why in asked.overrides.items() if n == procedure.name}
            else:
                tell(procedure.title, done, max(total, done + 1))
                done += 1
                outcome = _run(bench, procedure, standing, in_use, reasons, keep_raw)
            if outcome.stored is not None and _usable(outcome, asked, reasons):
                in_use[procedure.kind] = outcome.stored
            yield outcome
        tell("done", max(total, done), max(total, done))


def _usable(outcome: Outcome, wish: Wish, reasons: dict[str, str]) -> bool:
    """Whether others may rest on it; a person's reason that made it so is noted."""
    if outcome.failed:
        return False
    if outcome.measured is None:
        standing = outcome.before
        return standing.in_order or passed(outcome.procedure, standing, wish)
    name = outcome.procedure.name
    if not outcome.accepted and name in wish.overrides:
        reasons[name] = wish.overrides[name]
        return True
    return outcome.accepted


def _run(
    bench: Bench,
    procedure: Procedure,
    standing: Standing,
    in_use: dict[str, Stored],
    reasons: dict[str, str],
    keep_raw: RawPolicy,
) -> Outcome:
    lacking = [bench.by_kind[kind].name for kind in procedure.needs if kind not in in_use]
    if lacking:
        return Outcome(
            procedure, standing, standing.stored,
            failed=f"not measured: rests on {', '.join(lacking)}, which cannot be used",
        )  # fmt: skip
    upstream: dict[str, CalibrationRecord] = {kind: in_use[kind].record for kind in procedure.needs}
    began = monotonic()
    try:
        taken = take(procedure, bench.devices, upstream, silent, bench.circumstances, reasons)
    except (DeviceFault, ConfigError) as error:
        if procedure.essential:
            raise
        return Outcome(procedure, standing, standing.stored, failed=str(error), wall_s=monotonic() - began)
    ids = [in_use[kind].id for kind in procedure.needs]
    stored = bench.store.get(taken.keep(bench.store, ids, keep_raw))
    change = None if standing.stored is None else compare(standing.stored, stored)
    return Outcome(procedure, standing, stored, taken.measured, "", change, monotonic() - began)
