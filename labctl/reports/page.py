"""A run file as one self-contained page, with its pictures beside it as PNG files."""

from __future__ import annotations

import base64
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from matplotlib.figure import Figure

from labctl.devices import Outcome, RunLogError
from labctl.reports import words
from labctl.reports.classes import ClassRow, class_rows, worst_in_words
from labctl.reports.controls import NO_CONTROLS, controls_figure, controls_in_words
from labctl.reports.couplings import SEGMENTS_DRAWN, couplings_figure
from labctl.reports.matrix import placed_matrix_figure
from labctl.reports.meanings import LEGEND, Said, legend, notes, said
from labctl.reports.samples import chain_figure, picture_grid_figure, samples_figure, step_pictures_figure
from labctl.reports.statistics import (
    LedgerTotals,
    StepStatistics,
    ledger_totals,
    outcome_totals,
    step_statistics,
)
from labctl.reports.steps import holding_figure, norms_figure, scan_figure, settle_figure
from labctl.reports.style import DARK, LIGHT, Theme, to_png
from labctl.runlog import ControlRecord, OscillatorRecord, PanelReader, ProgramRecord, RunHeader, RunReader

PAGE = "report.html"
_PANELS_WITH_PICTURES = 12
_PANELS_IN_FULL = 6


@dataclass(frozen=True)
class Picture:
    """One picture in both themes, ready for the page."""

    name: str
    alt: str
    light: str
    dark: str
    width: int


@dataclass
class Section:
    """What the page shows of one panel."""

    name: str
    title: str
    panel: PanelReader
    steps: tuple[StepStatistics, ...]
    totals: dict[Outcome, int]
    ledger: LedgerTotals
    program: ProgramRecord | OscillatorRecord | None
    said: list[Said]
    classes: list[ClassRow]
    controls: tuple[ControlRecord, ...] = ()
    pictures: dict[str, Picture] = field(default_factory=dict)

    @property
    def of_oscillators(self) -> bool:
        """Whether an oscillator board played it."""
        return isinstance(self.program, OscillatorRecord)

    @property
    def settles(self) -> bool:
        """Whether settle times were measured in any step."""
        return any(step.settle for step in self.steps)


def report(run_file: str | os.PathLike[str], out_dir: str | os.PathLike[str] | None = None) -> Path:
    """Write report.html and its PNGs into `out_dir` (default: NAME_report beside the file).

    The page asks for nothing outside itself. Works on finished, killed and running runs. RunLogError where
    the file is no run or the folder cannot be written.
    """
    with RunReader(run_file) as run:
        name = run.path.name.split(".nxs")[0].removesuffix(".h5")
        folder = Path(out_dir) if out_dir is not None else run.path.with_name(f"{name}_report")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            page = folder / PAGE
            page.write_text(_render(run, folder), encoding="utf-8")
        except OSError as error:
            raise RunLogError(f"{folder}: the report cannot be written: {error.strerror or error}") from error
    return page


def _render(run: RunReader, folder: Path) -> str:
    header = run.header
    sections = [_section(panel, header) for panel in run.panels.values()]
    for section in sections[:_PANELS_WITH_PICTURES]:
        prefix = f"{section.name}_" if section.name else ""
        _draw_panel(section, header, folder, prefix, brief=len(sections) > _PANELS_IN_FULL)
    scan = run.scan
    scan_picture = None
    if scan is not None and run.scan_axis is not None:
        axis, signal = run.scan_axis
        scan_picture = _picture(
            "scan",
            f"{signal} and the other columns of the scan against {axis}",
            lambda theme: scan_figure(
                scan, axis, signal, units=run.scan_units, series=run.scan_series, theme=theme
            ),
            folder,
        )
    environment = Environment(
        loader=PackageLoader("labctl.reports", "."),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(
        words=words,
        worst_in_words=worst_in_words,
        Outcome=Outcome,
        isfinite=math.isfinite,
        controls_in_words=controls_in_words,
        NO_CONTROLS=NO_CONTROLS,
        SEGMENTS_DRAWN=SEGMENTS_DRAWN,
    )
    return environment.get_template("page.html.j2").render(
        run=run,
        header=header,
        status=run.status,
        sections=sections,
        scan=scan,
        scan_units=run.scan_units,
        scan_picture=scan_picture,
        scan_legend=_scan_legend(run),
        scan_notes=notes(run.panels.values()),
        facts=_facts(run, header),
        lead=_lead(sections, header, scanned=scan is not None),
        varied=_varied(sections),
        outcome_words=words.OUTCOME_WORDS,
    )


def _section(panel: PanelReader, header: RunHeader) -> Section:
    steps = step_statistics(panel)
    return Section(
        name=panel.name,
        title=panel.title if panel.name else header.title,
        panel=panel,
        steps=steps,
        totals=outcome_totals(steps),
        ledger=ledger_totals(panel.ledger, panel.n_samples),
        program=panel.program,
        said=said(panel.metrics, panel.settings, header),
        classes=class_rows(panel, header.class_names),
        controls=panel.controls,
    )


def _draw_panel(section: Section, header: RunHeader, folder: Path, prefix: str, *, brief: bool) -> None:
    panel, timing = section.panel, header.timing

    def draw(name: str, alt: str, figure: Callable[[Theme], Figure]) -> None:
        section.pictures[name] = _picture(prefix + name, alt, figure, folder)

    pictures, samples = panel.pictures, panel.samples
    if pictures is not None:
        draw(
            "pictures",
            "A grid of generated pictures beside a grid of real ones",
            lambda theme: picture_grid_figure(
                pictures,
                panel.reference_pictures,
                labels=panel.sample_labels,
                reference_labels=panel.reference_labels,
                class_names=header.class_names,
                theme=theme,
            ),
        )
        if section.controls:
            draw(
                "controls",
                "Pictures of this run beside those of generators that are no oscillator board",
                lambda theme: controls_figure(pictures, section.controls, theme=theme),
            )
        _draw_steps(section, header, draw)
    elif samples is not None and np.isfinite(samples).all(axis=1).any():
        draw(
            "samples",
            "Samples of the run beside the data they should look like",
            lambda theme: samples_figure(
                samples,
                panel.reference,
                labels=panel.sample_labels,
                data_labels=panel.reference_labels,
                theme=theme,
            ),
        )
    if section.settles:
        draw(
            "settling",
            "Histogram of settle times for every step, in microseconds",
            lambda theme: settle_figure(
                panel.settle_time_us[panel.settle_measured],
                names=[str(step.step) for step in section.steps if step.settle],
                wait_us=timing.wait_us if timing else None,
                tau_us=timing.tau_us if timing else None,
                theme=theme,
            ),
        )
    if brief:
        return
    if panel.d <= 2 and panel.n_steps:
        states = [panel.in_own_units(panel.x(index)) for index in range(panel.n_steps)]
        names = [f"σ = {words.number(step.sigma_next)}" for step in section.steps]
        if panel.x_start is not None:
            states.insert(0, panel.in_own_units(panel.x_start))
            names.insert(0, f"σ = {words.number(section.steps[0].sigma)}")
        draw("chain", "The samples after each step", lambda theme: chain_figure(states, names, theme=theme))
    if np.isfinite(panel.residual_norm).any() or np.isfinite(panel.step_norm).any():
        draw(
            "residuals",
            "Residual and last change of the state for every step",
            lambda theme: norms_figure(
                panel.step_norm, panel.residual_norm, at_rest=panel.locking_load.size > 0, theme=theme
            ),
        )
    if panel.locking_load.size:
        draw(
            "holding",
            "How safely anchors hold the oscillators at every step",
            lambda theme: holding_figure(panel.locking_load, panel.slowest_rate, theme=theme),
        )
    program = section.program
    if isinstance(program, OscillatorRecord):
        draw(
            "couplings",
            "The couplings of every segment, drawn between the oscillators' places",
            lambda theme: couplings_figure(program, theme),
        )
    elif program is not None:
        draw(
            "weights",
            "The weight matrix as placed on the machine",
            lambda theme: placed_matrix_figure(
                program.codes if program.codes is not None else program.weights,
                program.layers,
                mask=program.mask,
                bits=program.bits if program.codes is not None else None,
                theme=theme,
            ),
        )


def _draw_steps(
    section: Section, header: RunHeader, draw: Callable[[str, str, Callable[[Theme], Figure]], None]
) -> None:
    """What each step takes the clean pictures to be, one sample of each class."""
    steps, labels, names = section.panel.step_pictures, section.panel.labels, header.class_names
    if steps is None:
        return
    heads = []
    if labels is not None and names:
        heads = [names[label] for label in np.unique(labels) if label < len(names)]
    sigmas = [float(step.sigma_next) for step in section.steps]
    rows = [f"σ = {words.number(sigma)}" if sigma else "result" for sigma in sigmas][: len(steps)]
    if isinstance(section.program, OscillatorRecord) and not np.isfinite(sigmas).any():
        rows = [f"segment {k + 1}" for k in range(len(steps))]
    rows += ["result"] * (len(steps) - len(rows))
    draw(
        "steps",
        "A few samples after each step",
        lambda theme: step_pictures_figure(steps, rows, heads, theme=theme),
    )


def _picture(name: str, alt: str, draw: Callable[[Theme], Figure], folder: Path) -> Picture:
    """Draw in both themes; the light one is also written as a PNG file, for papers and talks."""
    light = draw(LIGHT)
    png = to_png(light, LIGHT)
    (folder / f"{name}.png").write_bytes(png)
    return Picture(
        name=name,
        alt=alt,
        light=_inline(png),
        dark=_inline(to_png(draw(DARK), DARK)),
        width=round(light.get_figwidth() * 112),
    )


def _inline(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()


def _scan_legend(run: RunReader) -> list[str]:
    """What the scan's columns mean, each once, whatever series they belong to."""
    columns = {key for key, _ in run.scan_series.values()} | set(run.scan or ())
    return legend(key for key in LEGEND if key in columns)


def _lead(sections: Sequence[Section], header: RunHeader, *, scanned: bool) -> list[str]:
    """The run in a few plain sentences."""
    where = ("a simulated rig" if header.simulated else "real devices") if header.devices else "no device"
    first = sections[0]
    done = sum(section.panel.n_steps for section in sections)
    planned = sum(section.panel.n_steps_planned for section in sections)
    steps = f"{done} steps" if done == planned else f"{done} of {planned} steps"
    told = [f"{header.n_samples:,} samples, {steps}, on {where} ({header.rig.name})."]
    if len(sections) > 1:
        part = "programs" if first.of_oscillators else "chains"
        told.insert(0, f"{'A scan of ' if scanned else ''}{len(sections)} {part} in one run.")
    samples = sum(step.samples for section in sections for step in section.steps)
    if samples:
        good = sum(
            step.good_share * step.samples for section in sections for step in section.steps if step.samples
        )
        what = "runs" if first.of_oscillators else "settles"
        told.append(f"{words.share(good / samples)} of all {what} ended as planned.")
    if len(sections) == 1:
        if math.isfinite(first.ledger.modelled_total_us):
            each = words.duration(first.ledger.modelled_total_us / first.ledger.samples)
            told.append(f"The modelled machine spends {each} on a sample.")
        what = "program" if first.of_oscillators else "chain"
        told.append(f"This computer needed {words.seconds(first.ledger.host_total_s)} for the {what}.")
    return told


def _varied(sections: Sequence[Section]) -> dict[str, list[tuple[str, str]]]:
    """The settings that tell the panels apart, by panel; those that all share are in the recipe."""
    settings = {section.name: section.panel.settings for section in sections}
    keys = [key for section in sections for key in settings[section.name]]
    differing = [
        key for key in dict.fromkeys(keys) if len({str(own.get(key)) for own in settings.values()}) > 1
    ]
    return {
        name: [(key, words.scalar(own[key])) for key in differing if key in own]
        for name, own in settings.items()
    }


def _facts(run: RunReader, header: RunHeader) -> list[tuple[str, str]]:
    timing = header.timing
    facts: list[tuple[str, Any]] = [
        ("Recipe", header.protocol.name),
        ("Rig", header.rig.name),
        ("Seed", header.seed),
        ("Started", header.start_time),
        ("Ended", run.end_time),
        ("Operator", header.operator),
        ("Computer", header.hostname),
        ("Command", " ".join(header.command)),
        ("Overrides", "; ".join(f"{name}: {why}" for name, why in header.overrides.items())),
        ("Commit", header.git_commit),
        ("Machine rows", header.n_channels),
        ("Dimensions", header.d),
        ("Classes", header.n_classes or None),
        ("Time profile", timing.profile if timing else None),
        ("Numerics", ", ".join(f"{name} {words.scalar(value)}" for name, value in header.numerics.items())),
        ("Software", ", ".join(f"{name} {version}" for name, version in header.versions.items())),
        ("Calibration records", ", ".join(header.calibration_records)),
        ("Run", run.identifier),
        ("File", run.path.name),
    ]
    return [(name, str(value)) for name, value in facts if value not in (None, "")]
