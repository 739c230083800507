"""Chains adapted to the bench that their rig was brought up to be; what that took is kept and found again."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import numpy as np
from labctl_calibration.bench import LOAD_PROBES, Bench
from labctl_calibration.compensation import ITERATIONS, METHOD, channel_order, compensate

from labctl.devices import ConfigError
from labctl.engines import OpticalLoopEngine
from labctl.models.checkpoint import describe, load_network, save_network
from labctl.models.network import RowTableNetwork
from labctl.models.training import TrainSettings
from labctl.procedures.models_of import Tell
from labctl.procedures.plan import Chain
from labctl.rig import Rig
from labctl.sampling import compile_program, placed

PROBES = 6400 - LOAD_PROBES  # the first load's own count too


def compensated(chain: Chain, rig: Rig, tell: Tell) -> Chain:
    """The chain with its network adapted to the rig's bench; as it is where the bench was not brought up.

    Raises ConfigError for what compensation does not know: chains on the sequencer, cameras, float networks,
    machines in sequence, noise credit (which compares the machine with the network's own weights).
    """
    bench, engine, recipe = rig.bench, rig.engine, chain.recipe
    if bench is None or not isinstance(engine, OpticalLoopEngine):
        return chain
    refusals = (("stepping", "chain", "host"), ("readout", "camera", "adc"), ("noise_credit", True, False))
    for key, refused, allowed in refusals:
        if getattr(recipe, key) == refused:
            raise ConfigError(
                f"{key} is {refused!r}, and rig {rig.name} is compensated; allowed: {allowed!r}, or no "
                "compensation"
            )
    if len(chain.program.matrices) > 1:
        raise ConfigError(
            f"{recipe.model or recipe.data} is {len(chain.program.matrices)} machines in sequence, and rig "
            f"{rig.name} is compensated; allowed: networks that fit the machine, or no compensation"
        )
    original = chain.subject.network
    order = channel_order(placed(original, engine.n_channels), bench.channels)
    network = _found_or_made(original, chain, rig, engine, bench, tell)
    engine.use_order(order)
    program = compile_program(network, chain.sampler, engine.n_channels, tolerance=recipe.tolerance)
    made_of = {"records": list(bench.record_ids), "probes": PROBES, "iterations": ITERATIONS}
    card: dict[str, Any] = {**chain.subject.card, "compensation": made_of}
    return replace(
        chain,
        subject=replace(chain.subject, network=network, card=card),
        program=program,
        tables=engine.tables_of(program),
        order=order,
    )


def _found_or_made(
    original: RowTableNetwork, chain: Chain, rig: Rig, engine: OpticalLoopEngine, bench: Bench, tell: Tell
) -> RowTableNetwork:
    """The adapted network from the store, under program and records, or made now and kept there."""
    store = rig.records
    settings = chain.subject.card.get("settings")
    trained = TrainSettings(**(settings if isinstance(settings, dict) else {}))
    key = _key(original, bench, trained)
    path = None if store is None else store.folder / f"compensated-{key[:16]}.safetensors"
    if path is not None and path.is_file():
        return load_network(path)
    network = compensate(
        engine,
        bench,
        original,
        chain.subject.source,
        probes=PROBES,
        settings=trained,
        tell=tell,
    )
    if path is not None:
        card = describe(network, path.stem, notes={"compensation": key, "records": list(bench.record_ids)})
        save_network(network, path, card, overwrite=True)
    return network


def _key(network: RowTableNetwork, bench: Bench, trained: TrainSettings) -> str:
    """What a compensation is kept under: the network as it came, the records, how it is done."""
    digest = hashlib.sha256(f"{bench.record_ids} {PROBES} {METHOD} {trained.model_dump_json()}".encode())
    for name, value in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(value.numpy()).tobytes())
    for weights in network.weights():
        digest.update(np.ascontiguousarray(weights).tobytes())
    return digest.hexdigest()
