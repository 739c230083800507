"""Command headers: from the notation of manuals (SYSTem:ERRor[:NEXT]?, CHANnel<n>:SCALe) to a look-up."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")
_NODE = re.compile(r"(\[)?:?([*A-Za-z]+)(<n>)?\]?")
_TYPED = re.compile(r"([*A-Z_]+)(\d*)")
REMEMBERED = 1000  # spellings


@dataclass(frozen=True)
class Found(Generic[T]):
    """An entry, and the numeric suffixes of its <n> nodes (1 where none was typed)."""

    entry: T
    suffixes: tuple[int, ...]


class BadSuffix(LookupError):
    """A number behind a node that has none."""


class HeaderTable(Generic[T]):
    """Entries by header: long or short form, upper or lower case, optional nodes there or not."""

    def __init__(self, entries: Mapping[str, T]) -> None:
        self._entries: dict[tuple[str, ...], tuple[T, tuple[bool, ...]]] = {}
        self._found: dict[str, Found[T]] = {}
        for header, entry in entries.items():
            query = header.endswith("?")
            for spelling in _spellings(header.removesuffix("?")):
                names, numbered = zip(*spelling, strict=True)
                key = (*names, "?") if query else names
                if key in self._entries:
                    raise ValueError(f"{header} can be read as another header of the table")
                self._entries[key] = entry, numbered

    def find(self, header: str) -> Found[T]:
        """The entry of a header as typed, without its leading colon. LookupError where there is none."""
        known = self._found.get(header)
        if known is None:
            known = self._looked_up(header)
            if len(self._found) < REMEMBERED:
                self._found[header] = known
        return known

    def _looked_up(self, header: str) -> Found[T]:
        query = header.endswith("?")
        names, suffixes = [], []
        for node in header.upper().removesuffix("?").split(":"):
            typed = _TYPED.fullmatch(node)
            if typed is None:
                raise LookupError(header)
            names.append(typed[1])
            suffixes.append(typed[2])
        found = self._entries.get((*names, "?") if query else tuple(names))
        if found is None:
            raise LookupError(header)
        entry, numbered = found
        if any(suffix and not takes for suffix, takes in zip(suffixes, numbered, strict=True)):
            raise BadSuffix(header)
        return Found(entry, tuple(int(s or 1) for s, takes in zip(suffixes, numbered, strict=True) if takes))


def _spellings(header: str) -> Iterator[tuple[tuple[str, bool], ...]]:
    """Every way of writing it: (node in capitals, whether it takes a number), ..."""
    choices: list[list[tuple[str, bool] | None]] = []
    for optional, node, numbered in _NODE.findall(header):
        short = "".join(c for c in node if not c.islower())
        forms: list[tuple[str, bool] | None] = [(form, bool(numbered)) for form in {node.upper(), short}]
        choices.append([*forms, None] if optional else forms)
    for choice in itertools.product(*choices):
        yield tuple(part for part in choice if part is not None)
