"""What one invocation of the command line knows about itself, for whoever has to report how it ended."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass
class Session:
    """as_json: results and errors are one JSON document on stdout. out: the run folder, once known.

    file: the run file, once it is open. stopped_by: the signal that ended the command.
    """

    debug: bool = False
    as_json: bool = False
    out: Path | None = None
    file: Path | None = None
    stopped_by: int | None = None


_current = Session()


def session() -> Session:
    """The running invocation."""
    return _current


def new_session() -> Session:
    """Forget the last invocation (tests run several in one process)."""
    global _current
    _current = Session()
    return _current
