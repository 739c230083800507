"""How a command ends: one clear line, an exit code, and never a swallowed bug."""

from __future__ import annotations

import contextlib
import signal
import tempfile
import traceback
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.text import Text

from labctl.cli.console import err, print_json
from labctl.cli.session import Session

OK, UNEXPECTED = 0, 70  # 70: EX_SOFTWARE of sysexits.h

EXIT_CODES = {
    OK: "done",
    1: "another error of labctl",
    2: "a name, value or file that you can correct",
    3: "a device is missing, disappeared or faulty",
    4: "a run file cannot be written or read",
    5: "a calibration is missing",
    UNEXPECTED: "a bug in labctl, its traceback kept in a file",
    129: "the terminal was closed",
    130: "stopped by Ctrl-C",
    143: "stopped by SIGTERM",
}


def end_with(error: BaseException, session: Session) -> int:
    """Report an error as the session wants it; returns the exit code."""
    from labctl.devices import Aborted, DriftStop, LabctlError  # numpy comes with it: not for --help

    usage = getattr(error, "format_message", None)  # typer's complaint about the command line
    stopped = isinstance(error, Aborted | KeyboardInterrupt)
    notes = list(getattr(error, "__notes__", []))
    if stopped and not isinstance(error, DriftStop):
        code = 128 + (session.stopped_by or signal.SIGINT)
        message = str(error).removeprefix("stopped; ") or _stopped_where(session)
    elif isinstance(error, LabctlError):
        code, message = error.exit_code, str(error)
    elif usage is not None:
        code, message = int(getattr(error, "exit_code", 2)), usage()
    else:
        code, message = UNEXPECTED, f"{type(error).__name__}: {error}"
        notes.append("this is a bug in labctl, not a mistake of yours")
        if not session.debug and (kept := _keep_traceback(error, session)):
            notes.append(f"the traceback is in {kept}")
    if session.debug:
        err().print("".join(traceback.format_exception(error)), markup=False, end="")
    if session.as_json:
        print_json(_document(error, stopped, code, message, notes, session))
    else:
        word, style = ("stopped", "bold yellow") if stopped else ("error", "bold red")
        err().print(Text.assemble((f"{word}: ", style), " ".join(message.split())), soft_wrap=True)
        for note in notes:
            err().print(Text(f"  {note}", style="dim"), soft_wrap=True)
    return code


def _stopped_where(session: Session) -> str:
    if session.file is not None and session.file.exists():
        return f"the run is complete: {session.file}"
    return "no run was going on"


def _document(
    error: BaseException, stopped: bool, code: int, message: str, notes: list[str], session: Session
) -> dict[str, Any]:
    found: dict[str, Any] = {"type": type(error).__name__, "message": message, "exit_code": code}
    if notes:
        found["notes"] = notes
    return {
        "status": "aborted" if stopped else "failed",
        "exit_code": code,
        "file": None if session.file is None else _where(session.file),
        "error": found,
    }


def _where(file: Path) -> str:
    """The run file under the name it has now: .part where it could not be finished."""
    part = file.with_name(file.name + ".part")
    return str(part if part.exists() and not file.exists() else file)


def _keep_traceback(error: BaseException, session: Session) -> Path | None:
    text = "".join(traceback.format_exception(error))
    name = f"labctl-bug-{datetime.now():%Y%m%d-%H%M%S}.log"
    for folder in (session.out, Path(tempfile.gettempdir())):
        if folder is not None and folder.is_dir():
            with contextlib.suppress(OSError):
                (folder / name).write_text(text, encoding="utf-8")
                return folder / name
    return None
