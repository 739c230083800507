"""What is attached to this machine, whatever it takes to ask."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from labctl_drivers.discovery import NotAsked

from labctl.rig.table import DISCOVERIES, load


class Attached(Protocol):
    """A thing that was found: its address for a rig file, what the system says of it, what it answered."""

    @property
    def address(self) -> str:
        """As a rig file has it."""

    @property
    def about(self) -> str:
        """As the system, or its cable, says."""

    @property
    def answer(self) -> str:
        """Its own words; "" where it was not asked."""


def discover(ask: bool = True) -> Iterator[tuple[str, list[Attached], str]]:
    """A heading, what was found under it, and what is in the way ("" for nothing), kind by kind.

    ask: whether anything may be sent to find and identify things.
    """
    for heading, target, extra in DISCOVERIES:
        found: list[Attached] = []
        try:
            for thing in load(target)(ask):
                found.append(thing)
        except NotAsked as error:
            yield heading, found, str(error)
            continue
        except ImportError:
            yield heading, found, f"not asked: pip install 'analog-labctl[{extra}]'"
            continue
        except Exception as error:  # noqa: BLE001 - whatever a library says, the other kinds are asked
            yield heading, found, f"could not be asked: {error}"
            continue
        yield heading, found, ""
