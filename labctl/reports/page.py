"""A run file as one self-contained page, with its pictures beside it as PNG files."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from labctl.devices import Outcome, RunLogError
from labctl.reports import words
from labctl.reports.classes import worst_in_words
from labctl.reports.controls import NO_CONTROLS, controls_in_words
from labctl.reports.couplings import SEGMENTS_DRAWN
from labctl.reports.drawings import drawings
from labctl.reports.inlined import drawn, pages
from labctl.reports.meanings import LEGEND, legend, notes
from labctl.reports.sections import Section, section_of
from labctl.reports.steps import scan_figure
from labctl.reports.watching import drift_in_words, watch_in_words
from labctl.runlog import RunHeader, RunReader

PAGE = "report.html"
_PANELS_WITH_PICTURES = 12
_PANELS_IN_FULL = 6


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
    sections = [section_of(panel, header) for panel in run.panels.values()]
    for section in sections[:_PANELS_WITH_PICTURES]:
        prefix = f"{section.name}_" if section.name else ""
        for one in drawings(section, header, brief=len(sections) > _PANELS_IN_FULL):
            section.pictures[one.name] = drawn(prefix + one.name, one.alt, one.figure, folder)
    scan = run.scan
    scan_picture = None
    if scan is not None and run.scan_axis is not None:
        axis, signal = run.scan_axis
        scan_picture = drawn(
            "scan",
            f"{signal} and the other columns of the scan against {axis}",
            lambda theme: scan_figure(
                scan, axis, signal, units=run.scan_units, series=run.scan_series, theme=theme
            ),
            folder,
        )
    environment = pages()
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
        watched=watch_in_words(run),
        drifted=[drift_in_words(event) for event in run.drift_events],
        lead=_lead(sections, header, scanned=scan is not None),
        varied=_varied(sections),
        outcome_words=words.OUTCOME_WORDS,
    )


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
