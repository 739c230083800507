"""slmsuite's objects by address: a class that is constructed, or a name in a script that is run.

A name may be an attribute of another, as the camera of a FourierSLM: `set_up.py#fs.cam`.

slmsuite 0.5.0 was tried: https://github.com/slmsuite/slmsuite
"""

from __future__ import annotations

import runpy
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import reduce
from importlib import import_module
from pathlib import Path
from typing import Any

from labctl.devices import ConfigError, DeviceUnavailable
from labctl_drivers.genicam.features import Refused
from labctl_drivers.link import WireLost

EXTRA = "slmsuite is not installed; pip install 'analog-labctl[slmsuite]'"


@dataclass
class _SetUp:
    """A script that was run: its names, the ids of objects that devices hold, and of those that are closed
    for good.
    """

    names: dict[str, Any]
    held: set[int] = field(default_factory=set)
    spent: set[int] = field(default_factory=set)


_set_ups: dict[Path, _SetUp] = {}
_guard = threading.Lock()


class Found:
    """An object of slmsuite, and how to let go of it."""

    def __init__(self, thing: Any, script: Path | None = None) -> None:
        self.thing, self._script = thing, script

    def put_back(self) -> None:
        """Not what was wanted: a script's object stays as it is, one made here is closed where it can be."""
        if self._script is not None:
            with _guard:
                _set_ups[self._script].held.discard(id(self.thing))
        elif hasattr(self.thing, "close"):
            self.thing.close()

    def close(self) -> None:
        """Close the object. A script's other objects live on; it is run again once none is held."""
        try:
            self.thing.close()
        finally:
            if self._script is not None:
                with _guard:
                    set_up = _set_ups[self._script]
                    set_up.held.discard(id(self.thing))
                    set_up.spent.add(id(self.thing))
                    if not set_up.held:
                        del _set_ups[self._script]


def checked(device: str, address: str, arguments: Mapping[str, Any]) -> None:
    """ConfigError where an address is neither module:Class nor FILE.py#name, or a script has arguments."""
    separator = "#" if "#" in address else ":"
    place, _, name = address.rpartition(separator)
    parts = name.split(".") if separator == "#" else [name]
    named = all(part.isidentifier() for part in parts)
    if not place or not named or (separator == "#" and not place.endswith(".py")):
        raise ConfigError(f"device {device!r}: address is {address!r}; allowed: module:Class or FILE.py#name")
    if separator == "#" and arguments:
        raise ConfigError(f"device {device!r}: settings: arguments; allowed: none, the script has its own")


def find(device: str, address: str, arguments: Mapping[str, Any], needs: tuple[str, ...]) -> Found:
    """The object at an address; a script is run once for all that is taken from it.

    needs: attributes that the driver uses. Raises DeviceUnavailable without slmsuite,
    WireLost where there is no such thing or it cannot be made.
    """
    try:
        found = _of_script(address) if "#" in address else _of_class(address, arguments)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "slmsuite":
            raise DeviceUnavailable(EXTRA, device=device, operation="open") from error
        raise WireLost(f"{address}: {words(error)}") from error
    lacking = [name for name in needs if not hasattr(found.thing, name)]
    if lacking:
        found.put_back()
        raise WireLost(f"{address} is a {type(found.thing).__name__} without {', '.join(lacking)}")
    return found


def version() -> str:
    """slmsuite's version; "unknown" where the class is not of that package."""
    try:
        return str(import_module("slmsuite").__version__)
    except ImportError:
        return "unknown"


def words(error: Exception) -> str:
    """An error in one line, with its type: vendors' errors often have no text."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}".rstrip(": ")


@contextmanager
def refusals(what: str) -> Iterator[None]:
    """Whatever a vendor's library raises under slmsuite, as Refused: slmsuite has no errors of its own."""
    try:
        yield
    except Exception as error:
        raise Refused(f"{what}: {words(error)}") from error


def _of_class(address: str, arguments: Mapping[str, Any]) -> Found:
    place, _, name = address.rpartition(":")
    kind = getattr(import_module(place), name, None)
    if kind is None:
        raise WireLost(f"module {place} has no {name}")
    try:
        return Found(kind(**arguments))
    except Exception as error:
        raise WireLost(f"{address} cannot be made: {words(error)}") from error


def _of_script(address: str) -> Found:
    place, _, name = address.rpartition("#")
    script = Path(place).resolve()
    with _guard:
        # kept though nothing may be taken from it: its objects hold their hardware
        set_up = _set_ups[script] = _set_ups.get(script) or _run(script)
        first, *rest = name.split(".")
        try:
            thing = reduce(getattr, rest, set_up.names[first])
        except (KeyError, AttributeError):
            raise WireLost(f"{place} makes no {name}") from None
        if id(thing) in set_up.held:
            raise WireLost(f"{address} is held by another device")
        if id(thing) in set_up.spent:
            raise WireLost(f"{address} is closed, its set-up is not: close the other devices of {place}, too")
        set_up.held.add(id(thing))
    return Found(thing, script)


def _run(script: Path) -> _SetUp:
    """Its names, as if it were imported: `if __name__ == "__main__":` does not hold."""
    if not script.is_file():
        raise WireLost(f"there is no script {script}")
    sys.path.insert(0, str(script.parent))  # for modules beside it, as `python FILE.py` finds them
    try:
        return _SetUp(runpy.run_path(str(script), run_name=script.stem))
    except ModuleNotFoundError:
        raise
    except Exception as error:
        raise WireLost(f"{script} failed: {words(error)}") from error
    finally:
        with suppress(ValueError):
            sys.path.remove(str(script.parent))
