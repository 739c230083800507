"""Turns what a killed run left behind into an ordinary run file."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import h5py
import numpy as np

from labctl.devices import RunLogError
from labctl.runlog.columns import clip_text
from labctl.runlog.density import fill_density
from labctl.runlog.panel_tree import STEP_COLUMNS, in_own_units
from labctl.runlog.reader import RunReader
from labctl.runlog.tree import PANELS, REASON_BYTES, STATUS_BYTES
from labctl.runlog.writable import publish, reason_of
from labctl.runlog.writer import PART, final_path

_WORKING = ".recovering"


def recover(path: str | os.PathLike[str]) -> Path:
    """Copy a killed run's .part to NAME.nxs, up to its last whole step, and remove the .part.

    The copy opens in any HDF5 viewer without `h5clear`, has exit_status "killed", and keeps the last iterate
    as unfinished samples. RunLogError where the run is still going or is whole already.
    """
    with RunReader(path) as run:
        source, status = run.path, run.status
        if not run.partial:
            raise RunLogError(f"{source}: is whole already ({status}); there is nothing to recover")
        if status == "running":
            raise RunLogError(f"{source}: its process is still writing; stop that run first")
    final = final_path(source.with_name(source.name.removesuffix(PART)))
    if final.exists():
        raise RunLogError(f"{final}: exists already; a run never overwrites a file")
    working = final.with_name(final.name + _WORKING)
    try:
        with (
            h5py.File(source, "r", swmr=True) as old,
            h5py.File(working, "w", libver=("v110", "v110")) as new,
        ):
            for name, value in old.attrs.items():
                new.attrs[name] = value
            old.copy("entry", new)
            _tidy(new["entry"], status)
        publish(working, final)
    except (OSError, RuntimeError) as error:
        with suppress(OSError):
            working.unlink(missing_ok=True)
        raise RunLogError(f"{source}: cannot be recovered: {reason_of(error)}") from error
    source.unlink()
    return final


def _tidy(entry: h5py.Group, status: str) -> None:
    """Cut every column after its last whole step, and say how the run ended."""
    panels = [entry] if "steps" in entry else []
    if PANELS in entry:
        panels += [entry[PANELS][name] for name in entry[PANELS].attrs["order"]]
    for panel in panels:
        done = int(panel["steps/done"][()])
        for spec in STEP_COLUMNS:
            if spec.path in panel and panel[spec.path].shape[0] > done:
                panel[spec.path].resize(done, axis=0)
        coercions = panel["coercions"]
        kept = int(np.count_nonzero(coercions["step"][...] <= done))
        for name in ("step", "text"):
            coercions[name].resize(kept, axis=0)
        if done and not panel["samples/finished"][()]:
            panel["samples/x"][...] = in_own_units(panel["steps"], panel["steps/x"][done - 1])
            if "labels" in panel["steps"]:
                panel["samples/labels"][...] = panel["steps/labels"][...]
            fill_density(panel)
    if status == "killed":
        entry["exit_status"][()] = clip_text("killed", STATUS_BYTES)
        entry["exit_reason"][()] = clip_text(
            "the process ended without closing the file; recovered afterwards", REASON_BYTES
        )
