"""Chains adapted to the bench that their rig was brought up to be; what that took is kept and found again."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from labctl_calibration.bench import LOAD_PROBES, Bench
from labctl_calibration.compensation import METHOD, adapt, channel_order
from labctl_calibration.kept_maps import KeptMaps
from labctl_calibration.store import RecordStore

from labctl.devices import ConfigError
from labctl.engines import OpticalLoopEngine
from labctl.models.checkpoint import describe, load_network, save_network
from labctl.models.network import RowTableNetwork
from labctl.procedures.models_of import Tell
from labctl.procedures.plan import Chain
from labctl.rig import Rig
from labctl.sampling import compile_program, placed

PROBES = 6400 - LOAD_PROBES  # the first load's own count too


def compensated(chains: Sequence[Chain], rig: Rig, tell: Tell) -> list[Chain]:
    """The chains with their networks adapted to the rig's bench; as they are where it was not brought up.

    Where a network had to be adapted now, the rig is opened anew: measuring passed time on the bench, and a
    run should find it as any later one does. Raises what `require_compensable` does, and ConfigError for
    float networks.
    """
    if rig.bench is None or rig.records is None:
        return list(chains)
    for chain in chains:
        require_compensable(chain, rig)
    kept = [_kept_or_adapted(chain, rig, rig.bench, rig.records, tell) for chain in chains]
    if any(now for _, now in kept):
        rig.close()
        rig.open()
    return [_on_bench(chain, found, rig) for chain, (found, _) in zip(chains, kept, strict=True)]


def found_again(chain: Chain, rig: Rig) -> Chain | None:
    """The chain with its network as it was adapted to the rig's bench before; None where it never was. No
    device is asked for anything.
    """
    if rig.bench is None or rig.records is None or chain.subject.network.codes is None:
        return None
    found = _kept(_path(chain, rig.bench, rig.records))
    return None if found is None else _on_bench(chain, found, rig)


def require_compensable(chain: Chain, rig: Rig) -> None:
    """ConfigError for what compensation does not know, on a rig with a bench: chains on the sequencer,
    cameras, machines in sequence, noise credit (which compares the machine with the network's own weights).
    """
    recipe = chain.recipe
    if rig.bench is None:
        return
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


@dataclass(frozen=True, eq=False)
class _Kept:
    """An adapted network, what became known of its frame, and the name under which both are kept."""

    network: RowTableNetwork
    maps: KeptMaps
    name: str


def _on_bench(chain: Chain, kept: _Kept, rig: Rig) -> Chain:
    """The chain with its adapted network, on the channels that go with it."""
    bench, engine = _bench(rig)
    network = kept.network
    order = channel_order(placed(chain.subject.network, engine.n_channels), bench.channels)
    engine.use_order(order)
    program = compile_program(network, chain.sampler, engine.n_channels, tolerance=chain.recipe.tolerance)
    made_of = {"records": list(bench.record_ids), "probes": PROBES, "kept": kept.name}
    card: dict[str, Any] = {**chain.subject.card, "compensation": made_of}
    return replace(
        chain,
        subject=replace(chain.subject, network=network, card=card),
        program=program,
        tables=engine.tables_of(program),
        order=order,
        maps=kept.maps,
    )


def _bench(rig: Rig) -> tuple[Bench, OpticalLoopEngine]:
    bench, engine = rig.bench, rig.engine
    if bench is None or not isinstance(engine, OpticalLoopEngine):
        raise ConfigError(f"rig {rig.name}: its records are not there any more; bring it up again")
    return bench, engine


def _kept_or_adapted(
    chain: Chain, rig: Rig, bench: Bench, store: RecordStore, tell: Tell
) -> tuple[_Kept, bool]:
    """The adapted network from the store, or made now and kept there (True)."""
    path = _path(chain, bench, store)
    if found := _kept(path):
        return found, False
    original, teacher = chain.subject.network, _teacher(chain)
    made = adapt(
        _bench(rig)[1], bench, original, chain.subject.source, probes=PROBES, tell=tell, teacher=teacher
    )
    maps = KeptMaps(made.probed, made.known, made.flicker)
    maps.write(_maps_beside(path))
    notes = {"compensation": _key(original, teacher, bench), "records": list(bench.record_ids)}
    save_network(made.network, path, describe(made.network, path.stem, notes=notes), overwrite=True)
    return _Kept(made.network, maps, path.stem), True


def _kept(path: Path) -> _Kept | None:
    """What was kept there; None where either of its files is missing."""
    maps = _maps_beside(path)
    if not (path.is_file() and maps.is_file()):
        return None
    return _Kept(load_network(path), KeptMaps.read(maps), path.stem)


def _maps_beside(path: Path) -> Path:
    """Of another stem: NAME.json beside NAME.npz is a record, and the network's card is NAME.json."""
    return path.with_name(f"frame-of-{path.stem}.npz")


def _path(chain: Chain, bench: Bench, store: RecordStore) -> Path:
    """Of the adapted network; its maps lie beside it."""
    key = _key(chain.subject.network, _teacher(chain), bench)
    return store.folder / f"compensated-{key[:16]}.safetensors"


def _teacher(chain: Chain) -> RowTableNetwork:
    return chain.subject.uncoded or chain.subject.network


def _key(network: RowTableNetwork, teacher: RowTableNetwork, bench: Bench) -> str:
    """What a compensation is kept under: the networks as they came, the records, how it is done."""
    digest = hashlib.sha256(f"{bench.record_ids} {PROBES} {METHOD}".encode())
    for one in (network, teacher):
        for name, value in sorted(one.state_dict().items()):
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(value.numpy()).tobytes())
        for weights in one.weights():
            digest.update(np.ascontiguousarray(weights).tobytes())
    return digest.hexdigest()
