"""Which figures of a panel the page shows: those that what it holds can fill."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from labctl.reports import words
from labctl.reports.controls import controls_figure
from labctl.reports.couplings import couplings_figure
from labctl.reports.matrix import placed_matrix_figure
from labctl.reports.samples import chain_figure, picture_grid_figure, samples_figure, step_pictures_figure
from labctl.reports.sections import Section
from labctl.reports.statistics import StepStatistics
from labctl.reports.steps import holding_figure, norms_figure, settle_figure
from labctl.reports.style import Theme
from labctl.runlog import OscillatorRecord, RunHeader


class Drawing(NamedTuple):
    """A figure by the name of its file, with what it shows in words."""

    name: str
    alt: str
    figure: Callable[[Theme], Figure]


def drawings(section: Section, header: RunHeader, *, brief: bool) -> Iterator[Drawing]:
    """Those of one panel, in the page's order; `brief` leaves out how it came to its samples."""
    yield from _results(section, header)
    yield from _settling(section, header)
    if not brief:
        yield from _states(section)
        yield from _norms(section)
        yield from _program(section)


def _results(section: Section, header: RunHeader) -> Iterator[Drawing]:
    """Pictures with what stands beside them, or samples."""
    panel = section.panel
    pictures, samples = panel.pictures, panel.samples
    if pictures is not None:
        yield Drawing(
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
            yield Drawing(
                "controls",
                "Pictures of this run beside those of generators that are no oscillator board",
                lambda theme: controls_figure(pictures, section.controls, theme=theme),
            )
        yield from _steps(section, header)
    elif samples is not None and np.isfinite(samples).all(axis=1).any():
        yield Drawing(
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


def _steps(section: Section, header: RunHeader) -> Iterator[Drawing]:
    """What each step takes the clean pictures to be, one sample of each class."""
    steps, labels, names = section.panel.step_pictures, section.panel.labels, header.class_names
    if steps is None:
        return
    heads = []
    if labels is not None and names:
        heads = [names[label] for label in np.unique(labels) if label < len(names)]
    rows = step_names(section.steps, len(steps))
    yield Drawing(
        "steps",
        "A few samples after each step",
        lambda theme: step_pictures_figure(steps, rows, heads, theme=theme),
    )


def step_names(steps: Sequence[StepStatistics], count: int) -> list[str]:
    """What the first `count` steps led to: a noise level, the result, or the end of what has no levels."""
    names = [f"σ = {words.number(step.sigma_next)}" if step.sigma_next else "result" for step in steps]
    if not any(np.isfinite(step.sigma_next) for step in steps):
        numbered = len(steps) > 1
        names = [f"{step.kind} {k}" if numbered else step.kind for k, step in enumerate(steps, start=1)]
    return [*names, *["result"] * (count - len(names))][:count]


def _settling(section: Section, header: RunHeader) -> Iterator[Drawing]:
    panel, timing = section.panel, header.timing
    if section.settles:
        yield Drawing(
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


def _states(section: Section) -> Iterator[Drawing]:
    """Samples of one or two dimensions, after each step."""
    panel = section.panel
    if panel.d > 2 or not panel.n_steps:
        return
    states = [panel.in_own_units(panel.x(index)) for index in range(panel.n_steps)]
    names = [f"σ = {words.number(step.sigma_next)}" for step in section.steps]
    if panel.x_start is not None:
        states.insert(0, panel.in_own_units(panel.x_start))
        names.insert(0, f"σ = {words.number(section.steps[0].sigma)}")
    yield Drawing(
        "chain", "The samples after each step", lambda theme: chain_figure(states, names, theme=theme)
    )


def _norms(section: Section) -> Iterator[Drawing]:
    """How near to rest, and how safely held."""
    panel = section.panel
    if np.isfinite(panel.residual_norm).any() or np.isfinite(panel.step_norm).any():
        yield Drawing(
            "residuals",
            "Residual and last change of the state for every step",
            lambda theme: norms_figure(
                panel.step_norm, panel.residual_norm, at_rest=panel.anchored, theme=theme
            ),
        )
    if panel.anchored:
        yield Drawing(
            "holding",
            "How safely anchors hold the oscillators at every step",
            lambda theme: holding_figure(panel.locking_load, panel.slowest_rate, theme=theme),
        )


def _program(section: Section) -> Iterator[Drawing]:
    """What was played: couplings, or the matrix in its place."""
    program = section.program
    if isinstance(program, OscillatorRecord):
        yield Drawing(
            "couplings",
            "The couplings of every segment, drawn between the oscillators' places",
            lambda theme: couplings_figure(program, theme),
        )
    elif program is not None:
        yield Drawing(
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
