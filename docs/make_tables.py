"""The tables of docs/ that repeat what the code says: made from the code, between two comments.

`python docs/make_tables.py` rewrites them; `--check` only says which pages are behind (a test does that).
A table of keys takes everything but the last column from the code; the last column is written by hand.
"""

from __future__ import annotations

import argparse
import re
import sys
import types
import typing
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, Union

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

DOCS = Path(__file__).parent
_BLOCK = re.compile(r"<!-- table: (?P<what>[^\n]+?) -->\n(?P<body>.*?)<!-- end of table -->", re.DOTALL)

Rows = Iterable[Sequence[str]]


def markdown(header: Sequence[str], rows: Rows) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


# -- keys of recipes and rig files -----------------------------------------------------------------------


def keys(what: str, before: str) -> str:
    """Keys of a pydantic model, "module:Class" or "module:Class beside Base"; meanings are those of `before`."""
    target, _, base = what.partition(" beside ")
    module_name, _, name = target.partition(":")
    module = import_module(module_name)
    model: type[BaseModel] = getattr(module, name)
    above = set(getattr(module, base).model_fields) - {"kind"} if base else set()
    meanings = meanings_in(before)
    rows = [
        (f"`{key}`", allowed(field), default(field), meanings.get(key, ""))
        for key, field in model.model_fields.items()
        if key not in above
    ]
    return markdown(("key", "allowed", "default", "meaning"), rows)


def meanings_in(table: str) -> dict[str, str]:
    """Last column by key of a table of keys."""
    found = {}
    for line in table.splitlines():
        cells = [
            cell.strip().replace("\0", "\\|") for cell in line.replace("\\|", "\0").strip("|").split("|")
        ]
        if len(cells) == 4 and cells[0].startswith("`") and cells[3]:
            found[cells[0].strip("`")] = cells[3].replace("\\|", "|")
    return found


def default(field: FieldInfo) -> str:
    """A key's default as TOML writes it."""
    if field.default_factory is not None:
        return "empty"
    if field.default is PydanticUndefined:
        return "required"
    if isinstance(field.default, BaseModel):
        return "all defaults"
    return toml(field.default)


def toml(value: Any) -> str:
    """A value as TOML writes it, in code quotes."""
    if value is None or value == "" or value == ():
        return "none"
    return f"`{_toml(value)}`"


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml(v) for v in value) + "]"
    if isinstance(value, float):
        return f"{value:g}"
    return f"{value:_}" if value >= 10_000 else str(value)


def allowed(field: FieldInfo) -> str:
    """Type and range in words."""
    if field.annotation is Union[int, Literal["float"]] or field.annotation == int | Literal["float"]:
        return '1 to 9, `"float"`'
    return _range(_type(field.annotation), field.metadata)


def _type(annotation: Any) -> str:
    origin, inside = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _range(_type(inside[0]), inside[1:])
    if origin is Literal:
        return ", ".join(f"`{_toml(word)}`" for word in inside)
    if origin in (Union, types.UnionType):
        kinds = [
            part for part in inside if part is not type(None) and (part is not int or float not in inside)
        ]
        return " or ".join(_type(part) for part in kinds)
    if origin is tuple:
        return f"list: {_type(inside[0])}"
    if origin is dict:
        return "table"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "section"
    return {int: "whole number", float: "number", str: "text", bool: "`true`, `false`"}[annotation]


def _range(kind: str, metadata: Iterable[Any]) -> str:
    low = high = ""
    for bound in metadata:
        match bound:
            case Ge():
                low = f"≥ {_toml(bound.ge)}"
            case Gt():
                low = f"> {_toml(bound.gt)}"
            case Le():
                high = f"≤ {_toml(bound.le)}"
            case Lt():
                high = f"< {_toml(bound.lt)}"
    return " ".join(filter(None, (kind, ", ".join(filter(None, (low, high))))))


# -- what is shipped -------------------------------------------------------------------------------------


def recipes() -> str:
    """Shipped recipes."""
    from labctl.procedures import load_protocol, protocol_names

    found = [(name, load_protocol(name).recipe) for name in protocol_names()]
    return markdown(("recipe", "kind", ""), [(f"`{n}`", r.kind, r.about) for n, r in found])


def training() -> str:
    """Shipped training recipes."""
    from labctl.models.recipe import recipe_content, shipped_recipes

    found = [(name, recipe_content(path)) for name, path in shipped_recipes().items()]
    return markdown(("recipe", ""), [(f"`{n}`", r["description"]) for n, r in found])


def rigs() -> str:
    """Shipped rigs."""
    from labctl.rig import load_rig, rig_names

    found = [(name, load_rig(name)) for name in rig_names()]
    rows = [
        (f"`{name}`", f"`{rig.engine}`", f"`{rig.world.profile}`" if rig.world else "none", rig.about)
        for name, rig in found
    ]
    return markdown(("rig", "engine", "profile", ""), rows)


def ledger_constants() -> str:
    """Every constant of the energy ledger, with where it comes from."""
    from labctl.energy import shipped_constants
    from labctl.reports.words import quantity

    rows = [
        (
            f"`{name}`",
            c.meaning,
            quantity(c.value, c.unit),
            " to ".join(quantity(end, c.unit) for end in c.interval) + f", {c.distribution}",
            c.provenance,
            c.source,
        )
        for name, c in shipped_constants().table.items()
    ]
    return markdown(("constant", "is", "value", "interval", "provenance", "source"), rows)


def ledger_claims() -> str:
    """What others claim."""
    from labctl.energy import shipped_claims

    return markdown(("claim", "said by"), [(claim.says, claim.source) for claim in shipped_claims().values()])


def drivers() -> str:
    """Drivers a rig file may name."""
    from labctl.rig.table import DRIVERS

    rows = [(f"`{name}`", entry.role, entry.world or "a real wire") for name, entry in DRIVERS.items()]
    return markdown(("driver", "role", "world"), rows)


SCPI_TABLES = ("common", "system", "own", "loop", "drive", "panel")


def scpi(which: str) -> str:
    """Commands of our SCPI instruments: common, system, own, loop, drive, panel."""
    from labctl.devices.wire import scpi_commands

    rows = [
        (f"`{command.header}`", command.takes, command.gives, command.does)
        for command in getattr(scpi_commands, which.upper())
    ]
    return markdown(("command", "takes", "gives", "does"), rows)


def scpi_errors() -> str:
    """Numbers of the error queue, and what our drivers make of them."""
    from labctl_drivers.scpi.sealed import BAD_BLOCK, BUSY, MEANINGS
    from labctl_sim_devices.wires.scpi.arguments import ERRORS

    again = {BUSY: "asked again until its time is over", BAD_BLOCK: "sent again"}
    rows = [
        (
            str(number),
            text,
            again.get(number) or f"`{getattr(MEANINGS.get(number), '__name__', 'DeviceFault')}`",
        )
        for number, text in ERRORS.items()
        if number
    ]
    return markdown(("number", "text", "the driver"), rows)


def scpi_instruments() -> str:
    """Commands of other makers' bench instruments, and whose."""
    from labctl_drivers.scpi.instruments import GENERATOR, LASER, METER, SCOPE

    named = {
        "scpi.laser": LASER, "scpi.power-meter": METER, "scpi.oscilloscope": SCOPE,
        "scpi.signal-generator": GENERATOR,
    }  # fmt: skip
    rows = [
        (f"`{driver}`", field.replace("_", " "), f"`{command}`", " ".join((table.__doc__ or "").split()))
        for driver, table in named.items()
        for field, command in vars(table).items()
    ]
    return markdown(("driver", "for", "command", "source"), rows)


def wire_faults() -> str:
    """Misbehaviours of wires, and what a driver does about them."""
    from labctl_sim_devices.wires.faults import MISBEHAVIOURS

    def told(outcomes: Sequence[Any]) -> str:
        words = (outcome if outcome == "answered" else f"`{outcome.__name__}`" for outcome in outcomes)
        return " or ".join(words)

    rows = [
        (f"`{name}`", row.about, told(row.once), told(row.lasting)) for name, row in MISBEHAVIOURS.items()
    ]
    return markdown(("fault", "what happens", "once", "for ever"), rows)


def wire_statements() -> str:
    """What is otherwise on each wire, and its safe state."""
    from labctl_sim_devices.wires.faults import MISBEHAVIOURS
    from labctl_sim_devices.wires.stated import HOWS, WIRES, words_of

    words = {"once": "once", "lasting": "for ever"}
    rows = []
    for name, wire in WIRES.items():
        otherwise: dict[str, list[str]] = {}
        for fault in MISBEHAVIOURS:
            for how in HOWS:
                if (fault, how) in wire.otherwise:
                    told = " or ".join(
                        word if word == "answered" else f"`{word}`"
                        for word in words_of(wire.stated(fault, how))
                    )
                    why = f" ({wire.because[fault]})" if fault in wire.because else ""
                    otherwise.setdefault(told + why, []).append(f"`{fault}` {words[how]}")
        reasons: dict[str, list[str]] = {}
        for fault, why in wire.not_here.items():
            reasons.setdefault(why, []).append(f"`{fault}`")
        everything = len(wire.not_here) == len(MISBEHAVIOURS)
        lines = [f"{', '.join(faults)}: {told}" for told, faults in otherwise.items()]
        missing = [
            f"{'none of them' if everything else ', '.join(faults)}: {why}" for why, faults in reasons.items()
        ]
        cells = ("; ".join(lines) or "nothing", "; ".join(missing) or "none")
        swapped = "cannot happen" if "other-box" in wire.not_here else wire.gone or "out of reach"
        believed = wire.believed or f"not applicable: {wire.unbelieved}"
        rows.append((name, wire.about, *cells, believed, wire.safe or "the control channel's", swapped))
    heads = ("wire", "is", "otherwise than above", "cannot happen", "a dangerous number", "safe state",
             "after `other-box` the first box")  # fmt: skip
    return markdown(heads, rows)


def physical_faults() -> str:
    """Physical faults of an optical bench: what they are, how large a twin draws them, what a person does."""
    from labctl_calibration.diagnosis.faults import FAULTS, NAMES
    from labctl_sim_devices.physical_faults import PHYSICAL_FAULTS

    rows = []
    for name in NAMES:
        told, drawn = FAULTS[name], PHYSICAL_FAULTS[name]
        span = f"{drawn.low:g}" if drawn.low == drawn.high else f"{drawn.low:g} to {drawn.high:g}"
        after = ", ".join(f"`{one}`" for one in told.procedures) or "nothing"
        size = f"{span} {drawn.unit}".strip()
        rows.append((f"`{name}`", told.words, size, drawn.source, told.remedy, after))
    heads = ("name", "what is wrong", "a twin draws", "source", "what a person does", "then calibrate")
    return markdown(heads, rows)


def schemes() -> str:
    """Schemes of the sampler."""
    from labctl.sampling import SCHEMES

    rows = [(f"`{s.name}`", str(s.order), str(s.settles), str(s.nfe)) for s in SCHEMES.values()]
    return markdown(("scheme", "order", "settles a step", "evaluations a step"), rows)


def profiles() -> str:
    """Every number of the shipped profiles, with its source."""
    from labctl_sim_devices.profile import PROFILES

    return _profiles(PROFILES.document, ("adm", "nature2025", "ideal"))


def oscillator_profiles() -> str:
    """Every number of the shipped oscillator profiles, with its source."""
    from labctl_sim_devices.oscillator_profile import PROFILES

    return _profiles(PROFILES.document, ("board50", "bench100khz", "pcb1mhz", "chip1ghz", "ideal"))


def _profiles(document: Callable[[str], dict[str, Any]], names: Sequence[str]) -> str:
    documents = {name: document(name) for name in names}
    first = documents[names[0]]
    rows = []
    for key in first["values"]:
        values = [_toml(documents[name]["values"][key]) for name in names]
        sources = {name: documents[name]["sources"][key] for name in names}
        told = sources[names[0]]
        for name in names[1:]:
            if sources[name] != told:
                told += f"; {name}: {sources[name]}"
        rows.append((f"`{key}`", *values, told))
    return markdown(("value", *names, "source"), rows)


def terms() -> str:
    """Faults of the drawn benches: what each is, its numbers, their source."""
    from labctl_sim_devices.distributions import UnitDistribution
    from labctl_sim_devices.profile import PROFILES

    return _terms(PROFILES.document, UnitDistribution, ("unit", "dmd", "unit-ageing"))


def oscillator_terms() -> str:
    """Faults of the drawn boards: what each is, its numbers, their source."""
    from labctl_sim_devices.oscillator_distributions import OscillatorDistribution
    from labctl_sim_devices.oscillator_profile import PROFILES

    return _terms(PROFILES.document, OscillatorDistribution, ("board50", "unit50"))


def _terms(document: Callable[[str], dict[str, Any]], model: type[BaseModel], names: Sequence[str]) -> str:
    rows, known = [], dict[str, Any]()
    for name in names:
        found = document(name)
        for term, numbers in found["unit"].items():
            if known.get(term) == numbers:
                continue  # its base's
            known[term] = numbers
            table = _models_in(model.model_fields[term].annotation)
            told = " ".join((table.__doc__ or "").split())
            values = ", ".join(f"`{key}` {_toml(value)}" for key, value in numbers.items())
            rows.append((f"`{term}`", name, told, values, found["unit_sources"][term]))
    return markdown(("term", "profile", "", "numbers", "source"), rows)


def _models_in(annotation: Any) -> Any:
    return next(part for part in typing.get_args(annotation) if part is not type(None))


def denoisers() -> str:
    """Shipped denoisers, with what their cards say of the converged sampler."""
    from labctl.models.checkpoint import list_zoo

    found = sorted(list_zoo().items(), key=lambda item: (item[0].partition("-")[0], item[1].bits or 0))
    rows = [
        (
            f"`{name}`",
            " + ".join(map(str, card.sizes)),
            f"{card.parameters:,}",
            "float" if card.bits is None else f"{card.bits} bit",
            _quality(card.metrics),
            f"`{card.sha256[:12]}`",
        )
        for name, card in found
    ]
    return markdown(("network", "rows", "weights", "codes", "its converged sampler", "sha256"), rows)


def _quality(metrics: dict[str, float]) -> str:
    if "class_agreement" in metrics:
        ceiling = metrics["class_agreement_reconstructions"]
        star = f"; FD* {metrics['frechet_star']:.3f}" if "frechet_star" in metrics else ""
        return f"class agreement {metrics['class_agreement']:.3f} ({ceiling:.3f}){star}"
    return f"E {metrics['energy_distance_sigma_min_0.06'] * 1e3:.2f}e-3"


def oscillators() -> str:
    """Shipped generators of oscillators, with what their cards say."""
    from labctl.models.checkpoint import shipped_cards
    from labctl.models.oscillators.checkpoint import KIND, load_generator

    cards = [load_generator(name).card for name in shipped_cards(KIND)]
    parts = [card.shape.segments for card in cards]
    return _of_oscillators("generator", cards, "segments", parts, beside="frechet_star_8x_steps")


def chains() -> str:
    """Shipped chains of equilibria, with what their cards say."""
    from labctl.models.checkpoint import shipped_cards
    from labctl.models.oscillators.chain_checkpoint import CHAIN_KIND, load_chain

    cards = [load_chain(name).card for name in shipped_cards(CHAIN_KIND)]
    parts = [card.shape.levels for card in cards]
    return _of_oscillators("chain", cards, "levels", parts, beside="frechet_star_detuned")


def _of_oscillators(what: str, cards: Sequence[Any], word: str, parts: Sequence[int], *, beside: str) -> str:
    """Models by their cards, each of so many parts (called `word`); `beside`: the metric in brackets."""
    rows = [
        (
            f"`{card.name}`",
            f"{card.side} × {card.side}",
            str(count),
            "float" if card.program_bytes is None else f"{card.bits} bit, {card.program_bytes:,} bytes",
            card.objective,
            f"FD* {card.metrics['frechet_star']:.3f} ({card.metrics[beside]:.3f})",
            _trained(card.model_dump()),
            f"`{card.sha256[:12]}`",
        )
        for card, count in zip(cards, parts, strict=True)
    ]
    return markdown((what, "pixels", word, "codes", "objective", "figures", "training", "sha256"), rows)


def picture_nets() -> str:
    """Shipped classifiers, autoencoders and references, with what their cards say."""
    import json

    from labctl.models.checkpoint import zoo_folder

    told = {
        "classifier": lambda m: f"{m['accuracy_test']:.2%} of the test pictures right",
        "autoencoder": lambda m: (
            f"mean squared error {m['mean_squared_error_test']:.4f} on the test pictures"
        ),
        "picture-reference": lambda m: (
            f"floor {m['frechet_floor']:.3f}, Gaussian {m['frechet_gaussian']:.2f}"
            + (
                f"; the autoencoder alone: FD* {m['frechet_star_reconstructions']:.4f}"
                if "frechet_star_reconstructions" in m
                else " (of pixels)"
            )
        ),
    }
    cards = {p.stem: json.loads(p.read_text(encoding="utf-8")) for p in sorted(zoo_folder().glob("*.json"))}
    rows = [
        (f"`{name}`", card["kind"].replace("picture-", ""), told[card["kind"]](card["metrics"]),
         _trained(card), f"`{card['sha256'][:12]}`")
        for name, card in cards.items()
        if card["kind"] in told
    ]  # fmt: skip
    return markdown(("file", "is", "figures", "training", "sha256"), rows)


def _trained(card: dict[str, Any]) -> str:
    """How long it took, and on what where the card says it (the first ones do not)."""
    if "training_s" not in card:
        return ""
    return f"{round(card['training_s'] / 60)} min" + (
        f", {card['trained_on']}" if "trained_on" in card else ""
    )


# -- calibration -----------------------------------------------------------------------------------------


def calibration_procedures(which: str) -> str:
    """Procedures of a kind of bench: optical, oscillators."""
    found = _calibration()[which]
    names = {one.kind: one.name for one in found}
    rows = [
        (
            f"`{one.name}`",
            one.title,
            ", ".join(names[kind] for kind in one.needs),
            _for_how_long(one.validity_s),
            "; ".join(one.notices),
        )
        for one in found
    ]
    return markdown(("name", "measures", "rests on", "valid for", "must notice"), rows)


def calibration_models() -> str:
    """What modules with one procedure say of it: model, estimator, uncertainty."""
    every = [one for found in _calibration().values() for one in found]
    modules = [one.measure.__module__ for one in every]
    rows = [
        (f"`{one.name}`", " ".join((import_module(module).__doc__ or "").split()))
        for one, module in zip(every, modules, strict=True)
        if modules.count(module) == 1
    ]
    return markdown(("name", ""), rows)


def _calibration() -> dict[str, Sequence[Any]]:
    from labctl_calibration.optical import OPTICAL
    from labctl_calibration.oscillators import OSCILLATOR_PROCEDURES
    from labctl_calibration.planning import in_order

    return {"optical": in_order(OPTICAL), "oscillators": in_order(OSCILLATOR_PROCEDURES)}


def _for_how_long(seconds: float) -> str:
    """A time in hours or days."""
    if seconds == float("inf"):
        return "ever"
    return f"{seconds / 3600:g} h" if seconds <= 86400 else f"{seconds / 86400:g} days"


# -- run file, outcomes, command line --------------------------------------------------------------------


def columns() -> str:
    """Columns that grow by a row a step."""
    from labctl.runlog.panel_tree import STEP_COLUMNS

    rows = [
        (f"`{c.path}`", " × ".join(("step", *c.row)), _stored(c.dtype), c.units, c.meaning)
        for c in STEP_COLUMNS
    ]
    return markdown(("dataset", "shape", "type", "unit", "meaning"), rows)


def _stored(dtype: Any) -> str:
    return dtype.name if dtype.kind in "iuf" else f"text ({dtype.itemsize} bytes)"


def outcomes() -> str:
    """Outcome codes."""
    from labctl.devices import Outcome
    from labctl.reports.words import OUTCOME_WORDS

    return markdown(
        ("code", "outcome", "meaning"), [(str(int(o)), f"`{o.name}`", OUTCOME_WORDS[o]) for o in Outcome]
    )


def exit_codes() -> str:
    """Exit codes."""
    from labctl.cli.endings import EXIT_CODES

    return markdown(("code", "meaning"), [(str(code), meaning) for code, meaning in EXIT_CODES.items()])


def commands() -> str:
    """Every command with its arguments and options."""
    parts = []
    for path, command in cli_commands():
        arguments = [p for p in command.params if p.param_type_name == "argument"]
        options = [p for p in command.params if p.param_type_name == "option"]
        usage = " ".join([path, *(a.metavar for a in arguments)])
        said = [_plain(paragraph) for paragraph in command.help.split("\n\n")]
        example = next((text for text in said if text.startswith("Example:")), "")
        text = "\n\n".join(text for text in said if not text.startswith("Example:"))
        part = f"### `{usage}`\n\n{text}\n"
        rows = [(f"`{p.metavar.strip('[]')}`", _shown(p), _plain(p.help)) for p in arguments]
        rows += [(f"`{_option(p)}`", _shown(p), _plain(p.help)) for p in options]
        if rows:
            part += "\n" + markdown(("", "default", ""), rows)
        if example:
            part += f"\n```text\n{example.removeprefix('Example:').strip()}\n```\n"
        parts.append(part)
    return "\n" + "\n".join(parts) + "\n"


def cli_commands() -> list[tuple[str, Any]]:
    """("labctl run", command) of every command, groups opened."""
    from typer.main import get_command

    from labctl.cli.app import app

    def walk(path: str, group: Any) -> list[tuple[str, Any]]:
        found = []
        for name, command in group.commands.items():
            inner = hasattr(command, "commands")
            found += walk(f"{path} {name}", command) if inner else [(f"{path} {name}", command)]
        return found

    return walk("labctl", get_command(app))


def _option(param: Any) -> str:
    names = "/".join([*param.opts, *param.secondary_opts])
    return names if param.is_flag else f"{names} {(param.metavar or param.name).upper()}"


def _shown(param: Any) -> str:
    if getattr(param, "is_flag", False):
        return "yes" if param.default else "no"
    if param.required:
        return "required"
    return "none" if param.default is None else f"`{param.default}`"


def _plain(text: str | None) -> str:
    """Help without rich's markup, on one line."""
    return " ".join(re.sub(r"\[/?(?:bold|dim)\]", "", text or "").split())


# -- pages -----------------------------------------------------------------------------------------------

TABLES: dict[str, Callable[[], str]] = {
    "recipes": recipes,
    "training recipes": training,
    "rigs": rigs,
    "ledger constants": ledger_constants,
    "ledger claims": ledger_claims,
    "drivers": drivers,
    "wire faults": wire_faults,
    "wire statements": wire_statements,
    **{f"scpi {which}": partial(scpi, which) for which in SCPI_TABLES},
    "scpi errors": scpi_errors,
    "scpi instruments": scpi_instruments,
    "physical faults": physical_faults,
    "schemes": schemes,
    "denoisers": denoisers,
    "oscillators": oscillators,
    "chains": chains,
    "picture_nets": picture_nets,
    "profiles": profiles,
    "terms": terms,
    "oscillator profiles": oscillator_profiles,
    "oscillator terms": oscillator_terms,
    "run file columns": columns,
    **{
        f"calibration procedures {which}": partial(calibration_procedures, which)
        for which in ("optical", "oscillators")
    },
    "calibration models": calibration_models,
    "outcomes": outcomes,
    "exit codes": exit_codes,
    "commands": commands,
}


def render(page: str) -> str:
    """A page with every table made anew. KeyError for a table that nobody makes."""

    def fill(match: re.Match[str]) -> str:
        what = match["what"]
        is_keys = what.startswith("keys of ")
        body = keys(what.removeprefix("keys of "), match["body"]) if is_keys else TABLES[what]()
        return f"<!-- table: {what} -->\n{body}<!-- end of table -->"

    return _BLOCK.sub(fill, page)


def main() -> int:
    """Rewrite the pages, or say which are behind."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--check", action="store_true", help="change nothing; 1 where a page is behind")
    check = options.parse_args().check
    behind = 0
    for path in sorted(DOCS.rglob("*.md")):
        old = path.read_text(encoding="utf-8")
        new = render(old)
        if new != old:
            behind += 1
            print(path.relative_to(DOCS.parent), "is behind" if check else "written")
            if not check:
                path.write_text(new, encoding="utf-8")
    return int(check and behind > 0)


if __name__ == "__main__":
    sys.exit(main())
