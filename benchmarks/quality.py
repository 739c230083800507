"""Bars on sample quality, per two-dimensional set: converged net, ideal loop, noisy 4-bit loop, step ratios."""

from __future__ import annotations

import sys
from typing import Any

from common import (
    CONVERGED_STEPS,
    E_BAR,
    N_TUNING,
    SEEDS,
    bound,
    cell,
    host_energy,
    networks,
    open_named,
    rig_energy,
    sampler_of,
)

IDEAL_STEPS = {"moons": 4, "swiss_roll": 4}  # the bar; N <= 8 for the rest
LADDER = (1, 2, 3, 4, 5, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
SCHEDULES = ("flow", "edm:3", "edm:5", "edm", "edm:12", "edm:20", "log")  # rho 3 to infinity; edm is 7
SHORT_LIST = 3  # of them go from n = 4,000, whose noise is as large as what it must tell apart, to 20,000
HOPELESS = 4e-3  # E at n = 4,000: over ten times its noise, so not worth n = 20,000
OUT_OF_REACH = 1e-3  # E - E_ref of one seed at n = 20,000: twice the bar, so the other seeds are not run
BASELINES = ("ddim", "dpm-solver++2m")
BEST_EXPLICIT = ("explicit-midpoint",)  # the best explicit second order, beside the two sets with a bar


def converged(name: str) -> list[float]:
    """E of the same net's converged ODE (Heun, 128 steps), a value per seed."""
    nets, _ = networks(name)
    how = sampler_of("heun", "flow", CONVERGED_STEPS)
    return [
        cell(
            {"row": "converged", "set": name, "seed": s, "v": 1},
            lambda net=net, s=s: host_energy(net, name, s, how),
        )["e"]
        for s, net in zip(SEEDS, nets, strict=True)
    ]


def on_rig(
    name: str, rig_name: str, scheme: str, schedule: str, steps: int, bits: int | None
) -> list[dict[str, float]]:
    """Cells of one sampler on one rig, a value per seed; bits None is the float net."""
    nets, coded = networks(name)
    how = sampler_of(scheme, schedule, steps)
    out = []
    for s, net in zip(SEEDS, nets if bits is None else coded, strict=True):
        key = {"row": "rig", "rig": rig_name, "set": name, "seed": s, "scheme": scheme,
               "schedule": schedule, "steps": steps, "bits": bits, "v": 1}  # fmt: skip

        def work(net: Any = net, s: int = s) -> dict[str, float]:
            with open_named(rig_name, seed=s) as rig:
                return rig_energy(rig, net, name, s, how)

        out.append(cell(key, work))
    return out


def shortlist(name: str, scheme: str, steps: int) -> list[str]:
    """The best few schedules at this N: tuned on one seed, at n = 4,000; empty where all are hopeless."""
    net = networks(name)[0][SEEDS[0]]
    scores = {
        schedule: cell(
            {"row": "tune", "set": name, "scheme": scheme, "steps": steps, "schedule": schedule, "v": 1},
            lambda schedule=schedule: host_energy(
                net, name, SEEDS[0], sampler_of(scheme, schedule, steps), N_TUNING
            ),
        )["e"]
        for schedule in SCHEDULES
    }
    best = sorted(scores, key=lambda k: scores[k])[:SHORT_LIST]
    return best if scores[best[0]] <= HOPELESS else []


def tuned_schedule(name: str, scheme: str, steps: int) -> tuple[str, float]:
    """(schedule, E) of the short list with the lowest E at n = 20,000 on that seed; infinite for none."""
    finals = {k: on_host(name, scheme, k, steps, SEEDS[:1])[0] for k in shortlist(name, scheme, steps)}
    best = min(finals, key=lambda k: finals[k], default="-")
    return best, finals.get(best, float("inf"))


def on_host(name: str, scheme: str, schedule: str, steps: int, seeds: tuple[int, ...] = SEEDS) -> list[float]:
    """E of a sampler on the bare nets, a value per seed."""
    nets = networks(name)[0]
    return [
        cell(
            {"row": "host", "set": name, "seed": s, "scheme": scheme, "schedule": schedule,
             "steps": steps, "v": 1},
            lambda s=s: host_energy(nets[s], name, s, sampler_of(scheme, schedule, steps)),
        )["e"]
        for s in seeds
    ]  # fmt: skip


def first_to_meet(
    name: str, scheme: str, e_ref: list[float], start: int = 1
) -> tuple[int | None, str, float]:
    """(smallest N of the ladder that meets the E bar, its schedule, the bound there); None past the end."""
    last = float("nan")
    for steps in (n for n in LADDER if n >= start):
        schedule, tuned = tuned_schedule(name, scheme, steps)
        last = tuned - e_ref[0]
        if last > OUT_OF_REACH:
            continue
        values = on_host(name, scheme, schedule, steps)
        last = bound([a - b for a, b in zip(values, e_ref, strict=True)]).bound
        if last <= E_BAR:
            return steps, schedule, last
    return None, "-", last


def on_tuned_loop(name: str, e_ref: list[float]) -> tuple[int, str, float]:
    """(N, schedule, bound of E - E_ref) of the midpoint's chain with the host's N, settled on the ideal loop.

    The loop has its own best of the short list: what a schedule asks it to settle, the wait may cut short.
    """
    steps, _, _ = first_to_meet(name, "implicit-midpoint", e_ref)
    if steps is None:
        raise ValueError(f"{name}: implicit midpoint meets the bar at no N of the ladder")
    bounds = {}
    for schedule in shortlist(name, "implicit-midpoint", steps):
        cells = on_rig(name, "optical-ideal", "implicit-midpoint", schedule, steps, None)
        bounds[schedule] = bound([c["e"] - r for c, r in zip(cells, e_ref, strict=True)]).bound
    best = min(bounds, key=lambda k: bounds[k])
    return steps, best, bounds[best]


def compared(name: str) -> tuple[str, ...]:
    """Schemes whose step counts are found for a set."""
    best = BEST_EXPLICIT if name in IDEAL_STEPS else ()
    return ("implicit-midpoint", "implicit-euler", *BASELINES, *best)


def main(names: list[str]) -> None:
    """Fill the cells of these sets."""
    for name in names:
        e_ref = converged(name)
        limit = IDEAL_STEPS.get(name, 8)
        for steps in sorted({4, limit}):
            for scheme in ("implicit-midpoint", "implicit-euler"):
                on_rig(name, "optical-ideal", scheme, "flow", steps, None)
        on_rig(name, "optical-twin", "implicit-midpoint", "flow", limit, 4)
        for scheme in compared(name):
            first_to_meet(name, scheme, e_ref)
        if name in IDEAL_STEPS:
            on_tuned_loop(name, e_ref)
        print(f"{name}: done", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:] or ["moons"])
