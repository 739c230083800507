"""A scan taken apart: the plain recipes it runs, and the table with a row for each of its values."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from pydantic import BaseModel, ValidationError

from labctl.config_files import first_problem
from labctl.devices import Scalar
from labctl.procedures.recipe import GenerateRecipe, SampleRecipe, Scan
from labctl.runlog import ScanPlan

AnyPlain = TypeVar("AnyPlain", bound=BaseModel)

# What a scan's table keeps of each panel, with its unit; the first is what viewers plot.
SAMPLE_COLUMNS = {
    "energy_distance": "",
    "converged_share": "",
    "settle_p95_us": "us",
    "settle_max_us": "us",
    "unsettled_share": "",
    "device_time_per_sample_us": "us",
}
GENERATE_COLUMNS = {
    "frechet_star": "",
    "density": "",
    "coverage": "",
    "locked_share": "",
    "device_time_per_sample_us": "us",
    "energy_core_j": "J",
}


@dataclass(frozen=True)
class ScanPart(Generic[AnyPlain]):
    """One panel of a scan: its name in the file, its title, what it runs, its row and series of the table."""

    name: str
    title: str
    recipe: AnyPlain
    row: float
    series: str


def scan_parts(scan: Scan, form: type[AnyPlain]) -> list[ScanPart[AnyPlain]]:
    """What a scan runs, in order, as plain recipes of `form`; ConfigError names value and key."""
    base = scan.model_dump(exclude={"kind", *Scan.model_fields})
    parts = []
    for value, word in itertools.product(scan.values, scan.series_values or ("",)):
        changes = {scan.scan: value, **({scan.series: word} if scan.series else {})}
        try:
            recipe = form(**{**base, **changes})
        except ValidationError as error:
            where = "scan at " + ", ".join(f"{key} {changed}" for key, changed in changes.items())
            raise first_problem(error, where, form) from None
        name = "_".join(f"{key}-{changed}" for key, changed in changes.items())
        name = re.sub(r"[^\w-]", "_", name.replace("+", "p").replace(".", "p"))  # a group's name in the file
        series = _label(scan, word)
        title = f"{scan.scan.replace('_', ' ')} {value}" + (f", {series}" if series else "")
        parts.append(ScanPart(name, title, recipe, float(value), series))
    return parts


def scan_plan(scan: Scan, title: str) -> ScanPlan:
    """The table of a scan: the scanned column, then every quantity once for each series."""
    units, signal = _columns(scan)
    labels = _labels(scan)
    columns: dict[str, str] = {scan.scan: ""}
    for label in labels or [""]:
        columns.update({_column(key, label): unit for key, unit in units.items()})
    series = {_column(key, label): (key, label) for label in labels for key in units}
    signal = _column(signal, labels[0] if labels else "")
    return ScanPlan(columns, axis=scan.scan, signal=signal, title=title, series=series)


def add_to_row(scan: Scan, row: dict[str, float], series: str, metrics: Mapping[str, Scalar]) -> bool:
    """Put a panel's columns into its row; returns whether that was the row's last series."""
    for key in _columns(scan)[0]:
        if key in metrics:
            row[_column(key, series)] = float(metrics[key])
    labels = _labels(scan)
    return not labels or series == labels[-1]


def _columns(scan: Scan) -> tuple[dict[str, str], str]:
    """Quantities with units, and which of them to plot first."""
    if isinstance(scan, GenerateRecipe):
        return GENERATE_COLUMNS, "frechet_star"
    settling = isinstance(scan, SampleRecipe) and scan.scan == "steps" and scan.audit > 0
    return SAMPLE_COLUMNS, "settle_p95_us" if settling else "energy_distance"


def _labels(scan: Scan) -> list[str]:
    return [_label(scan, word) for word in scan.series_values]


def _label(scan: Scan, word: float | int | str) -> str:
    """What a series is called: a number needs its key beside it."""
    return word if isinstance(word, str) else f"{scan.series.replace('_', ' ')} {word}"


def _column(key: str, series: str) -> str:
    """A column's name: the quantity, and the series where there are several."""
    if not series:
        return key
    return re.sub(r"\W", "_", f"{key}_{series}".replace("+", "p").replace(".", "p"))
