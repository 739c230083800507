"""What a rig offers about its twins besides running them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from labctl.rig.table import PROFILE_IMPORT, load


def import_profile(source: Path, out: Path) -> Any:
    """A published machine's parameter file as a profile `out` and a rig file beside it.

    Returns their paths (`profile`, `rig`), `n_channels`, `parameters` (numbers read) and `dead_channels`.
    Raises DataError naming file and key for a file that is no such machine's, ConfigError for `out`.
    """
    return load(PROFILE_IMPORT)(source, out)
