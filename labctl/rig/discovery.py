"""What is attached to this machine, whatever it takes to ask."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from labctl.rig.table import DISCOVERIES, load


class Attached(Protocol):
    """A thing that was found: its address for a rig file, and what it says of itself."""

    @property
    def address(self) -> str:
        """As a rig file has it."""

    @property
    def about(self) -> str:
        """As it, or its cable, says."""


def discover() -> Iterator[tuple[str, list[Attached], str]]:
    """A heading, what was found under it, and what is in the way ("" for nothing), kind by kind."""
    for heading, target, extra in DISCOVERIES:
        found: list[Attached] = []
        try:
            found.extend(load(target)())
        except ImportError:
            yield heading, found, f"not asked: pip install 'analog-labctl[{extra}]'"
            continue
        except Exception as error:  # noqa: BLE001 - whatever a library says, the other kinds are asked
            yield heading, found, f"could not be asked: {error}"
            continue
        yield heading, found, ""
