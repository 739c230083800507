"""Numbers in nested tables, as published parameter files hold them: the part of YAML that they use.

Maps by indentation, lists of numbers in brackets (over several lines where long), lists of such lists with
dashes. Anything else is refused with its line.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labctl.devices import DataError


@dataclass(frozen=True)
class _Line:
    """One logical line: brackets closed, first line number, indentation."""

    number: int
    indent: int
    text: str


def read_numbers(path: Path) -> dict[str, Any]:
    """The file's tables: str to number, (nested) list of numbers, or table.

    Raises DataError naming file and line where it is truncated or holds something else.
    """
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise DataError(f"{path}: not text in UTF-8") from None
    lines = list(_logical(path, text))
    if not lines:
        raise DataError(f"{path}: is empty; expected a parameter file")
    table, rest = _table(path, lines, 0)
    if rest < len(lines):
        raise DataError(f"{path}: line {lines[rest].number}: indented less than what it belongs to")
    return table


def _logical(path: Path, text: str) -> Iterator[_Line]:
    held, start, indent, open_brackets = "", 0, 0, 0
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.split(" #")[0].rstrip()
        if not held:
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            start, indent = number, len(line) - len(line.lstrip())
        held = f"{held} {line.strip()}".strip()
        open_brackets = held.count("[") - held.count("]")
        if open_brackets <= 0:
            yield _Line(start, indent, held)
            held = ""
    if held:
        raise DataError(f"{path}: truncated: the list that begins on line {start} has no end")


def _table(path: Path, lines: list[_Line], at: int) -> tuple[dict[str, Any], int]:
    indent, out = lines[at].indent, {}
    while at < len(lines) and lines[at].indent == indent and not lines[at].text.startswith("- "):
        line = lines[at]
        key, colon, value = line.text.partition(":")
        if not colon:
            raise DataError(f"{path}: line {line.number}: {line.text[:40]!r} is no 'key: numbers'")
        if key in out:
            raise DataError(f"{path}: line {line.number}: {key} stands twice")
        at += 1
        if value.strip():
            out[key] = _value(path, line.number, value)
        elif at < len(lines) and lines[at].text.startswith("- ") and lines[at].indent >= indent:
            rows = []
            while at < len(lines) and lines[at].text.startswith("- "):
                rows.append(_value(path, lines[at].number, lines[at].text[2:]))
                at += 1
            out[key] = rows
        elif at < len(lines) and lines[at].indent > indent:
            out[key], at = _table(path, lines, at)
        else:
            raise DataError(f"{path}: truncated: {key} on line {line.number} has no value")
    return out, at


def _value(path: Path, number: int, text: str) -> Any:
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        raise DataError(
            f"{path}: line {number}: {text.strip()[:40]!r} is neither a number nor a list of them"
        ) from None
    return value
