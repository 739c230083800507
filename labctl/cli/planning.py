"""`labctl validate`: everything a run would do, compiled and printed; devices are shown nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from labctl.cli.console import err, out
from labctl.cli.ledger import validate_ledger
from labctl.cli.live import progress
from labctl.cli.running import default_rig
from labctl.devices import Coercion
from labctl.procedures import (
    Chain,
    DiffuseRecipe,
    Diffusion,
    Expected,
    GenerateRecipe,
    Generation,
    LedgerRecipe,
    Protocol,
    SampleRecipe,
    Scan,
    TourRecipe,
    chains_of,
    diffusions_of,
    expected,
    found_again,
    generations_of,
    load_protocol,
    require_compensable,
    settings_of,
)
from labctl.procedures.forecasting import NOT_YET
from labctl.reports.words import duration
from labctl.rig import Rig, open_rig

Facts = list[tuple[str, RenderableType]]
WHOLE_PLANS = 8  # chains printed in full; a longer scan prints its first and a line for each of the others


def validate_protocol(
    name: str, rig_name: str | None, settings: list[str], *, records: Path, compensated: bool = True
) -> None:
    """Compile, then print one plan a chain. Raises what a run would raise before its first step."""
    protocol = load_protocol(name, settings_of(settings))
    if isinstance(protocol.recipe, LedgerRecipe):
        validate_ledger(protocol, rig_name)
        return
    rig_name = rig_name or default_rig(protocol.recipe)
    if isinstance(protocol.recipe, GenerateRecipe):
        with open_rig(rig_name, records=records, compensated=compensated) as rig:
            _print_generations(out(), protocol, generations_of(protocol, protocol.recipe, rig), rig)
        return
    if isinstance(protocol.recipe, DiffuseRecipe):
        with open_rig(rig_name) as rig:
            _print_diffusions(out(), protocol, diffusions_of(protocol, protocol.recipe, rig), rig)
        return
    with open_rig(rig_name, records=records, compensated=compensated) as rig:
        with progress(quiet=not err().is_terminal) as watcher:
            watcher.doing(f"compiling {protocol.name}")
            chains = chains_of(protocol, rig, watcher.training, dry=True)
            for chain in chains:
                require_compensable(chain, rig)
            adapted = [found_again(chain, rig) or chain for chain in chains]
            foreseen = expected(adapted, rig, watcher.computing)
        _print_plan(out(), protocol, chains, rig, foreseen)


def _print_plan(
    console: Console, protocol: Protocol, chains: list[Chain], rig: Rig, foreseen: Expected
) -> None:
    console.print(Text(protocol.recipe.title, "bold"))
    console.print(Text(f"{_kind(protocol, len(chains), 'chain')} on {rig.name}", "dim"))
    if rig.standing is not None:
        words = rig.standing.words(compensated=rig.compensated)
        console.print(Text(f"{rig.name} was {words}" if rig.standing.pair else words, "dim"), soft_wrap=True)
    _print_trust(console, rig)
    whole = chains if len(chains) <= WHOLE_PLANS else chains[:1]
    for chain in whole:
        console.print()
        if len(chains) > 1:
            console.print(Text(chain.title, "bold"))
        console.print(_facts(chain, rig))
    if len(whole) < len(chains):
        console.print()
        for chain in chains[1:]:
            console.print(Text(f"{chain.title}: {len(chain.program.segments)} settles", "dim"))
    console.print()
    settles = sum(len(chain.program.segments) for chain in chains)
    total = sum(chain.device_us(rig) for chain in chains)
    cost = f"{duration(total)} of modelled device time" if total else "computed on the host"
    if total:
        console.print(Text(f"quality {foreseen.words}"), soft_wrap=True)
    console.print(Text.assemble(("valid", "green"), f": {settles} settles, {cost}"))


def _print_trust(console: Console, rig: Rig) -> None:
    """What speaks against the records that the rig works by."""
    for words, what in (*((w, "a run will be refused: ") for w in rig.trust.wrong),
                        *((w, "warning: ") for w in rig.trust.stale)):  # fmt: skip
        console.print(Text(what + words, "yellow"), soft_wrap=True)


def _print_generations(console: Console, protocol: Protocol, generations: list[Generation], rig: Rig) -> None:
    tables = [_generation_facts(generation, rig) for generation in generations]
    _print_programs(console, protocol, generations, tables, rig, "program")


def _print_diffusions(console: Console, protocol: Protocol, diffusions: list[Diffusion], rig: Rig) -> None:
    tables = [_diffusion_facts(diffusion, rig) for diffusion in diffusions]
    _print_programs(console, protocol, diffusions, tables, rig, "chain of equilibria")


def _print_programs(
    console: Console,
    protocol: Protocol,
    parts: Sequence[Generation | Diffusion],
    tables: list[Facts],
    rig: Rig,
    what: str,
) -> None:
    console.print(Text(protocol.recipe.title, "bold"))
    console.print(Text(f"{_kind(protocol, len(parts), what)} on {rig.name}", "dim"))
    if rig.board_standing:
        console.print(Text(f"{rig.name} was {rig.board_standing}", "dim"), soft_wrap=True)
    _print_trust(console, rig)
    shown = len(parts) if len(parts) <= WHOLE_PLANS else 1
    for part, facts in zip(parts[:shown], tables, strict=False):
        console.print()
        if part.name:
            console.print(Text(part.title, "bold"))
        grid = Table.grid(padding=(0, 2))
        grid.add_column(style="dim", no_wrap=True)
        grid.add_column()
        for label, text in facts:
            grid.add_row(label, text)
        console.print(grid)
    if shown < len(parts):
        console.print()
        for part in parts[shown:]:
            console.print(Text(f"{part.title}: {part.program.segments} segments", "dim"))
    console.print()
    if rig.board_standing:
        console.print(Text(f"quality no forecast: {NOT_YET}"), soft_wrap=True)
    total = sum(part.expected_us(rig) for part in parts)
    made = sum(part.n_samples for part in parts)
    console.print(
        Text.assemble(("valid", "green"), f": {made:,} pictures, {duration(total)} of modelled device time")
    )


def _diffusion_facts(diffusion: Diffusion, rig: Rig) -> Facts:
    program, chain, spec = diffusion.program, diffusion.chain, rig.oscillators.spec
    us = diffusion.duration * spec.unit_us
    sets = "all levels share" if program.segments == 1 else f"{program.segments} segments, one a level"
    return [
        ("model", f"{diffusion.model.name}: {program.topology.summary}"),
        (
            "couplings",
            f"{program.topology.n_edges:,} directed at {program.bits} bits, {sets}, "
            f"{program.n_bytes / 1000:.1f} kB with the nodes' parameters"
            + ("" if diffusion.recipe.couplings else "; all at 0"),
        ),
        ("levels", " → ".join(f"{sigma:.3g}" for sigma in chain.sigmas)),
        ("anchors", f"{chain.strength.min():.2f} to {chain.strength.max():.2f} units, {diffusion.d} pixels"),
        ("read", f"{diffusion.d} oscillators at every level, {spec.read_bits} bits a turn"),
        ("samples", f"{diffusion.recipe.samples:,}"),
        ("settling", f"{diffusion.settles} equilibria, {duration(us)} a sample"),
        ("device time", f"{duration(diffusion.expected_us(rig))} in all, modelled"),
        ("coercions", _converters(diffusion.coercions(rig))),
        ("to --set", Text(_settings(diffusion.recipe), "dim")),
    ]


def _converters(coercions: Sequence[Coercion]) -> RenderableType:
    """What a board's converters apply differently."""
    if not coercions:
        return "none: the board's converters hold every parameter"
    return Text("\n".join(sorted({str(c) for c in coercions})), "yellow")


def _generation_facts(generation: Generation, rig: Rig) -> Facts:
    program, spec, recipe = generation.program, rig.oscillators.spec, generation.recipe
    topology = program.topology
    units = ", ".join(f"{d:g}" for d in program.duration)
    us = float(program.duration.sum()) * spec.unit_us
    return [
        ("model", f"{generation.note}; {topology.summary}"),
        (
            "couplings",
            f"{topology.n_edges:,} directed at {program.bits} bits in {program.segments} segments, "
            f"{program.n_bytes / 1000:.1f} kB with the nodes' parameters",
        ),
        ("read", f"{len(program.visible)} oscillators, {spec.read_bits} bits a turn"),
        ("samples", f"{recipe.samples:,}"),
        ("segments", f"{units} units of {spec.unit_us:.3g} µs: {duration(us)} a sample"),
        ("device time", f"{duration(generation.expected_us(rig))} in all, modelled"),
        ("coercions", _converters(generation.coercions(rig))),
        ("to --set", Text(_settings(recipe), "dim")),
    ]


def _kind(protocol: Protocol, parts: int, part: str) -> str:
    recipe = protocol.recipe
    if isinstance(recipe, Scan):
        over = f"{recipe.scan} = {', '.join(str(v) for v in recipe.values)}"
        series = (
            f", each for {recipe.series} = {', '.join(map(str, recipe.series_values))}"
            if recipe.series
            else ""
        )
        return f"scan of {parts} {part}s over {over}{series},"
    return f"tour of {parts} recipes" if isinstance(recipe, TourRecipe) else f"one {part}"


_ENDINGS = {"denoise": "one final denoise", "last-settle": "the last settle's denoised state at the end"}


def _facts(chain: Chain, rig: Rig) -> Table:
    recipe, placement = chain.recipe, chain.program.placement
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column()
    blocks = ["u", *(f"h{i}" for i in range(1, len(placement.sizes)))]
    rows = ", ".join(
        f"{name} rows {placement.block(i).start}-{placement.block(i).stop - 1}"
        for i, name in enumerate(blocks)
    )
    used, settles = sum(placement.sizes), len(chain.program.segments)
    facts: list[tuple[str, RenderableType]] = [
        ("network", _network(chain)),
        ("weights", _weights(chain)),
        ("placement", f"{used} of {placement.n_channels} rows: {rows}"),
        (
            "samples",
            f"{recipe.samples:,}"
            + (f" in {chain.subject.network.n_classes} classes" if chain.labels is not None else ""),
        ),
        ("steps", f"{recipe.steps} of {recipe.scheme}, {_ENDINGS[recipe.ends_with]}: {settles} settles"),
        ("stepped by", "the machine's sequencer" if recipe.stepping == "chain" else "the host"),
        ("σ levels", f"{recipe.schedule}: " + " → ".join(f"{s:.3g}" for s in chain.sampler.sigmas)),
        *([("noise credit", _credit(recipe))] if recipe.noise_credit else []),
        ("device time", _time(chain, rig)),
        ("coercions", _coercions(chain)),
        ("to --set", Text(_settings(recipe), "dim")),
    ]
    for label, text in facts:
        grid.add_row(label, text)
    return grid


def _credit(recipe: SampleRecipe) -> str:
    """What is credited, before anything is measured."""
    return (
        "before the first step, the noise that each settle leaves in x is measured and counted as that "
        "step's own fresh noise: σ levels rise by it, and where settles would end inside it, half of the "
        f"{recipe.steps} steps are evaluations"
    )


def _weights(chain: Chain) -> str:
    program = chain.program
    bits, machines = program.weights.bits, len(program.matrices)
    each = (
        f"{program.placement.n_weights:,} at {bits} bits"
        if bits
        else f"{program.placement.n_weights:,}, not coded"
    )
    if machines == 1:
        return each
    shown = f"{chain.recipe.sweeps} sweeps a step, {program.frames} frames"
    return f"{machines} machines in sequence of {each}, {shown}"


def _settings(recipe: SampleRecipe | GenerateRecipe | DiffuseRecipe) -> str:
    """Every key that --set takes, with its value here."""
    kept = recipe.model_dump(mode="json", exclude={"kind", "title", "about", "law", "engines", "rig"})
    return "  ".join(f"{key}={value}" for key, value in kept.items() if value != "")


def _network(chain: Chain) -> str:
    recipe = chain.recipe
    sizes = " → ".join(str(size) for size in chain.subject.network.sizes)
    if recipe.data:
        return f"{sizes}, trained on {recipe.data} first ({recipe.train_iterations:,} iterations)"
    name = chain.subject.card.get("name") or recipe.model
    return f"{name}: {sizes}"


def _time(chain: Chain, rig: Rig) -> str:
    step = chain.step_us(rig)
    if not step:
        return "none: the host computes"
    sample, total = step * len(chain.program.segments), duration(chain.device_us(rig))
    frames = f", {duration(rig.frame_us)} a frame" if chain.program.frames > 1 else ""
    return f"{step:.1f} µs a settle, {sample:.0f} µs a sample{frames}, {total} in all, modelled"


def _coercions(chain: Chain) -> RenderableType:
    found = chain.coercions
    if not found:
        return "none: every gain and leak lies within its knob's range"
    return Text("\n".join(sorted({str(coercion) for coercion in found})), "yellow")
