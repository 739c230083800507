"""Own data: a table of points from memory, or from a .npy, .npz or .csv file."""

from __future__ import annotations

import csv
import hashlib
import struct
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labctl.devices.errors import DataError
from labctl.models.datasets import Affine, FloatArray, IntArray

SUFFIXES = (".npy", ".npz", ".csv")

# What numpy raises for a damaged or truncated file, or one of Python objects.
_DAMAGED = (ValueError, EOFError, KeyError, NotImplementedError, zipfile.BadZipFile, zlib.error, struct.error)


@dataclass(frozen=True, eq=False)
class PointTable:
    """A finite table as a data source: `draw` picks rows at random, with replacement.

    `points` [n, d] are standardised (network units); `affine.restore` maps samples back to own units.
    `labels` int64 [n], 0 to n_classes - 1, or None.
    """

    name: str
    points: FloatArray
    affine: Affine
    labels: IntArray | None = None
    n_classes: int = 0

    @classmethod
    def standardised(
        cls, own: ArrayLike, *, name: str = "points", labels: ArrayLike | None = None, n_classes: int = 0
    ) -> PointTable:
        """Standardise points [n, d] in own units by their mean and standard deviation on each axis.

        Raises DataError (naming `name`) unless they are a finite table of 2 points or more and 2 columns or
        more, none of them constant, and labels, where given, fit.
        """
        points = _checked(np.asarray(own), name)
        mean, std = points.mean(axis=0), points.std(axis=0)
        affine = Affine(tuple(float(m) for m in mean), tuple(float(s) for s in std))
        return cls(
            name,
            affine.standardise(points),
            affine,
            _checked_labels(labels, n_classes, points, name),
            n_classes,
        )

    @property
    def dim(self) -> int:
        """Number of columns d."""
        return int(self.points.shape[1])

    def checksum(self) -> str:
        """sha256 of the standardised table and its labels."""
        digest = hashlib.sha256(np.ascontiguousarray(self.points).tobytes())
        if self.labels is not None:
            digest.update(self.labels.tobytes())
        return digest.hexdigest()

    def draw(self, n: int, rng: np.random.Generator) -> tuple[FloatArray, IntArray | None]:
        """n rows [n, d] at random, and their labels [n]."""
        rows = rng.integers(0, len(self.points), n)
        return self.points[rows], None if self.labels is None else self.labels[rows]


def load_points(
    path: Path | str, *, columns: Sequence[int | str] | None = None, key: str | None = None
) -> PointTable:
    """Read points [n, d] from a .npy, .npz or .csv file and standardise them.

    `columns` chooses columns by number from 0 or, in a .csv with a header, by name. `key` names the array of
    a .npz that holds several. A .csv may have a header line, comment lines (#), and comma, semicolon or tab
    between fields. Raises DataError naming file, field, value and what is allowed.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise DataError(f"{path}: files of type {suffix or '(none)'} are not read: {', '.join(SUFFIXES)} are")
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    header: list[str] = []
    try:
        if suffix == ".csv":
            array, header = _read_csv(path, columns)
        else:
            array = _read_numpy(path, key)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    if columns is not None and suffix != ".csv":
        array = _choose(array, columns, header, path)
    return PointTable.standardised(array, name=str(path))


def _read_numpy(path: Path, key: str | None) -> NDArray[np.generic]:
    try:
        with path.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return loaded
            with loaded as archive:
                held: dict[str, NDArray[np.generic]] = {name: archive[name] for name in archive.files}
    except _DAMAGED as error:
        raise DataError(f"{path}: truncated, or not a {path.suffix} file of numbers: {error}") from error
    if key is None and len(held) == 1:
        return next(iter(held.values()))
    if key is None or key not in held:
        raise DataError(f"{path}: array {key!r} wanted, the file holds {', '.join(held) or 'none'}")
    chosen: NDArray[np.generic] = held[key]
    return chosen


def _read_csv(path: Path, columns: Sequence[int | str] | None) -> tuple[NDArray[np.generic], list[str]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not text in UTF-8: {error}") from error
    lines = [(i, line) for i, line in enumerate(text.splitlines(), 1) if line.strip() and line[0] != "#"]
    if not lines:
        raise DataError(f"{path}: the file is empty: a row of numbers for each point is wanted")
    delimiter = max(",;\t", key=lines[0][1].count)
    rows = [(i, _fields(line, delimiter)) for i, line in lines]
    header: list[str] = []
    if not any(_is_number(field) for field in rows[0][1]):
        header = rows.pop(0)[1]
    width = len(rows[0][1]) if rows else len(header)
    for line, fields in rows:
        if len(fields) != width:
            raise DataError(f"{path}: line {line} has {len(fields)} fields, the lines before have {width}")
    chosen = list(range(width)) if columns is None else _indices(columns, header, width, path)
    values = np.empty((len(rows), len(chosen)))
    for at, (line, fields) in enumerate(rows):
        for to, column in enumerate(chosen):
            try:
                values[at, to] = float(fields[column])
            except ValueError as error:
                raise DataError(
                    f"{path}: line {line}, column {header[column] if header else column}: "
                    f"{fields[column]!r} is not a number"
                ) from error
    return values, header


def _fields(line: str, delimiter: str) -> list[str]:
    return [field.strip() for field in next(csv.reader([line], delimiter=delimiter))]


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


def _choose(
    array: NDArray[np.generic], columns: Sequence[int | str], header: list[str], path: Path
) -> NDArray[np.generic]:
    if array.ndim != 2:
        return array  # refused with its shape by the checks that follow
    return array[:, _indices(columns, header, array.shape[1], path)]


def _indices(columns: Sequence[int | str], header: list[str], width: int, path: Path) -> list[int]:
    found = []
    for column in columns:
        if isinstance(column, str):
            if column not in header:
                raise DataError(f"{path}: no column {column!r}; there are {', '.join(header) or 'no names'}")
            found.append(header.index(column))
        elif 0 <= column < width:
            found.append(column)
        else:
            raise DataError(f"{path}: no column {column}; columns 0 to {width - 1} exist")
    return found


def _checked(array: NDArray[np.generic], name: str) -> FloatArray:
    if array.dtype.kind not in "fiub":
        raise DataError(f"{name}: values of type {array.dtype}: real numbers are allowed")
    if array.ndim != 2:
        raise DataError(f"{name}: an array of shape {array.shape}: [points, columns] is allowed")
    if array.shape[1] < 2:
        raise DataError(f"{name}: {array.shape[1]} column(s): 2 or more are allowed")
    if array.shape[0] < 2:
        raise DataError(f"{name}: {array.shape[0]} point(s): 2 or more are allowed")
    points = array.astype(np.float64)
    bad = np.argwhere(~np.isfinite(points))
    if len(bad):
        row, col = (int(i) for i in bad[0])
        raise DataError(
            f"{name}: point {row}, column {col} is {points[row, col]}: finite numbers are allowed"
        )
    spread = points.std(axis=0)
    flat = np.flatnonzero(~(spread > 1e-12 * np.abs(points).max(axis=0)))
    if len(flat):
        col = int(flat[0])
        raise DataError(f"{name}: column {col} is {points[0, col]} throughout: it must vary")
    return points


def _checked_labels(
    labels: ArrayLike | None, n_classes: int, points: FloatArray, name: str
) -> IntArray | None:
    if labels is None:
        if n_classes:
            raise DataError(f"{name}: {n_classes} classes without labels")
        return None
    found = np.asarray(labels)
    if found.shape != points.shape[:1] or found.dtype.kind not in "iu":
        raise DataError(
            f"{name}: labels of shape {found.shape}, type {found.dtype}: integers [{len(points)}]"
        )
    if found.min() < 0 or found.max() >= n_classes:
        raise DataError(f"{name}: labels {found.min()} to {found.max()}: 0 to {n_classes - 1} are allowed")
    return found.astype(np.int64)
