"""Settling gates of both timing profiles, noise off: settle p95 within the wait, transient within 0.5%."""

from __future__ import annotations

import sys

import numpy as np
from common import SEEDS, SIGMA_MAX, cell, networks, open_named, sampler_of

from labctl.engines import OpticalLoopEngine
from labctl.sampling import LoopMachine, compile_program, start_noise

SAMPLES = 512


def gates(name: str, profile: str, seed_index: int, steps: int, schedule: str = "flow") -> dict[str, float]:
    """Worst step's p95 / p99 / max settle time (us), unsettled share, p95 transient (% of full scale)."""
    key = {"row": "settling", "set": name, "profile": profile, "seed": seed_index, "steps": steps, "v": 1}
    if schedule != "flow":
        key["schedule"] = schedule

    def work() -> dict[str, float]:
        """The 4-bit chain on the noise-free twin, settle times of every sample audited."""
        net = networks(name)[1][seed_index]
        how = sampler_of("implicit-midpoint", schedule, steps)
        seen = []
        with open_named("optical-twin", profile=profile, noise_scale=0.0) as rig:
            if not isinstance(rig.engine, OpticalLoopEngine):
                raise TypeError("settling needs a loop")
            program = compile_program(net, how, rig.engine.n_channels)
            rig.engine.load(program)
            ids = np.arange(SAMPLES)
            machine = LoopMachine(
                rig.engine, net, program, labels=None, sample_id=ids, audit=SAMPLES, seen=seen.append
            )
            x = start_noise(ids, 2, seed=seed_index, sigma_max=SIGMA_MAX)
            how.run(machine, x, sample_id=ids, seed=seed_index)
            spec = rig.loop_spec
        out: dict[str, float] = {"wait_us": spec.wait_us, "tau_us": spec.tau_us, "trip_us": spec.trip_us,
                                 "step_us": spec.wait_us + spec.window_us}  # fmt: skip
        implicit = [s.result for s in seen if s.segment.kind == "implicit"]
        times = [np.nan_to_num(r.settle_time_us, nan=np.inf) for r in implicit]
        out["p95_us"] = max(float(np.quantile(t, 0.95)) for t in times)
        out["p99_us"] = max(float(np.quantile(t, 0.99)) for t in times)
        finite = [t[np.isfinite(t)] for t in times]
        out["max_us"] = max(float(t.max()) for t in finite)
        out["unsettled"] = max(float(np.mean(~np.isfinite(t))) for t in times)
        full = spec.adc.range_units
        out["transient_percent"] = max(float(np.quantile(r.transient, 0.95)) for r in implicit) / full * 100
        return out

    return cell(key, work)


def main(names: list[str]) -> None:
    """Fill the cells of these sets."""
    for name in names:
        for profile in ("adm", "nature2025"):
            for seed_index in range(len(SEEDS)):
                for steps in (4, 8):
                    gates(name, profile, seed_index, steps)
        print(f"{name}: settling done", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:] or ["moons"])
