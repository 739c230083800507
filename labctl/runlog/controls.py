"""Controls in a run file: what else makes such pictures, with its figures and a few of them."""

from __future__ import annotations

from collections.abc import Sequence

import h5py
import numpy as np

from labctl.runlog.nexus import add_array, add_group, add_settings, decoded, read_settings
from labctl.runlog.records import ControlRecord


def write_controls(entry: h5py.Group, controls: Sequence[ControlRecord]) -> None:
    """Create the group `controls` of a panel, one group for each in their order; none without any."""
    if not controls:
        return
    group = add_group(entry, "controls", "NXcollection")
    for place, control in enumerate(controls):
        one = add_group(group, control.name, "NXcollection")
        one["place"] = np.int32(place)
        one["title"] = control.what
        pictures = np.asarray(control.pictures, np.uint8)
        add_array(one, "pictures", pictures, pictures.shape)
        add_settings(one, "settings", control.figures)


def read_controls(entry: h5py.Group) -> tuple[ControlRecord, ...]:
    """The controls of a panel in their order; empty where it has none."""
    group = entry.get("controls", {})
    return tuple(
        ControlRecord(name, decoded(one["title"][()]), read_settings(one), np.asarray(one["pictures"][...]))
        for name, one in sorted(group.items(), key=lambda item: int(item[1]["place"][()]))
    )
