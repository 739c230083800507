"""A whole chain on the machine's sequencer beside the same chain stepped by the host: states, time, host share."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass

import common  # noqa: F401 - sets one thread before torch loads
import numpy as np
from sheet import Sheet, verdict

from labctl import load_protocol, open_rig, run
from labctl.runlog import RunReader

SAMPLES, STEPS = 1024, 8
PARTS = ("upload", "wait", "window", "read")
RECIPES = ("sample_moons", "sample_swiss_roll", "sample_fashion_latent")


@dataclass(frozen=True)
class Stepping:
    """One recipe run one way: states [K][B, n], us a sample by part, host seconds between settles."""

    states: list[np.ndarray]
    samples: np.ndarray
    parts_us: dict[str, float]
    host_ms: float

    @property
    def device_us(self) -> float:
        """Modelled device time a sample, cable included."""
        return sum(self.parts_us.values())

    @property
    def host_share(self) -> float:
        """Host time between settles, of that and the modelled device time."""
        host_us = self.host_ms * 1e3 / len(self.samples)
        return host_us / (host_us + self.device_us)


def stepped(recipe: str, stepping: str) -> Stepping:
    """Run a recipe on the noisy twin, ending with its last settle."""
    settings = {"samples": SAMPLES, "steps": STEPS, "audit": 0, "stepping": stepping, "ending": "last-settle"}
    with tempfile.TemporaryDirectory() as folder:
        with open_rig("optical-twin") as rig:
            file = run(load_protocol(recipe, settings), rig, out=folder).file
            frame_us = rig.world.profile.panel_settle_us
        with RunReader(file) as done:
            panel = done.panel()
            ledger = panel.ledger
            parts = {name: float(np.nansum(ledger.modelled_us[name])) for name in PARTS}
            parts["upload"] -= frame_us  # the same for both, and shown once for any number of samples
            return Stepping(
                [panel.state(k) for k in range(panel.n_steps)],
                panel.samples,
                {name: value / SAMPLES for name, value in parts.items()},
                1e3 * float(np.nansum(ledger.host_s["sampling"])),
            )


def table(say: Callable[[str], None], rows: Callable[..., None], verdict: Callable[[bool], str]) -> None:
    """The bar: states within 1e-5, device time a sample <= N x 15 us."""
    say(f"## Chains without the host, implicit midpoint N = {STEPS}, {SAMPLES:,} samples, optical-twin")
    say("")
    say("us a sample; host: the sampler's own time between settles, of that and the modelled device time.")
    say("")
    out = []
    for recipe in RECIPES:
        host, chain = stepped(recipe, "host"), stepped(recipe, "chain")
        apart = max(float(np.abs(a - b).max()) for a, b in zip(host.states, chain.states, strict=True))
        for how, result in (("host", host), ("chain", chain)):
            parts = [f"{value:.2f}" for value in result.parts_us.values()]
            bar = verdict(apart <= 1e-5 and result.device_us <= STEPS * 15) if how == "chain" else "-"
            out.append(
                [recipe, how, *parts, f"{result.device_us:.1f}", f"{result.host_share:.1%}",
                 f"{apart:.0e}" if how == "chain" else "-", bar]
            )  # fmt: skip
    rows(
        ["recipe", "stepped by", "upload", "wait", "window", "read", f"device (<= {STEPS * 15})", "host",
         "states apart (<= 1e-5)", "bar"],
        out,
    )  # fmt: skip


if __name__ == "__main__":
    sheet = Sheet()
    table(sheet.say, sheet.table, verdict)
