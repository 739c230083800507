"""Garments: class agreement of the noisy 4-bit loop, the ideal loop and the net's own converged ODE."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from common import cell, open_named

from labctl.models.checkpoint import load_network
from labctl.models.garments import load_garments
from labctl.sampling import HostMachine, LoopMachine, Sampler, compile_program, scheme, sigmas, start_noise

SAMPLES, STEPS, SEEDS = 5000, 8, (1, 2, 3)


def agreement(where: str, seed: int) -> float:
    """Share of decoded pictures that the classifier gives the class asked for."""
    key = {"row": "garments", "where": where, "seed": seed, "v": 1}

    def work() -> dict[str, float]:
        shop = load_garments()
        net = load_network("fashion-4bit" if where == "optical-twin" else "fashion")
        ids = np.arange(SAMPLES)
        labels = ids * net.n_classes // SAMPLES
        x = start_noise(ids, net.sizes[0], seed=seed, sigma_max=10.0)
        if where == "ode":
            how = Sampler(scheme("heun"), sigmas("flow", 64, 10.0, 0.06))
            out = how.run(HostMachine(net, labels=labels), x, sample_id=ids, seed=seed)
        else:
            how = Sampler(scheme("implicit-midpoint"), sigmas("flow", STEPS, 10.0, 0.06))
            with open_named(where, seed=seed) as rig:
                program = compile_program(net, how, rig.engine.n_channels)
                rig.engine.load(program)
                machine = LoopMachine(rig.engine, net, program, labels=labels, sample_id=ids)
                out = how.run(machine, x, sample_id=ids, seed=seed)
        return {"agreement": float(shop.agreement(shop.decode(out), labels))}

    return cell(key, work)["agreement"]


def table(
    say: Callable[[str], None],
    draw: Callable[[list[str], list[list[str]]], None],
    verdict: Callable[[bool], str],
) -> None:
    """The garments rows of the page."""
    say(f"## Garments: class agreement, n = {SAMPLES:,}, {len(SEEDS)} seeds, implicit midpoint N = {STEPS}")
    say("")
    values: dict[str, Any] = {
        w: [agreement(w, s) for s in SEEDS] for w in ("ode", "optical-ideal", "optical-twin")
    }
    drop = float(np.mean(values["optical-ideal"]) - np.mean(values["optical-twin"]))
    rows = [[w, f"{np.mean(v):.3f}", f"{min(v):.3f} to {max(v):.3f}"] for w, v in values.items()]
    rows.append(["ideal - noisy 4-bit", f"{drop:+.3f}", f"bar <= 0.02: {verdict(drop <= 0.02)}"])
    draw(["where", "mean", "seeds"], rows)
