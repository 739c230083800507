"""A published parameter file becomes a profile, and a rig file beside it, of our own."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labctl.devices import ConfigError
from labctl_sim_devices.profile import load_profile, profile_document
from labctl_sim_devices.published import PublishedMachine, read_published

BASE = "adm"


@dataclass(frozen=True)
class Imported:
    """Files that an import wrote, and what it found."""

    profile: Path
    rig: Path
    n_channels: int
    parameters: int
    dead_channels: tuple[int, ...]


def import_profile(source: Path, out: Path) -> Imported:
    """Read a published file, write the profile `out` and its rig file (`out`'s name with -rig).

    Raises DataError for a file that cannot be read as either machine's, ConfigError where `out` exists, is no
    .toml, or cannot be written.
    """
    if out.suffix != ".toml":
        raise ConfigError(f"--out is {out}; allowed: a name that ends in .toml")
    rig = out.with_name(f"{out.stem}-rig.toml")
    for path in (out, rig):
        if path.exists():
            raise ConfigError(f"{path} exists already; allowed: a new name (--out)")
    machine = read_published(source)
    base = load_profile(BASE)
    truth = machine.truth(base.full_scale_units)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(_profile(machine, truth, source, out.stem), "utf-8")
        rig.write_text(_rig(machine, out), "utf-8")
    except OSError as error:
        raise ConfigError(f"{out}: cannot be written: {error.strerror or error}") from None
    dead = machine.input_efficiency.max(axis=0) == 0
    count = sum(1 for _ in _leaves(truth))
    return Imported(out, rig, machine.n_channels, count, tuple(int(k) for k in dead.nonzero()[0]))


def _profile(machine: PublishedMachine, truth: dict[str, Any], source: Path, name: str) -> str:
    n = machine.n_channels
    lines = [
        f"# The published {n}-channel machine, from {source.name} by `labctl twin profile import`.",
        "# Timing, converters, noise and camera are those of the base; the machine's own are not published.",
        f'name = "{name}"',
        f'dated = "{datetime.date.today().isoformat()}"',
        f'base = "{BASE}"',
        f'truth_source = "[P] {source.name}, in network units of 0.34 V, [out, in] order; '
        'sign paths positive, negative"',
        "",
        "[values]",
    ]
    sources: list[str] = []
    for key, (value, told) in _layout(n).items():
        lines.append(f"{key} = {value}")
        sources.append(f'{key} = "{told}"')
    lines += ["", "[sources]", *sources, "", "# as the published twin has it by default; 1 switches it on"]
    lines += ["[terms]", f"{'beamsplitter' if machine.crossing is None else 'crossing'} = 0", "", "[truth]"]
    lines += [f"{key} = {_numbers(values)}" for key, values in truth.items()]
    return "\n".join(lines) + "\n"


def _layout(n: int) -> dict[str, tuple[str, str]]:
    """Cells of another matrix on the base's panel."""
    values = profile_document(BASE)["values"]
    if values["n_channels"] == n:
        return {}
    height, width = values["panel_shape_px"]
    cell = (height // n, width // 2 // n)
    top, left = (height - n * cell[0]) // 2, (width // 2 - n * cell[1]) // 2
    return {
        "n_channels": (str(n), f"[P] the {n}-channel machine"),
        "cell_px": (f"[{cell[0]}, {cell[1]}]", "[D] the largest whole cells on half of the panel"),
        "path_origin_px": (
            f"[[{top}, {left}], [{top}, {left + width // 2}]]",
            "[D] two halves, centred",
        ),
        "camera_light_percent": (
            "0.05",
            "[A] darker planes and a brighter path: fills the wells in 5 us or more",
        ),
    }


def _rig(machine: PublishedMachine, profile: Path) -> str:
    devices = (
        ("panel", "twin.lcos-panel"),
        ("emitters", "twin.emitters"),
        ("electronics", "twin.loop-electronics"),
        ("camera", "twin.camera"),
    )
    parts = [
        f'name = "{profile.stem}"',
        f'about = "Twin of the published {machine.n_channels}-channel machine"',
        'engine = "optical-loop"',
        f"n_channels = {machine.n_channels}",
        "",
        "[world]",
        'kind = "optical-bench"',
        f'profile = "{profile.name}"',
        "seed = 1",
    ]
    for name, driver in devices:
        parts += ["", "[[device]]", f'name = "{name}"', f'driver = "{driver}"']
    return "\n".join(parts) + "\n"


def _numbers(values: Any) -> str:
    if isinstance(values, list):
        return "[" + ", ".join(_numbers(v) for v in values) + "]"
    return repr(float(values))


def _leaves(values: Any) -> Any:
    if isinstance(values, dict):
        values = list(values.values())
    if isinstance(values, list):
        for value in values:
            yield from _leaves(value)
    else:
        yield values
