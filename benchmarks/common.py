"""What all benchmarks share: five seeds of networks per set, cells that resume, E with its bounds."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from labctl_calibration.store import RecordStore

from labctl.engines import DigitalEngine, OpticalLoopEngine
from labctl.models.datasets import TOY_SETS
from labctl.models.metrics import EnergyReference, SeedBound, t_bound
from labctl.models.network import RowTableNetwork
from labctl.models.recipe import load_recipe
from labctl.models.refit import quantise
from labctl.models.training import train
from labctl.rig import Rig, load_rig
from labctl.sampling import (
    HostMachine,
    LoopMachine,
    Sampler,
    compile_program,
    scheme,
    sigmas,
    start_noise,
)

torch.set_num_threads(1)

RESULTS = Path(__file__).parent / "results"
CACHE = RESULTS / "cache"
SETS = ("moons", "swiss_roll", "gaussians", "gaussians_unequal", "checkerboard")
SEEDS = (0, 1, 2, 3, 4)
N_SAMPLES = 20_000  # conventions, section 7
N_TUNING = 4_000
SIGMA_MAX, SIGMA_MIN = 10.0, 0.06
E_BAR = 0.5e-3
CONVERGED_STEPS = 128


def networks(name: str) -> tuple[list[RowTableNetwork], list[RowTableNetwork]]:
    """(float, 4-bit re-fitted) networks of one set, one per seed, by the shipped training recipe; cached."""
    recipe = load_recipe(name)
    tag = hashlib.sha256(recipe.model_dump_json(include={"data", "train", "quantise"}).encode()).hexdigest()[
        :12
    ]
    path = CACHE / f"nets-{name}-{tag}.pt"
    if not path.exists():
        source = TOY_SETS[name]
        base = train(source, recipe.train, seeds=SEEDS).network
        how = recipe.quantise
        coded = quantise(
            base,
            source,
            4,
            scale=how.scale,
            target=how.target,
            settings=how.settings(recipe.train),
            seeds=SEEDS,
        ).network
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save([base, coded], path.with_suffix(".tmp"))
        path.with_suffix(".tmp").replace(path)
    base, coded = torch.load(path, weights_only=False)  # our own file, made above
    return [base.replica(i) for i in range(len(SEEDS))], [coded.replica(i) for i in range(len(SEEDS))]


def records_of(unit: str | int) -> RecordStore:
    """The store of one drawn device, shared by all benchmarks; of its own, so that units can be run beside
    each other.
    """
    return RecordStore(CACHE / "records of units" / str(unit))


def cell(key: dict[str, Any], work: Callable[[], dict[str, float]]) -> dict[str, float]:
    """A result by its key: computed once, kept as JSON, so that a run that was cut off goes on."""
    text = json.dumps(key, sort_keys=True)
    path = CACHE / "cells" / f"{hashlib.sha256(text.encode()).hexdigest()[:20]}.json"
    if path.exists():
        stored: dict[str, float] = json.loads(path.read_text())["value"]
        return stored
    value = work()
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}")
    part.write_text(json.dumps({"key": key, "value": value}))
    part.replace(path)
    return value


_references: dict[tuple[str, int, int], EnergyReference] = {}


def reference(name: str, seed: int, n: int) -> EnergyReference:
    """Fresh data of one seed, shared by every sampler that is compared on it."""
    key = (name, seed, n)
    if key not in _references:
        rng = np.random.Generator(np.random.Philox(key=10_000 + seed))
        _references.clear()
        _references[key] = EnergyReference.of(TOY_SETS[name].draw(n, rng)[0])
    return _references[key]


def sampler_of(name: str, schedule: str, steps: int, sigma_min: float = SIGMA_MIN) -> Sampler:
    """A sampler on the common sigma range; schedule may be "edm:5" for another rho."""
    kind, _, rho = schedule.partition(":")
    levels = sigmas(kind, steps, SIGMA_MAX, sigma_min, rho=float(rho or 7))  # type: ignore[arg-type]
    return Sampler(scheme(name), levels)


def host_energy(
    net: RowTableNetwork, name: str, seed: int, how: Sampler, n: int = N_SAMPLES
) -> dict[str, float]:
    """E of a sampler run on the bare network in float64."""
    machine = HostMachine(net)
    ids = np.arange(n)
    out = how.run(machine, start_noise(ids, 2, seed=seed, sigma_max=SIGMA_MAX), sample_id=ids, seed=seed)
    return {"e": reference(name, seed, n).distance(out), "nfe": float(machine.nfe)}


def rig_energy(
    rig: Rig, net: RowTableNetwork, name: str, seed: int, how: Sampler, n: int = N_SAMPLES
) -> dict[str, float]:
    """E of a sampler run on a rig's engine, with modelled device time a sample."""
    return engine_energy(rig.engine, net, name, seed, how, n)


def engine_energy(
    engine: OpticalLoopEngine | DigitalEngine,
    net: RowTableNetwork,
    name: str,
    seed: int,
    how: Sampler,
    n: int = N_SAMPLES,
) -> dict[str, float]:
    """E of a sampler run on an engine, with modelled device time a sample."""
    program = compile_program(net, how, engine.n_channels)
    engine.load(program)
    ids = np.arange(n)
    device_us, converged = [], []

    def seen(settle: Any) -> None:
        device_us.append(settle.result.ledger.device_us / n)
        converged.append(float(np.mean(settle.result.outcome == 0)))

    machine = LoopMachine(engine, net, program, labels=None, sample_id=ids, seen=seen)
    out = how.run(machine, start_noise(ids, 2, seed=seed, sigma_max=SIGMA_MAX), sample_id=ids, seed=seed)
    return {
        "e": reference(name, seed, n).distance(out),
        "device_us": sum(device_us),
        "converged": min(converged),
    }


def open_named(name: str, **world: Any) -> Rig:
    """A shipped rig, with single values of its world replaced."""
    config = load_rig(name)
    if world and config.world is not None:
        config = config.model_copy(update={"world": config.world.model_copy(update=world)})
    return Rig(config).open()


def bound(values: list[float]) -> SeedBound:
    """Mean and one-sided 95% t-bound over the five seeds."""
    return t_bound(values)


def milli(value: float) -> str:
    """E in units of 1e-3."""
    return f"{value * 1e3:+.2f}"
